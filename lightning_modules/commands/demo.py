"""``trellis demo``: a graph network beside the same network without the graph, offline."""

import argparse
from pathlib import Path
from typing import Any

from trellis.lightning_modules.commands.ledger import configs_dir
from trellis.lightning_modules.commands.run import TrellisCLI, quieten

CONFIGS = {"GCN": "gcn_digits.yaml", "MLP without the graph": "mlp_digits.yaml"}


def main(words: list[str]) -> None:
    """Train both on digits with ten labels a class; print accuracies, keep pictures."""
    argparse.ArgumentParser(prog="trellis demo", description=__doc__).parse_args(words[1:])
    quieten()
    accuracies, folders = {}, {}
    for name, config in CONFIGS.items():
        accuracies[name], folders[name] = _trained(config)
    print("\ntest accuracy on scikit-learn's digits, 10 labels a class:")
    for name, accuracy in accuracies.items():
        print(f"  {name:<22} {accuracy:.3f}   {folders[name]}")
    print("pictures:")
    for path in sorted(folders["GCN"].glob("pictures/**/*.png")):
        print(f"  {path}")


def _trained(config: str) -> tuple[float, Path]:
    path = configs_dir() / "graph" / config
    words = ["--config", str(path), f"--trainer.run_name={path.stem}"]
    cli: Any = TrellisCLI(words, run=False)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    (result,) = cli.trainer.test(
        cli.model, datamodule=cli.datamodule, ckpt_path="best", verbose=False
    )
    return result["test/accuracy"], cli.trainer.run_dir

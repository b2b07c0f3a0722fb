"""``trellis fit`` on the workers of a Ray cluster; a worker that dies is replaced (docs/ray.md).

python ray_train.py --workers 2 --folder runs/ray -- --config graph/mlp_digits
"""

import argparse
from pathlib import Path
from typing import Any

import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def train(options: dict[str, Any]) -> None:
    """What each worker does, again from the newest ``last.ckpt`` after a failure."""
    from trellis.lightning_modules.commands.run import TrellisCLI, quieten

    quieten()
    files = Path(options["folder"]).rglob("last.ckpt")
    last = max(files, key=lambda path: path.stat().st_mtime, default=None)
    words = [
        *options["words"],
        f"--trainer.default_root_dir={options['folder']}",
        "--trainer.devices=1",
        '--trainer.strategy={"class_path": "ray.train.lightning.RayDDPStrategy"}',
        '--trainer.plugins=[{"class_path": "ray.train.lightning.RayLightningEnvironment"}]',
    ]
    cli = TrellisCLI(words, run=False)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=last)
    # Ray waits for all workers at each report, about a second: so there is one.
    ray.train.report({name: float(value) for name, value in cli.trainer.callback_metrics.items()})


def main() -> None:
    """Start the workers, and wait for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpu", action="store_true", help="one for each worker")
    parser.add_argument("--folder", default="runs/ray", help="on a disk that all machines share")
    parser.add_argument("--failures", type=int, default=3, help="of workers, then the run ends")
    parser.add_argument("words", nargs="*", help="of trellis fit")
    given = parser.parse_args()
    folder = Path(given.folder).resolve()
    result = TorchTrainer(
        train,
        train_loop_config={"words": given.words, "folder": str(folder)},
        scaling_config=ScalingConfig(num_workers=given.workers, use_gpu=given.gpu),
        run_config=RunConfig(
            name="ray",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=given.failures),
        ),
    ).fit()
    print(result.metrics)


if __name__ == "__main__":
    main()

"""A short run of every graph config: its weights as a digest, and its metrics.

Usage: python runs_of_graphs.py FOLDER {forwards,backwards}
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "datamodules" / "image"))
sys.path.insert(0, str(Path(__file__).parent))
from config_cases import CONFIGS, parsed

SHORT = [
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=3",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.enable_checkpointing=false",
    "--trainer.callbacks=null",
    "--trainer.logger=false",
]


OTHER_SEED = "gcn_cora.yaml"


def of_config(path: Path, folder: Path, *further: str) -> dict[str, Any]:
    """Metrics by name, and the digest of all weights."""
    cli = parsed(path, folder, *SHORT, *further)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    metrics = {name: float(value) for name, value in cli.trainer.callback_metrics.items()}
    (tested,) = cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
    return {"metrics": metrics | dict(tested), "weights": digest(cli.model)}


def digest(model: Any) -> str:
    """Of the bits of all weights and buffers."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def main(folder: Path) -> None:
    graphs = [path for path in CONFIGS if path.parent.name == "graph"]
    # What a run draws may not depend on the runs before it.
    if sys.argv[2] == "backwards":
        graphs.reverse()
    runs = {path.name: of_config(path, folder / path.stem) for path in graphs}
    (path,) = (path for path in graphs if path.name == OTHER_SEED)
    runs["another seed"] = of_config(path, folder / "other", "--seed_everything=1")
    (folder / "found.json").write_text(json.dumps(runs))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

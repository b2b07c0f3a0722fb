"""How the trainer of a run was set up, kept in its checkpoints so that resuming goes on alike.

It is signed: of a run that another account wrote only plain numbers and words count, for a
stranger's could name any callback, logger or folder.
"""

import re
from typing import Any

import lightning as L

from trellis.lightning_modules.engine.vouching import is_signed, sign

KEY = "trellis_run"  # of a checkpoint
# Options of the trainer that are plain and touch nothing but the run itself.
HARMLESS = {
    "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches",
    "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches",
    "val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps", "log_every_n_steps",
    "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "deterministic",
    "benchmark", "precision", "use_distributed_sampler", "detect_anomaly",
    "reload_dataloaders_every_n_epochs",
}  # fmt: skip


def saved_run(trainer: L.Trainer) -> dict[str, Any] | None:
    """What a checkpoint keeps of its run under ``KEY``; ``None`` where nothing is known of it."""
    config = getattr(trainer, "cli_config", None)
    if config is None:
        return None
    run = {name: config[name] for name in ("seed_everything", "trainer") if name in config}
    return {"config": run, "signed": sign(run)}


def resumed_run(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The sections ``seed_everything`` and ``trainer`` to go on with, as far as they are safe.

    Args:
        checkpoint: as read from its file.
    """
    saved: Any = checkpoint.get(KEY)
    run: Any = saved.get("config") if isinstance(saved, dict) else None
    if not isinstance(run, dict):
        return {}
    if is_signed(run, saved.get("signed")):
        return run
    trainer: Any = run.get("trainer")
    options = trainer.items() if isinstance(trainer, dict) else ()
    plain = {name: value for name, value in options if name in HARMLESS and _plain(value)}
    seed = run.get("seed_everything")
    seeds = {"seed_everything": seed} if isinstance(seed, (bool, int)) else {}
    return {**seeds, "trainer": plain}


def _plain(value: Any) -> bool:
    word = isinstance(value, str) and re.fullmatch(r"[\w:-]+", value) is not None
    return word or value is None or type(value) in (bool, int, float)

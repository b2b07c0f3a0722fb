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


def saved_run(trainer: L.Trainer) -> dict[str, Any]:
    """What a checkpoint keeps of its run under ``KEY``.

    Of one that no command started these are the plain options that ``trellis.Trainer`` was given.
    """
    config = getattr(trainer, "cli_config", None)
    known = config or {"trainer": getattr(trainer, "plain_options", {})}
    run = {name: known[name] for name in ("seed_everything", "trainer") if name in known}
    return {"config": run, "signed": sign(run), "whole": config is not None}


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
    plain = plain_options(trainer) if isinstance(trainer, dict) else {}
    seed = run.get("seed_everything")
    seeds = {"seed_everything": seed} if isinstance(seed, (bool, int)) else {}
    return {**seeds, "trainer": plain}


def plain_options(options: dict[str, Any]) -> dict[str, Any]:
    """Those options of a trainer that are plain and touch nothing but the run itself."""
    return {n: value for n, value in options.items() if n in HARMLESS and _plain(value)}


def not_stored(checkpoint: dict[str, Any]) -> str:
    """What a checkpoint lacks of its run, in a sentence; empty if a command has written it.

    Args:
        checkpoint: as read from its file.
    """
    saved: Any = checkpoint.get(KEY)
    if isinstance(saved, dict) and saved.get("whole", True):
        return ""
    origin = "an earlier version wrote it" if saved is None else "its run was started from Python"
    known = plain_options(resumed_run(checkpoint).get("trainer", {}))
    options = " and ".join(f"{name}={value}" for name, value in known.items())
    stored = f"only {options} are" if options else "nothing is"
    return (
        f"{origin}; of its trainer {stored} stored: type its callbacks and all else that is to "
        f"go on"
    )


def _plain(value: Any) -> bool:
    word = isinstance(value, str) and re.fullmatch(r"[\w:-]+", value) is not None
    return word or value is None or type(value) in (bool, int, float)

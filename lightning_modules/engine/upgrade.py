"""Checkpoints of earlier layouts in the names and forms of today's.

Format 1: names before families became folders.
"""

from dataclasses import is_dataclass
from typing import Any

from trellis.hyperparameters import importable_name, to_plain
from trellis.index import RENAMED, current_path
from trellis.lightning_modules.engine.vouching import signature

FORMAT = 2  # of what a checkpoint holds beside Lightning's own keys


def description(module: Any, datamodule: Any) -> dict[str, Any]:
    """What a checkpoint says of itself under ``trellis``.

    Args:
        module: of the run, an objective or any other.
        datamodule: of the run; ``None`` if loaders were given.
    """
    spec = getattr(module, "spec", None)
    return {
        "format": FORMAT,
        "objective": importable_name(type(module)),
        "spec": to_plain(spec) if is_dataclass(spec) else None,
        "data": None if datamodule is None else importable_name(type(datamodule)),
        "unsaved": list(getattr(module, "unsaved", ())),
        "files": "" if datamodule is None else signature(type(datamodule), datamodule.hparams),
    }


def upgrade(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Bring a checkpoint that trellis wrote to ``FORMAT``, in place; others stay as they are.

    Args:
        checkpoint: as read from its file.
    """
    about = checkpoint.get("trellis")
    if not isinstance(about, dict) or about.get("format") != 1:
        return checkpoint
    for entry in ("hyper_parameters", "datamodule_hyper_parameters", "trellis"):
        if entry in checkpoint:
            checkpoint[entry] = _renamed(checkpoint[entry])
    for states in (checkpoint, checkpoint.get("callbacks", {})):
        for old in [key for key in states if key in RENAMED]:
            states[RENAMED[old]] = states.pop(old)
    if str(checkpoint["trellis"].get("objective", "")).endswith(".Regression"):
        # A spec did not say yet whether its targets are labels or real numbers.
        for entry in (checkpoint["trellis"], checkpoint.get("hyper_parameters", {})):
            if isinstance(entry.get("spec"), dict):
                entry["spec"]["targets"] = "real"
    checkpoint["trellis"]["format"] = FORMAT
    return checkpoint


def _renamed(value: Any) -> Any:
    """``value`` with today's dotted path for each of ours in it."""
    if isinstance(value, dict):
        return type(value)({key: _renamed(item) for key, item in value.items()})
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if isinstance(value, str) and value.startswith("trellis."):
        return current_path(value) or value
    return value

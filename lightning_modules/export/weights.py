"""An objective as ``config.json`` and ``model.safetensors``: names and numbers, no code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trellis import __version__
from trellis.lightning_modules.engine.checkpoint import rebuild
from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.engine.upgrade import description

WEIGHTS, CONFIG = "model.safetensors", "config.json"
TIED = "tied"  # in the metadata: name of a tensor that is left out -> the one that it shares


def save_weights(module: nn.Module, folder: Path) -> None:
    """Write the weights, each tensor once: safetensors refuses two names of one.

    Args:
        module: an objective whose networks are built, or a network.
        folder: to write ``model.safetensors`` to.
    Raises:
        ImportError: the extra ``export`` is missing.
    """
    from safetensors.torch import save_file

    kept, tied = untied(module.state_dict())
    metadata = {"format": "pt", TIED: json.dumps(tied)}
    save_file(kept, folder / WEIGHTS, metadata=metadata)
    # Its files are for their owner alone; these are as readable as their folder.
    (folder / WEIGHTS).chmod(folder.stat().st_mode & 0o666)


def untied(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that share no memory, and by which of them the others are given.

    Args:
        state: of a module; tensors that overlap without being equal are copied.

    >>> weight = torch.ones(2)
    >>> untied({"a": weight, "b": weight})[1]
    {'b': 'a'}
    """
    kept: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    first: dict[Any, str] = {}
    for name, value in state.items():
        place = (value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() and place in first:
            tied[name] = first[place]
        else:
            first[place] = name
            kept[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return kept, tied


def save_config(objective: Objective, folder: Path, exported: Mapping[str, Any]) -> None:
    """Write ``config.json``: the objective as the command line would name it.

    Args:
        objective: to be described.
        folder: to write to.
        exported: further entries.
    Raises:
        ValueError: an argument of the objective has no plain form.
    """
    about = {**description(objective, None), "spec": None}  # which is among the arguments
    if unsaved := about.get("unsaved"):
        raise ValueError(
            f"{type(objective).__name__}: {unsaved[0]} has no plain form, so that nobody could "
            f"build it again; give a class or a functools.partial of one"
        )
    config = {
        "library_name": "trellis",
        "trellis_version": __version__,
        "trellis": about,
        "hyper_parameters": dict(objective.hparams),
        **exported,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def load_folder(folder: str | Path, **overrides: Any) -> Objective:
    """The objective in a folder that was exported, in evaluation mode on the CPU.

    What ``config.json`` names is built as from a checkpoint: see ``trellis.load``.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.
        overrides: constructor arguments that replace the saved ones.
    Raises:
        FileNotFoundError: one of the files is not there.
        OSError: a file is damaged.
        ValueError: see ``trellis.load``.
    """
    path = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise FileNotFoundError(
                f"there is no {name} in {folder}: give a folder that trellis export wrote"
            )
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise OSError(f"{path / CONFIG} is damaged: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("trellis"), dict):
        raise ValueError(f"{path / CONFIG} was not written by trellis: it names no objective")
    checkpoint = {
        "trellis": config["trellis"],
        "hyper_parameters": config.get("hyper_parameters"),
        "state_dict": read_weights(path / WEIGHTS),
    }
    return rebuild(checkpoint, str(folder), **overrides)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict that ``save_weights`` wrote.

    Raises:
        ImportError: the extra ``export`` is missing.
        OSError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            tied = json.loads((file.metadata() or {}).get(TIED, "{}"))
    except (SafetensorError, ValueError) as error:
        raise OSError(f"{path} is damaged: {error}") from None
    if unknown := [name for name in tied.values() if name not in weights]:
        raise OSError(f"{path} is damaged: it lacks {unknown[0]}")
    return weights | {name: weights[kept] for name, kept in tied.items()}

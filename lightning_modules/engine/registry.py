"""The classes that a checkpoint may name: everything else is refused before it is imported.

A checkpoint may come from a stranger. What it names is looked up here, never imported on its word:
trellis's public classes, torch's optimisers, schedulers, layers and distributions, and a few
networks of torch_geometric, and gymnasium's wrappers. Classes of other packages are the user's to
trust, by ``--import their_package`` or ``TRELLIS_TRUST=their_package``. Functions are never taken,
nor are attributes of classes.
"""

import inspect
from collections.abc import Iterator
from functools import cache
from importlib import import_module

import torch
from lightning.pytorch.cli import ReduceLROnPlateau

from trellis.index import current_path
from trellis.own_code import how_to_trust, make_importable, trusted_packages

# Rooms whose public classes may be built from a stranger's arguments.
FAMILIES = (
    "trellis.networks.", "trellis.graph.", "trellis.sequence.", "trellis.generative.",
    "trellis.rl.", "trellis.nn.", "trellis.optim.", "trellis.datamodules.",
    "trellis.lightning_modules.",
)  # fmt: skip
# Wrappers of environments that write no files and call no functions of others.
WRAPPERS = (
    "AddWhiteNoise", "AtariPreprocessing", "ClipAction", "ClipReward", "DelayObservation",
    "DiscretizeAction", "DiscretizeObservation", "FilterObservation", "FlattenObservation",
    "FrameStackObservation", "GrayscaleObservation", "MaxAndSkipObservation",
    "NormalizeObservation", "NormalizeReward", "ObstructView", "RepeatAction", "RescaleAction",
    "RescaleObservation", "ReshapeObservation", "ResizeObservation", "StickyAction",
    "TimeAwareObservation", "TimeLimit",
)  # fmt: skip
# Networks of nodes that are built from sizes alone; others there download and unpickle files.
PYG_NETWORKS = ("EdgeCNN", "GAT", "GCN", "GIN", "GraphSAGE", "MLP", "PNA")


def registered_class(name: str, source: str = "the checkpoint") -> type:
    """The class of this name, if it is one that a checkpoint may name.

    Args:
        name: dotted path, of today's layout or an earlier one.
        source: what errors call the origin of the name.
    Raises:
        ValueError: another package's, a function, or nothing of that name.
    """
    if not isinstance(name, str) or "." not in name:
        raise refused(source, f"it names {name!r}, which is no class")
    package = name.partition(".")[0]
    if package == "trellis":
        return _ours(name, source)
    if package in ("torch", "lightning", "torch_geometric", "gymnasium"):
        found = _libraries().get(name) or _pyg(name) or _wrapper(name)
        if found is None:
            reason = f"is not among the classes of {package} that a checkpoint may name"
            raise refused(source, f"{name} {reason}")
        return found
    if package not in trusted_packages():
        fix = how_to_trust(package)
        raise refused(source, f"it names {name}, from a package that is not trusted; {fix}")
    return _trusted(name, package, source)


def refused(source: str, reason: str) -> ValueError:
    """The error about a checkpoint, or other ``source``, that may not be loaded for a reason."""
    return ValueError(f"{source} is refused: {reason}")


def _ours(name: str, source: str) -> type:
    path = current_path(name) or ""
    found = None
    if path.startswith(FAMILIES):
        module, _, attribute = path.rpartition(".")
        found = getattr(import_module(module), attribute)
    if not isinstance(found, type):
        raise refused(source, f"{name} is no class that a checkpoint may name; see trellis list")
    return found


def _trusted(name: str, package: str, source: str) -> type:
    """A class of the user's own, defined in the package that is trusted."""
    module, _, attribute = name.rpartition(".")
    make_importable(package)
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError):
        raise refused(source, f"{name} is not installed here") from None
    home = getattr(found, "__module__", "") or ""
    if not isinstance(found, type) or home.partition(".")[0] != package:
        fix = "a function that was given as a factory is given again on loading"
        raise refused(source, f"{name} is no class of {package}; {fix}")
    return found


@cache
def _libraries() -> dict[str, type]:
    """Classes of torch and Lightning by each dotted path they are known under."""
    found: dict[str, type] = {
        "lightning.pytorch.cli.ReduceLROnPlateau": ReduceLROnPlateau,
    }
    for space, base in (
        ("torch.optim", torch.optim.Optimizer),
        ("torch.optim.lr_scheduler", torch.optim.lr_scheduler.LRScheduler),
        ("torch.nn", torch.nn.Module),
        ("torch.distributions", torch.distributions.Distribution),
    ):
        for name, cls in _classes(space, base):
            found[f"{space}.{name}"] = found[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return found


def _classes(space: str, base: type) -> Iterator[tuple[str, type]]:
    for name, value in vars(import_module(space)).items():
        public = not name.startswith("_") and inspect.isclass(value)
        if public and issubclass(value, base) and value.__module__.startswith(space):
            yield name, value


def _pyg(name: str) -> type | None:
    short = name.rpartition(".")[2]
    if not name.startswith("torch_geometric.nn.") or short not in PYG_NETWORKS:
        return None
    found: type = getattr(import_module("torch_geometric.nn"), short)
    return (
        found if name in (f"torch_geometric.nn.{short}", f"{found.__module__}.{short}") else None
    )


def _wrapper(name: str) -> type | None:
    short = name.rpartition(".")[2]
    if not name.startswith("gymnasium.wrappers.") or short not in WRAPPERS:
        return None
    found: type | None = getattr(import_module("gymnasium.wrappers"), short, None)
    known = {f"gymnasium.wrappers.{short}", f"{found.__module__}.{short}"} if found else ()
    return found if name in known else None

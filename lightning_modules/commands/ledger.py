"""The ledger: published results, the configs that reproduce them, and what was measured."""

import hashlib
import json
import math
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

import trellis
from trellis import __version__
from trellis.files import atomic_write_text

Protocol = Literal["test", "curve", "folds", "held_out_folds"]
Number = float | list[float]
BOUNDS = ("within", "at_least", "at_most")
# Folder of configs that say where to train, not what: they are combined with another one.
TRAINER_LAYERS = "trainer"


def configs_dir() -> Path:
    """Folder of the configs: beside this one in a checkout and in an installed package alike."""
    return Path(__file__).resolve().parents[2] / "configs"


def whole_configs() -> list[Path]:
    """Configs that describe a whole run, by path: all but the layers of the trainer."""
    found = sorted(configs_dir().glob("*/*.yaml"))
    return [path for path in found if path.parent.name != TRAINER_LAYERS]


@dataclass(frozen=True)
class Row:
    """One published result.

    Args:
        name: as typed after ``trellis reproduce``.
        config: path below ``configs/``.
        metric: key that the objective logs, or several with spaces between; then all numbers of
            the row are lists.
        published: the paper's value; a list for a curve or several metrics; ``None`` if nobody
            published one.
        source: paper and table.
        within: largest distance of our mean from ``published``.
        at_least: smallest mean that confirms the result.
        at_most: largest mean that confirms the result.
        scale: factor from the logged value to the published unit.
        seeds: runs to average.
        minutes: of all runs on two cores, for planning.
        protocol: ``test`` takes the metric of the best checkpoint, ``curve`` its value after each
            epoch, ``folds`` the epoch whose mean over ten folds is best (``data.fold`` 0 to 9),
            ``held_out_folds`` the metric of each fold's own best checkpoint.
        options: words added to the command line; ``{init_from}`` in them is the checkpoint of
            ``init_from``.
        init_from: row whose last run, which must be there, has the weights to start from.
        init_map: which of them, see ``Trainer.fit``.
    """

    name: str
    config: str
    metric: str
    source: str
    published: Number | None = None
    within: Number = math.inf
    at_least: Number = -math.inf
    at_most: Number = math.inf
    scale: float = 1.0
    seeds: int = 3
    minutes: float = 1.0
    protocol: Protocol = "test"
    folds: int = 10
    options: list[str] = field(default_factory=list)
    init_from: str | None = None
    init_map: dict[str, str] | None = None

    @property
    def metrics(self) -> list[str]:
        """The keys in ``metric``."""
        return self.metric.split()

    def confirms(self, mean: Number) -> bool:
        """Whether a measured mean is what the row says."""
        ours = _listed(mean)
        theirs = _listed(self.published) if self.published is not None else ours
        bounds = (self.bound(each, len(ours)) for each in BOUNDS)
        return len(ours) == len(theirs) and all(
            abs(a - b) <= within and least <= a <= most
            for a, b, within, least, most in zip(ours, theirs, *bounds, strict=True)
        )

    def bound(self, name: str, count: int) -> list[float]:
        """A bound for each number; one alone holds for all."""
        bound = _listed(getattr(self, name))
        return bound * count if len(bound) == 1 else bound

    def verdict(self, mean: Number) -> str:
        """Whether a measured mean confirms the published value.

        Without one there is nothing to confirm, and the mean is only compared with the bounds.
        """
        held = self.confirms(mean)
        if self.published is not None:
            return "confirmed" if held else "not confirmed"
        if self.unbounded:
            return "own measurement"
        return f"own measurement, {'within' if held else 'outside'} its own tolerance"

    @property
    def trust(self) -> Literal["published", "analytic", "own"]:
        """Where the number comes from that ours is compared with."""
        if self.published is None:
            return "own"
        return "analytic" if self.source.startswith("analytic") else "published"

    @property
    def unbounded(self) -> bool:
        """Whether the row has no bound at all: then any mean will do."""
        return not any(self._is_bound(name) for name in BOUNDS)

    def _is_bound(self, name: str) -> bool:
        return any(map(math.isfinite, _listed(getattr(self, name))))

    def expected(self) -> str:
        """The published value and the tolerance, in words."""
        parts = [f"published {shown(self.published)}"] if self.published is not None else []
        for name in BOUNDS:
            if self._is_bound(name):
                parts.append(f"{name.replace('_', ' ')} {shown(getattr(self, name), 6)}")
        return ", ".join(parts or ["no tolerance"])


def ledger(folder: Path | None = None) -> dict[str, Row]:
    """Rows of ``configs/ledger.yaml`` by name.

    Raises:
        ValueError: a row has an unknown key; names both.
    """
    path = (folder or configs_dir()) / "ledger.yaml"
    rows = {}
    # libyaml reads it ten times as fast, where it is there.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for name, entry in yaml.load(path.read_text(), Loader=loader).items():
        unknown = set(entry) - set(Row.__dataclass_fields__)
        if unknown:
            raise ValueError(f"{path}, row {name}: unknown key {', '.join(sorted(unknown))}")
        rows[name] = Row(name=name, **entry)
    return rows


def measured(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Newest recorded measurement of each row."""
    path = (folder or configs_dir()) / "measured.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def record(result: dict[str, Any], folder: Path | None = None) -> None:
    """Keep a measurement in ``configs/measured.json``, beside the ledger."""
    results = {**measured(folder), result["name"]: result}
    path = (folder or configs_dir()) / "measured.json"
    atomic_write_text(path, json.dumps(dict(sorted(results.items())), indent=1) + "\n")


def commit() -> str:
    """Commit of the code that runs, ``-dirty`` if files differ from it, else the version."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        )
        # What was measured does not change what is measured next.
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", ":/", ":!/configs/measured.json"],
            capture_output=True,
        )
    except OSError:
        return __version__
    if head.returncode:
        return __version__
    return head.stdout.strip() + ("-dirty" if changed.stdout else "")


def source_digest() -> str:
    """Of the source that runs, committed or not: other code has another digest."""
    root = Path(trellis.__file__).parent
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(files) if name.endswith(".py")):
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def summary(result: dict[str, Any]) -> str:
    """Mean, standard deviation and number of runs; one run has no standard deviation.

    >>> summary({"mean": 81.5, "std": 0.7, "values": [81, 82]})
    '81.5 ± 0.7 (2 runs)'
    """
    mean, runs = shown(result["mean"]), len(result["values"])
    return f"{mean} ± {shown(result['std'], 2)} ({runs} runs)" if runs > 1 else f"{mean} (1 run)"


def shown(value: Number | None, digits: int = 4) -> str:
    """A number, or a few, for people."""
    return " ".join(f"{v:.{digits}g}" for v in _listed(value)) if value is not None else "-"


def _listed(value: Any) -> list[float]:
    return list(value) if isinstance(value, (list, tuple)) else [value]

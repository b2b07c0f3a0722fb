"""Where a run writes: ``runs/NAME/VERSION/``, a new one each time, taken by one process only."""

import re
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only


class RunFolder:
    """A folder that appears when something is first written to it.

    ``mkdir`` decides who gets a version, so two runs started at once never share a folder.

    Args:
        root: folder of all runs.
        name: of the experiment; versions count from 0 below it.
    """

    def __init__(self, root: str | Path, name: str) -> None:
        if name in ("", ".", "..") or name != Path(name).name:
            raise ValueError(f"run_name={name!r}: give a plain folder name, such as gcn_cora")
        self.parent = Path(root) / name
        self._path: Path | None = None

    @property
    def exists(self) -> bool:
        """Whether anything has asked for the path yet."""
        return self._path is not None

    @property
    def path(self) -> Path:
        """The folder, created on first use."""
        if self._path is None:
            self.parent.mkdir(parents=True, exist_ok=True)
            taken = [int(p.name) for p in self.parent.iterdir() if re.fullmatch(r"\d+", p.name)]
            version = max(taken, default=-1) + 1
            while self._path is None:
                try:
                    (self.parent / str(version)).mkdir()
                    self._path = self.parent / str(version)
                except FileExistsError:  # another run was faster
                    version += 1
        return self._path

    def discard(self) -> None:
        """Give the version back if the run failed before anything was learned in it."""
        if self._path is None or not self._path.is_dir():
            return
        sizes = {path.name: path.stat().st_size for path in self._path.iterdir()}
        if set(sizes) - {"config.yaml", "metrics.csv"} or sizes.get("metrics.csv"):
            return
        for name in sizes:
            (self._path / name).unlink()
        self._path.rmdir()
        self._path = None
        with suppress(OSError):  # there are other versions
            self.parent.rmdir()


class RunLogger(CSVLogger):
    """``metrics.csv`` in the run folder.

    Args:
        folder: the run's folder; it is created with the first value.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(save_dir=folder.parent, name="", version="")
        self._folder = folder

    @property
    def log_dir(self) -> str:
        # Lightning asks in every process, and takes the answer of the first.
        first = getattr(rank_zero_only, "rank", 0) == 0
        return str(self._folder.path if first else self._folder.parent)

    @property
    def root_dir(self) -> str:
        return str(self._folder.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Nothing: the command line writes the whole ``config.yaml`` beside the metrics."""

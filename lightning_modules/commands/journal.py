"""What an interrupted ``trellis reproduce`` has already measured."""

import json
from pathlib import Path
from typing import Any

from trellis.files import atomic_write_text


class Journal:
    """Results of the runs that are done and the folders of those under way, kept in a file.

    A file of another ``key`` is started anew: other code, options or numbers of epochs would mix
    two measurements.

    Args:
        path: of the file; written whole or not at all.
        key: says what is being measured.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._state: dict[str, Any] = {"key": key, "done": {}, "seconds": 0.0, "folder": {}}
        if path.is_file():
            try:
                saved = json.loads(path.read_text())
            except ValueError:
                return
            if isinstance(saved, dict) and saved.get("key") == key:
                self._state = saved

    @property
    def done(self) -> dict[str, Any]:
        """Result of each run that has one."""
        return self._state["done"]

    @property
    def seconds(self) -> float:
        """Time spent on the measurement so far, interrupted runs included."""
        return self._state["seconds"]

    def begin(self, run: str, folder: Path) -> None:
        """Remember where a run writes."""
        self._state["folder"][run] = str(folder)
        self._write()

    def checkpoint(self, run: str) -> Path | None:
        """Newest checkpoint of a run that was interrupted."""
        folder = self._state["folder"].get(run)
        path = Path(folder or ".") / "checkpoints" / "last.ckpt"
        return path if folder and path.is_file() else None

    def finish(self, run: str, value: Any) -> None:
        """Keep the result of a run."""
        self.done[run] = value
        self._state["folder"].pop(run, None)
        self._write()

    def spend(self, seconds: float) -> None:
        """Add to the time spent."""
        self._state["seconds"] += seconds
        self._write()

    def close(self) -> None:
        """Forget everything: the measurement is complete."""
        self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        atomic_write_text(self.path, json.dumps(self._state))

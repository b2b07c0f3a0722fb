"""What an offline W&B run wrote, read back; W&B itself offers no reader."""

import json
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768


@dataclass
class OfflineRun:
    id: str = ""
    name: str = ""
    project: str = ""
    config: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    metrics: list = field(default_factory=list)
    artifacts: list = field(default_factory=list)

    def values(self, key):
        """Pairs of global step and value of ``key``, in the order they were logged."""
        return [(row["trainer/global_step"], row[key]) for row in self.history if key in row]


def folders(root):
    """Folders of the offline runs below ``root``, oldest first."""
    found = (path.parent for path in Path(root).rglob("*.wandb"))
    return sorted(found, key=lambda folder: folder.stat().st_mtime_ns)


def read_run(folder):
    """The run in ``folder``, which must have been finished."""
    run = OfflineRun()
    for record in _finished(folder):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.id, run.name = record.run.run_id, record.run.display_name
            run.project = record.run.project
            run.config.update(_items(record.run.config.update))
        elif kind == "config":
            run.config.update(_items(record.config.update))
        elif kind == "summary":
            run.summary.update(_items(record.summary.update))
        elif kind == "history":
            run.history.append(_items(record.history.item))
        elif kind == "metric":
            run.metrics.append(record.metric)
        elif kind == "artifact":
            run.artifacts.append(record.artifact)
    return run


def _finished(folder, seconds=30):
    """All records; W&B's service may still be writing when ``finish`` returns."""
    (file,) = Path(folder).glob("*.wandb")
    end = time.monotonic() + seconds
    while True:
        found = list(records(file.read_bytes()))
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"{file} was never finished")
        time.sleep(0.05)


def records(data):
    """Records of W&B's log: LevelDB's format after a header of seven bytes."""
    position, parts = 7, b""
    while position + 7 <= len(data):
        left = BLOCK - position % BLOCK
        if left < 7:  # too small for the head of a record
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        if kind == 0:
            return
        chunk = data[position + 7 : position + 7 + length]
        if len(chunk) < length:  # still being written
            return
        position += 7 + length
        parts = chunk if kind in (1, 2) else parts + chunk  # whole or first, middle or last
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(parts)
            yield record


def _items(items):
    """Values by key; those of a nested key in a dictionary."""
    values = {}
    for item in items:
        *path, last = item.nested_key or [item.key]
        inner = values
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = json.loads(item.value_json)
    return values

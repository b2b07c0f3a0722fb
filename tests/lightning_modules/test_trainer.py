"""The trainer's defaults, and that what is given takes their place."""

from pathlib import Path

from lightning.pytorch.profilers import PassThroughProfiler, SimpleProfiler

from trellis.lightning_modules.trainer import Trainer


def test_nothing_is_profiled_unless_asked_for(tmp_path: Path) -> None:
    profiler = Trainer(default_root_dir=tmp_path, accelerator="cpu", profiler=None).profiler
    assert isinstance(profiler, PassThroughProfiler)
    with profiler.profile("outer"), profiler.profile("inner"):
        pass
    given = Trainer(default_root_dir=tmp_path, accelerator="cpu", profiler="simple").profiler
    assert isinstance(given, SimpleProfiler)

import csv

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from trellis.analysis import confusion_matrix
from trellis.lightning_modules.engine.logging import log_picture, log_table
from trellis.lightning_modules.engine.trainer import Trainer

COLUMNS, ROWS = ["word", "count"], [["a|b", 2], ["c\nd", 3]]


@pytest.fixture
def figure():
    return confusion_matrix(torch.tensor([[3, 1], [0, 2]]))


def quiet(**options):
    return {"enable_progress_bar": False, "accelerator": "cpu", **options}


def test_without_a_logger_that_shows_pictures_they_are_files(tmp_path, figure):
    trainer = Trainer(**quiet(default_root_dir=tmp_path, run_name="a"))
    log_picture(trainer, "val/confusion", figure)
    data = (tmp_path / "a/0/pictures/val/confusion.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 5_000
    log_table(trainer, "words", COLUMNS, ROWS)
    with (tmp_path / "a/0/pictures/words.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [COLUMNS, ["a|b", "2"], ["c\nd", "3"]]


def test_tensorboard_shows_them_at_the_step_of_the_metrics(tmp_path, figure):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="an extra"
    )
    logger = TensorBoardLogger(tmp_path / "tb")
    trainer = Trainer(**quiet(default_root_dir=tmp_path, run_name="a", logger=logger))
    trainer.fit_loop.epoch_loop._batches_that_stepped = 7
    log_picture(trainer, "val/confusion", figure)
    log_table(trainer, "words", COLUMNS, ROWS)
    logger.experiment.close()
    events = accumulator.EventAccumulator(logger.log_dir).Reload()
    (image,) = events.Images("val/confusion")
    assert image.step == 7
    assert (image.width, image.height) == tuple(int(s) for s in figure.bbox.size)
    (text,) = events.Tensors("words/text_summary")
    assert text.step == 7
    shown = text.tensor_proto.string_val[0].decode().splitlines()
    assert shown == ["| word | count |", "| --- | --- |", "| a\\|b | 2 |", "| c d | 3 |"]
    assert (tmp_path / "a/0/pictures/val/confusion.png").is_file()  # as files too


@pytest.mark.parametrize("logger", [True, False])
def test_lightnings_own_trainer_will_do(tmp_path, figure, logger):
    logger = CSVLogger(tmp_path, name="csv") if logger else False
    trainer = L.Trainer(**quiet(default_root_dir=tmp_path / "root", logger=logger))
    log_picture(trainer, "p", figure)
    folder = tmp_path / "csv/version_0" if logger else tmp_path / "root"
    assert (folder / "pictures/p.png").is_file()


@pytest.mark.parametrize("name", ["../p", "/p", "", "a//b", "a/../b", "a\\b"])
def test_a_name_never_leaves_the_folder_of_the_pictures(tmp_path, figure, name):
    trainer = Trainer(**quiet(default_root_dir=tmp_path))
    with pytest.raises(ValueError, match="give names joined by /"):
        log_picture(trainer, name, figure)
    assert not list(tmp_path.rglob("*.png"))


def test_a_short_row_is_refused_before_anything_is_written(tmp_path):
    trainer = Trainer(**quiet(default_root_dir=tmp_path))
    with pytest.raises(ValueError, match="table t: 2 columns, but a row of 1"):
        log_table(trainer, "t", COLUMNS, [["a", 1], ["b"]])
    assert not list(tmp_path.rglob("*.csv"))


def test_one_process_writes_and_a_trial_run_does_not(tmp_path, figure, monkeypatch):
    trial = Trainer(**quiet(default_root_dir=tmp_path, fast_dev_run=True))
    log_picture(trial, "p", figure)
    log_table(trial, "t", COLUMNS, ROWS)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    trainer = Trainer(**quiet(default_root_dir=tmp_path))
    log_picture(trainer, "p", figure)
    log_table(trainer, "t", COLUMNS, ROWS)
    assert list(tmp_path.iterdir()) == []

"""Typing errors are answered without importing torch; what is right passes."""

import subprocess
import sys

import lightning as L
import pytest

from trellis.lightning_modules.commands.precheck import check_words, trainer_options
from trellis.lightning_modules.engine.trainer import Trainer


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "--modle", "GAN"], "unrecognized option --modle; did you mean --model"),
        (["fit", "--trainer.max_epohcs=3"], "did you mean --trainer.max_epochs"),
        (["fit", "--trainer.max_epohcs", "3"], "did you mean --trainer.max_epochs"),
        (["fit", "--model", "NodeClasification"], "did you mean NodeClassification"),
        (["fit", "--data=Karateclub"], "did you mean KarateClub"),
        (["test", "--ckpt_path", "nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["fit", "--init_from=nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
    ],
)
def test_what_must_fail_fails_at_once(words: list[str], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_words(words)


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--config", "x.yaml", "-c", "y.yaml", "--seed_everything=3"],
        ["fit", "--model=GAN", "--model.critic_steps", "3", "--data", "mine.Data"],
        ["fit", "--model", "{class_path: GAN}", "--data", "SomethingOfMyOwn"],
        ["fit", "--trainer.callbacks+=EarlyStopping", "--trainer.logger.project", "cora"],
        ["fit", "--trainer", "trainer.yaml", "--print_config", "--help"],
        ["test", "--ckpt_path=best", "--verbose", "false"],
        ["fit", "--trainer.run_name", "x", "--trainer.accumulate_grad_batches", "2"],
    ],
)
def test_what_may_be_right_passes(words: list[str]) -> None:
    check_words(words)


def test_the_trainers_options_are_those_of_its_signature() -> None:
    import inspect

    def names(cls: type) -> set[str]:
        return {*inspect.signature(cls).parameters} - {"options", "self"}

    assert trainer_options() - {"options"} == names(Trainer) | names(L.Trainer)


def test_neither_torch_nor_lightning_is_imported() -> None:
    code = (
        "from trellis.lightning_modules.commands.precheck import check_words; import sys\n"
        "check_words(['fit', '--model', 'GAN', '--trainer.max_epochs=1'])\n"
        "print('torch' in sys.modules, 'lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

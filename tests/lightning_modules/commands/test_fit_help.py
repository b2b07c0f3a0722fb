"""The help that a user reads: short, complete, at once."""

import inspect
import re

import lightning as L
import pytest

from trellis.lightning_modules import cli
from trellis.lightning_modules.commands.fit_help import WHAT, text, trainer_options
from trellis.lightning_modules.commands.precheck import OPTIONS
from trellis.lightning_modules.engine.trainer import Trainer


def test_every_option_of_the_trainer_is_there_with_its_meaning() -> None:
    names = {*inspect.signature(Trainer).parameters} | {*inspect.signature(L.Trainer).parameters}
    found = trainer_options()
    assert {*found} == names - {"self", "options"}
    assert [name for name, meaning in found.items() if len(meaning) < 10] == []


def test_what_a_user_types_first_comes_first_and_exists() -> None:
    shown = text(["fit"])
    assert shown.index("--config") < shown.index("--model.network") < shown.index("--trainer.")
    assert shown.index("--trainer.max_epochs") < shown.index("--trainer.num_sanity_val_steps")
    flags = {re.match(r"--(\w+)", flag)[1] for flag, _ in WHAT}
    assert flags - {"import"} <= {*OPTIONS}
    assert max(map(len, shown.splitlines())) < 100


def test_the_options_of_named_classes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["fit", "--model", "NodeClassification", "--model.network=GAT", "--help"])
    shown = capsys.readouterr().out
    for words in ("--model NodeClassification: ", "--model.optimizer", "--model.network GAT: ",
                  "--model.network.num_heads"):  # fmt: skip
        assert words in shown


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_each_command_has_an_example_that_is_no_nonsense(command: str) -> None:
    shown = text([command])
    assert f"usage: trellis {command} " in shown
    assert f"\n  trellis {command} " in shown

"""A second Ctrl-C while the first is being served: no state is left that the run did not pass."""

import os
import signal
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import Any

import environment_cases  # noqa: F401 - registers environments
import lightning as L
import pytest
import torch
from learning_cases import CASES, Case, Run, assert_equal_weights, run
from off_policy_cases import KINDS, adam, replay

from trellis.datamodules.rl.environment_rollouts import EnvironmentRollouts
from trellis.lightning_modules.engine import checkpointing
from trellis.lightning_modules.rl.dqn import DQN
from trellis.lightning_modules.rl.trpo import TRPO
from trellis.networks.rl.value import ActorCriticNetwork, QNetwork

clock = {"options": {"length": 2}, "num_val_episodes": 1, "num_test_episodes": 1}
HURT: dict[str, Case] = {
    "sac": Case(KINDS["sac"], replay),
    "td3": Case(KINDS["td3"], replay),
    "dqn with priorities": Case(
        partial(DQN, partial(QNetwork, hidden_channels=(8,)), adam, n_step=3),
        partial(replay, "TestClock-v0", priority=0.6, options={"length": 2}),
    ),
    "trpo": Case(
        partial(TRPO, partial(ActorCriticNetwork, hidden_channels=(8,)), adam, fisher_share=0.5),
        partial(EnvironmentRollouts, "TestClock-v0", 3, 16, 48 * 8, **clock),
    ),
    "seq2seq": CASES["pairs"],
}
BATCH = 3  # in which Ctrl-C is pressed, counted from 0


FEW = (("sac", 0.5), ("dqn with priorities", 0.7))


def short(name: str, root: Path, **options: Any) -> Run:
    return run(HURT[name], root, max_epochs=2, **options)


class PressTwice(L.Callback):
    """Ctrl-C as a step begins, before its batch is made, and again in the middle of it.

    Args:
        calls: of Python functions between both; ``None`` only counts those of the step.
    """

    def __init__(self, calls: int | None = None) -> None:
        self.calls, self.counted = calls, 0

    def on_boundary(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step == BATCH:
            sys.setprofile(self._wait)
        elif trainer.global_step == BATCH + 1:
            sys.setprofile(None)

    def _wait(self, frame: FrameType, event: str, argument: Any) -> None:
        name, path = frame.f_code.co_name, frame.f_code.co_filename
        if event == "call" and name == "advance" and path.endswith("training_epoch_loop.py"):
            sys.setprofile(self._count)
            if self.calls is not None:
                os.kill(os.getpid(), signal.SIGINT)

    def _count(self, frame: FrameType, event: str, argument: Any) -> None:
        self.counted += event == "call"
        if self.counted == self.calls:
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Run, int]]:
    """The uninterrupted run, and the number of calls in the step that others interrupt."""

    @cache
    def trained(name: str) -> tuple[Run, int]:
        counter = PressTwice()
        expected = short(name, tmp_path_factory.mktemp("whole"), callbacks=[counter])
        return expected, counter.counted

    return trained


SHARES = (0.02, 0.15, 0.3, 0.5, 0.7, 0.85, 0.97)
TRIES = [
    pytest.param(name, share, marks=() if (name, share) in FEW else pytest.mark.long)
    for name in HURT
    for share in SHARES
]


@pytest.mark.parametrize(("name", "share"), TRIES)
def test_what_is_left_is_a_state_that_the_run_passed_through(
    name: str, share: float, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing, "_is_due", lambda time_allowed, trainer: True)
    expected, calls = whole(name)
    assert expected.error is None
    press = PressTwice(round(share * calls))
    stopped = short(name, tmp_path, callbacks=[press])
    assert isinstance(stopped.error, SystemExit)
    assert press.counted == press.calls
    assert torch.load(stopped.last, weights_only=True)["global_step"] == BATCH
    resumed = short(name, tmp_path, seed=99, ckpt_path=stopped.last)
    assert resumed.error is None
    assert_equal_weights(expected, resumed)
    assert expected.recorder.metrics[-1] == resumed.recorder.metrics[-1]

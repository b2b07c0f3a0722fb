"""Each objective in each precision: a short run to a tolerance, or one line that refuses it.

Mixed precision draws the same random numbers as float32, so the weights after the run are compared
(relative error of all together, in the 2-norm); parameters of 16 or 64 bits are initialised from
other random numbers, so there both runs begin with the same weights, and the loss of the
validation is compared: dropout still draws other ones.
"""

from typing import Any

import lightning as L
import pytest
import torch
from every_objective import OBJECTIVES, listed_objectives, short_run
from learning_cases import Run
from torch import Tensor

from trellis.lightning_modules.rl.agent import AgentObjective

MIXED_TOLERANCE = 0.15  # of the weights; the largest is .12, of noise that is multiplied
TRUE_TOLERANCE = 0.35  # by which a loss of the validation may be higher
PRECISIONS = ("bf16-mixed", "16-mixed", "bf16-true", "64-true")
TYPES = {"bf16-true": torch.bfloat16, "64-true": torch.float64}
# These run by default, the others in `make test-all`.
SHORT = {
    ("PPO", "bf16-mixed"),
    ("SAC", "64-true"),
    ("SequenceToSequence", "bf16-true"),
    ("NodeClassification", "bf16-true"),
    ("DQN", "bf16-true"),
}
MATRIX = [
    pytest.param(name, precision, marks=[] if (name, precision) in SHORT else pytest.mark.long)
    for name in OBJECTIVES
    for precision in PRECISIONS
]


class SameStart(L.Callback):
    """Runs begin with the weights that the first one began with."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.weights:
            pl_module.load_state_dict(self.weights)
        self.weights = {k: v.clone() for k, v in pl_module.state_dict().items()}


def weights(fitted: Run) -> Tensor:
    return torch.cat([each.double().flatten() for each in fitted.objective.parameters()])


def validated(fitted: Run) -> dict[str, Any]:
    """What the last validation found that is a loss."""
    last = fitted.recorder.metrics[-1]
    return {k: v for k, v in last.items() if k.endswith(("loss", "nats", "error", "rmse"))}


def is_agent(name: str) -> bool:
    return issubclass(OBJECTIVES[name].objective.func, AgentObjective)


def test_every_listed_objective_has_a_case() -> None:
    assert set(listed_objectives()) == set(OBJECTIVES)


@pytest.mark.parametrize(("name", "precision"), MATRIX)
def test_trains_or_is_refused(name, precision, tmp_path) -> None:
    options: dict[str, Any] = {"callbacks": [SameStart()], "enable_checkpointing": False}
    right = short_run(name, tmp_path, **options)
    fitted = short_run(name, tmp_path, precision=precision, **options)
    if is_agent(name) and precision == "bf16-true":
        assert isinstance(fitted.error, ValueError)
        assert "round to nothing; give precision=bf16-mixed" in str(fitted.error)
        return
    assert fitted.error is None
    dtype = TYPES.get(precision, torch.float32)
    assert {each.dtype for each in fitted.objective.parameters()} == {dtype}
    ours, theirs = weights(fitted), weights(right)
    assert ours.isfinite().all()
    if "mixed" in precision:
        assert (ours - theirs).norm() < MIXED_TOLERANCE * theirs.norm()
        return
    losses = validated(fitted)
    assert losses or is_agent(name) or name == "GAN"
    for key, expected in validated(right).items():
        assert losses[key] <= expected + TRUE_TOLERANCE * abs(expected), key

"""Lightning's callbacks on every objective: they work, or say in a sentence why they cannot."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from every_objective import OBJECTIVES, listed_objectives
from learning_cases import run
from lightning.pytorch import callbacks as shipped

MAKE: dict[str, Callable[[Any], L.Callback]] = {
    "BatchSizeFinder": lambda _: shipped.BatchSizeFinder(
        init_val=2, max_trials=2, steps_per_trial=1
    ),
    "EMAWeightAveraging": lambda _: shipped.EMAWeightAveraging(decay=0.7),
    "EarlyStopping": lambda cls: shipped.EarlyStopping(cls.monitor, mode=cls.monitor_mode),
    "LearningRateFinder": lambda _: shipped.LearningRateFinder(num_training_steps=10),
    "ModelPruning": lambda _: shipped.ModelPruning("l1_unstructured", amount=0.5),
    "StochasticWeightAveraging": lambda _: shipped.StochasticWeightAveraging(
        swa_lrs=0.05, swa_epoch_start=1
    ),
}
# What cannot be: no batch to size (a whole graph, rollouts), several optimisers, own steps.
REFUSALS = {
    "BatchSizeFinder": "Field batch_size not found in",
    "LearningRateFinder": r"LearningRateFinder: \w+ makes its own steps, and hands it no loss",
    "StochasticWeightAveraging": "SWA currently works with 1 `optimizer`",
}
SEVERAL_OPTIMIZERS = {"GAN", "Pix2Pix", "CycleGAN", "DDPG", "SAC", "TD3"}
OWN_STEPS = {*SEVERAL_OPTIMIZERS, "A2C", "DQN", "PPO", "REINFORCE", "TRPO"}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", listed_objectives())
@pytest.mark.parametrize("callback", MAKE)
def test_it_works_or_says_why_not(
    callback: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    case = OBJECTIVES[name]
    made = MAKE[callback](case.objective.func)
    done = run(case, tmp_path, callbacks=[made], max_epochs=2, num_sanity_val_steps=0)
    refused = {
        "BatchSizeFinder": not _has_batch_size(case.data()),
        "LearningRateFinder": name in OWN_STEPS,
        "StochasticWeightAveraging": name in SEVERAL_OPTIMIZERS,
    }
    if refused.get(callback):
        assert re.search(REFUSALS[callback], str(done.error))
    else:
        assert done.error is None
        assert done.trainer.global_step > 0


def _has_batch_size(data: L.LightningDataModule) -> bool:
    return hasattr(data, "batch_size") or "batch_size" in data.hparams

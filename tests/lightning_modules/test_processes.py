"""Two processes learn one thing: each from its own experience, both with the same weights."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Processes take longer to start than to do all this, so one pair does it.
SCRIPT = """
import json, sys
import lightning as L
import torch
from trellis import Trainer
from trellis.datamodules.rl import EnvironmentReplay, EnvironmentRollouts
from trellis.datamodules.vector import SyntheticPoints
from trellis.lightning_modules.rl import PPO, SAC
from trellis.lightning_modules.vector import Classification


class Watch(L.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.append(float(batch.observations.double().sum()))


def two_processes(strategy, **options):
    return Trainer(
        default_root_dir=sys.argv[1], accelerator="cpu", devices=2, strategy=strategy,
        max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        **options,
    )


def fit(agent, data, strategy):
    L.seed_everything(0, verbose=False)
    watch = Watch()
    trainer = two_processes(strategy, callbacks=[watch])
    trainer.fit(agent, datamodule=data)
    weights = float(sum(parameter.double().sum() for parameter in agent.parameters()))
    returned = float(trainer.callback_metrics["val/return"])
    return [weights, returned, trainer.global_step, watch.seen]


def predict():
    data = SyntheticPoints(num_examples=200, batch_size=3)
    data.setup()
    objective = Classification(spec=data.spec)
    L.seed_everything(0, verbose=False)
    objective.configure_model()
    x = torch.cat([x for x, _ in data.predict_dataloader()])
    expected = objective.eval()(x).softmax(-1)
    found = torch.cat(two_processes("ddp").predict(objective, datamodule=data))
    return [tuple(found.shape), float((found - expected).abs().max())]


if __name__ == "__main__":
    rollouts = EnvironmentRollouts(num_envs=2, num_steps=32, total_steps=640, num_val_episodes=2)
    replay = EnvironmentReplay("Pendulum-v1", 2, 8, 2, 640, 64, 1000, 16, num_val_episodes=2)
    results = {
        "predictions": predict(),  # first: while there is one process, its loader has every row
        "PPO": fit(PPO(), rollouts, "ddp"),
        "SAC": fit(SAC(), replay, "ddp"),  # each of its losses is of some parameters only
    }
    rank = torch.distributed.get_rank()
    with open(f"{sys.argv[1]}/{rank}.json", "w") as file:
        json.dump(results, file)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two processes found."""
    folder: Path = tmp_path_factory.mktemp("processes")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize(("agent", "steps"), [("PPO", 5), ("SAC", 18)])
def test_two_processes_end_with_the_same_weights(
    agent: str, steps: int, results: list[dict[str, Any]]
) -> None:
    one, other = (result[agent] for result in results)
    assert one[:3] == other[:3]
    assert one[2] == steps
    assert len(one[3]) == steps
    assert set(one[3]).isdisjoint(other[3])


def test_two_processes_predict_every_row_in_order(results: list[dict[str, Any]]) -> None:
    for result in results:
        shape, difference = result["predictions"]
        assert shape[0] == 40  # the test set
        assert difference < 1e-5

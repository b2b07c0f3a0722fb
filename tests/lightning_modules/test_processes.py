"""Two processes learn one thing: each from its own experience, both with the same weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
import lightning as L
from functools import partial
from trellis import Trainer
from trellis.datamodules.rl.environment_replay import EnvironmentReplay
from trellis.datamodules.rl.environment_rollouts import EnvironmentRollouts
from trellis.lightning_modules.rl import {agent}

if __name__ == "__main__":
    L.seed_everything(0, verbose=False)
    seen = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            seen.append(float(batch.observations.double().sum()))

    agent, data = {agent}(), {data}
    trainer = Trainer(
        default_root_dir=sys.argv[1], accelerator="cpu", devices=2, strategy="{strategy}",
        max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[Watch()],
    )
    trainer.fit(agent, datamodule=data)
    weights = float(sum(parameter.double().sum() for parameter in agent.parameters()))
    with open(f"{{sys.argv[1]}}/{{trainer.global_rank}}.json", "w") as file:
        returned = float(trainer.callback_metrics["val/return"])
        json.dump([weights, returned, trainer.global_step, seen], file)
"""
REPLAY = 'EnvironmentReplay("Pendulum-v1", 2, 8, 2, 640, 64, 1000, 16, num_val_episodes=2)'
ROLLOUTS = "EnvironmentRollouts(num_envs=2, num_steps=32, total_steps=640, num_val_episodes=2)"


@pytest.mark.parametrize(
    ("agent", "data", "strategy", "steps"),
    [
        ("PPO", ROLLOUTS, "ddp", 5),
        # Each of its losses is of some parameters only.
        ("SAC", REPLAY, "ddp_find_unused_parameters_true", 18),
    ],
)
def test_two_processes_end_with_the_same_weights(
    agent: str, data: str, strategy: str, steps: int, tmp_path: Path
) -> None:
    script = tmp_path / "fit.py"
    script.write_text(SCRIPT.format(agent=agent, data=data, strategy=strategy))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one[:3] == other[:3]
    assert one[2] == steps
    assert len(one[3]) == steps
    assert set(one[3]).isdisjoint(other[3])


PREDICT = """
import sys
import torch
from trellis import Trainer
from trellis.datamodules.vector import SyntheticPoints
from trellis.lightning_modules.vector import Classification

data = SyntheticPoints(num_examples=200, batch_size=3)
data.setup()
objective = Classification(spec=data.spec)
objective.configure_model()
x = torch.cat([x for x, _ in data.predict_dataloader()])
expected = objective.eval()(x).softmax(-1)
options = dict(accelerator="cpu", logger=False, enable_progress_bar=False)
trainer = Trainer(devices=2, strategy="ddp", default_root_dir=sys.argv[1], **options)
torch.testing.assert_close(torch.cat(trainer.predict(objective, datamodule=data)), expected)
"""


def test_two_processes_predict_every_row_in_order(tmp_path: Path) -> None:
    script = tmp_path / "predict.py"
    script.write_text(PREDICT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]

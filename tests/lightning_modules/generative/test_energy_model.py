"""Energy models: the gradient of contrastive divergence, learning, resumed chains, bad input."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from learning_cases import quiet_trainer
from torch import Tensor

import trellis
from trellis.datamodules.engine.base import DataModule
from trellis.datamodules.engine.loader import Loader
from trellis.generative import BoltzmannUnits, Enumeration
from trellis.lightning_modules.generative.energy_model import EnergyModel
from trellis.networks.generative import MADE, RBM, GaussianRBM
from trellis.optim.schedule import Schedule
from trellis.spec import TensorSpec


class Pairs(DataModule):
    """Four bits, of which the last two repeat the first: the entropy is 2 ln 2."""

    spec = TensorSpec(4, 1, values="binary")

    def loader(self, split: str) -> Loader[Any]:
        def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
            bits = torch.stack([indices % 2, indices // 2 % 2], 1).float()
            return bits.repeat(1, 2), indices * 0

        return Loader(400, batch, batch_size=20, shuffle=split == "train", seed=0)


small = partial(RBM, hidden_units=4)
make = partial(EnergyModel, small, partial(torch.optim.Adam, lr=0.05), partition=Enumeration)


def test_the_gradient_is_that_of_contrastive_divergence() -> None:
    torch.manual_seed(0)
    objective = make(spec=Pairs.spec)
    objective.configure_model()
    torch.nn.init.normal_(objective.network.weight)
    x = torch.randint(0, 2, (7, 4)).float()
    torch.manual_seed(1)
    objective.training_step((x, torch.zeros(7)), 0).backward()
    torch.manual_seed(1)
    sampled, network = objective.network.units.gibbs(x, 1), objective.network
    hidden, after = ((v @ network.weight.T + network.hidden_bias).sigmoid() for v in (x, sampled))
    # Hinton 2010, eq. 9, of which the loss has the negative.
    expected = (after.T @ sampled - hidden.T @ x) / 7
    torch.testing.assert_close(network.weight.grad, expected)
    torch.testing.assert_close(network.visible_bias.grad, (sampled - x).mean(0))


# Four independent bits have 4 ln 2, 1.39 more than the entropy; persistent chains lag behind.
@pytest.mark.parametrize(("persistent", "gap", "share"), [(False, 0.4, 0.8), (True, 0.8, 0.6)])
def test_it_learns_the_density_and_samples_it(
    persistent: bool, gap: float, share: float, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    decay = partial(Schedule, decay="linear") if persistent else None
    objective = make(decay, gibbs_steps=3, persistent=persistent, sample_steps=50)
    trainer = quiet_trainer(tmp_path, max_epochs=25)
    trainer.fit(objective, Pairs())
    [result] = trainer.test(objective, Pairs(), verbose=False)
    entropy = 2 * torch.tensor(2.0).log().item()
    assert entropy - 1e-4 < result["test/nll_nats"] < entropy + gap
    assert result["test/bits_per_dim"] == pytest.approx(
        result["test/nll_nats"] / 4 / torch.tensor(2.0).log().item()
    )
    x = objective.sample(400)
    assert (x[:, :2] == x[:, 2:]).all(1).float().mean() > share


def test_chains_go_on_after_a_resume(tmp_path: Path) -> None:
    def run(epochs: int, ckpt_path: str | None = None) -> EnergyModel:
        torch.manual_seed(0)
        trainer = quiet_trainer(tmp_path, max_epochs=epochs)
        objective = make(persistent=True)
        trainer.fit(objective, Pairs(), ckpt_path=ckpt_path)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return objective

    straight = run(4)
    run(2)
    resumed = run(4, str(tmp_path / "2.ckpt"))
    assert torch.equal(resumed.network.weight, straight.network.weight)
    assert type(trellis.load(tmp_path / "2.ckpt")) is EnergyModel


def test_data_that_units_do_not_fit_are_refused() -> None:
    objective = make(spec=TensorSpec(4, 1, values="unit"))
    with pytest.raises(ValueError, match=r"RBM are 0 or 1.*values='unit'.*BinaryDensities"):
        objective.configure_model()
    objective = EnergyModel(GaussianRBM, spec=Pairs.spec)
    with pytest.raises(ValueError, match=r"GaussianRBM are Gaussian.*values='binary'.*RBM"):
        objective.configure_model()
    with pytest.raises(ValueError, match="MADE is none"):
        EnergyModel(MADE, spec=Pairs.spec).configure_model()


def test_chains_become_longer_in_the_epochs_that_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def gibbs(units: BoltzmannUnits, visible: Tensor, num_steps: int) -> Tensor:
        taken.append(num_steps)
        return visible

    monkeypatch.setattr(BoltzmannUnits, "gibbs", gibbs)
    objective = make(gibbs_steps={0: 1, 2: 5})
    quiet_trainer(tmp_path, max_epochs=4).fit(objective, Pairs())
    assert taken == [1] * 40 + [5] * 40
    with pytest.raises(ValueError, match=r"gibbs_steps=.*epoch 0"):
        EnergyModel(gibbs_steps={1: 5})
    with pytest.raises(ValueError, match="gibbs_steps=0"):
        EnergyModel(gibbs_steps={0: 1, 3: 0})

"""A Boltzmann machine of 784 and 500 units on MNIST: ``Trainer.fit`` beside scikit-learn's.

Both go on with persistent chains by one Gibbs step a batch of 100, which is the only way that
scikit-learn has; its ``partial_fit`` takes float64. Sides take turns of 20 steps.

``pytest tests/benchmarks/test_rbm_speed.py -m "" -s`` shows the numbers.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from measurements import report
from sklearn.neural_network import BernoulliRBM
from torch import Tensor
from turns import Ticks, Turns, in_turns

from trellis import Trainer
from trellis.datamodules.image.mnist import MNIST
from trellis.lightning_modules.generative.energy_model import EnergyModel
from trellis.networks.generative.rbm import RBM

pytestmark = [pytest.mark.slow, pytest.mark.data]
BATCH, STEPS, RATE = 100, 200, 0.05


def ours(data: MNIST, root: Path, ticks: Ticks) -> RBM:
    """The machine after these steps of ``Trainer.fit``, logger and progress line on."""
    sgd = partial(torch.optim.SGD, lr=RATE, fused=True)
    objective = EnergyModel(RBM, sgd, persistent=True)
    trainer = Trainer(
        default_root_dir=root, accelerator="cpu", max_steps=STEPS, limit_val_batches=0,
        enable_model_summary=False, callbacks=[ticks],
    )  # fmt: skip
    trainer.fit(objective, datamodule=data)
    return objective.network


def of_scikit_learn(data: MNIST, root: Path, ticks: Ticks) -> RBM:
    """Likewise of ``BernoulliRBM.partial_fit``."""
    peer = BernoulliRBM(500, learning_rate=RATE, batch_size=BATCH, random_state=0)
    batches = [x.double().numpy() for x, _ in data.loader("train")][:STEPS]
    ticks.on_train_start()
    for x in batches:
        peer.partial_fit(x)
        ticks.on_train_batch_end()
    network = RBM((784,))
    found = peer.components_, peer.intercept_visible_, peer.intercept_hidden_
    for parameter, value in zip(network.parameters(), found, strict=True):
        parameter.data = torch.tensor(value, dtype=torch.float32)
    return network


SIDES: dict[str, Callable[[MNIST, Path, Ticks], RBM]] = {
    "trellis": ours,  # first, for signals are the main thread's
    "scikit-learn": of_scikit_learn,
}


def reconstruction(network: RBM, x: Tensor) -> float:
    """Share of the pixels that are still the same after a Gibbs step."""
    with torch.no_grad():
        return (network.units.gibbs(x, 1) == x).float().mean().item()


def test_chains_of_one_step_are_faster_than_scikit_learn(tmp_path: Path, data_dir: str) -> None:
    data = MNIST(data_dir, BATCH, flatten=True, pixels="static")
    data.setup()
    test = next(iter(data.loader("test")))[0]
    rates: dict[str, list[float]] = {}

    def take_part(name: str, turns: Turns) -> tuple[float, float]:
        ticks = Ticks(turns, name, BATCH)
        torch.manual_seed(0)
        network = SIDES[name](data, tmp_path, ticks)
        rates[name] = [BATCH / seconds for seconds in ticks.steps]
        return ticks.per_second(), reconstruction(network, test)

    (speed, same), (peer, same_there) = in_turns(SIDES, take_part).values()
    report("Boltzmann machine of 784 and 500 units", "images/s", {n: rates[n] for n in SIDES})
    print(
        f"\n{speed:,.0f} and {peer:,.0f} images/s, {speed / peer:.2f}x; "
        f"{same:.3f} and {same_there:.3f} of the pixels stay"
    )
    assert same == pytest.approx(same_there, abs=0.02)
    assert speed >= 1.5 * peer

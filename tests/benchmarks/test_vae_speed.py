"""A VAE of 784-400-20 on MNIST: ``Trainer.fit`` beside a bare loop and pythae's trainer.

All train the same sizes on the same images; the loop and the peer are written as their users write
them, with torch's DataLoader, layers and ``Adam(lr)``. Ours is the config's, whose Adam is fused:
beside it, for information, the loop with that too. Each side has a thread of its own and a turn of
20 steps: the machine's good and bad minutes are those of all. Steps are timed with their batches.

``EPOCHS=10 pytest tests/benchmarks/test_vae_speed.py -m "" -s`` shows the numbers.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from bare import BareVAE
from measurements import report
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from turns import Ticks, Turns, in_turns

from trellis import Trainer
from trellis.datamodules.image.mnist import MNIST
from trellis.lightning_modules.generative.variational import Variational
from trellis.networks.generative.vae import VAE

pytestmark = [pytest.mark.slow, pytest.mark.data]
PEERS = 'pip install -c constraints.txt -e ".[peers,dev]"'
BATCH, EPOCHS = 128, 2
adam = partial(torch.optim.Adam, lr=1e-3)
fused = partial(adam, fused=True)


def bare_loop(
    data: MNIST, epochs: int, root: Path, ticks: Ticks, optimizer_factory: Callable = adam
) -> float:
    """Negative ELBO of the test images, after training."""
    x, y = data.splits["train"]
    loader = DataLoader(TensorDataset(x / 255, y), batch_size=BATCH, shuffle=True)
    model = BareVAE()
    optimizer = optimizer_factory(model.parameters())
    ticks.on_train_start()
    for _ in range(epochs):
        for x, _ in loader:
            loss = model(x).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ticks.on_train_batch_end()
    with torch.no_grad():
        return model(data.splits["test"][0] / 255).mean().item()


def ours(data: MNIST, epochs: int, root: Path, ticks: Ticks, *, compiled: bool = False) -> float:
    """The same through ``Trainer.fit``, logger and progress line on."""
    objective = Variational(VAE, fused)
    trainer = Trainer(
        default_root_dir=root, accelerator="cpu", max_epochs=epochs, limit_val_batches=0,
        enable_model_summary=False, callbacks=[ticks], compile=compiled,
    )  # fmt: skip
    trainer.fit(objective, datamodule=data)
    (result,) = trainer.test(objective, datamodule=data, verbose=False)
    return result["test/neg_elbo_nats"]


def of_pythae(data: MNIST, epochs: int, root: Path, ticks: Ticks) -> float:
    """The same through pythae's trainer, its networks given the same sizes."""
    models = pytest.importorskip("pythae.models", reason=PEERS)
    from pythae.data.datasets import BaseDataset
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.mean = nn.Linear(784, 400), nn.Linear(400, 20)
            self.log_variance = nn.Linear(400, 20)

        def forward(self, x: Tensor) -> ModelOutput:
            h = F.relu(self.hidden(x))
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid()
            )

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(z))

    class Steps(TrainingCallback):
        def on_train_begin(self, training_config: object, **kwargs: object) -> None:
            ticks.on_train_start()

        def on_train_step_end(self, training_config: object, **kwargs: object) -> None:
            ticks.on_train_batch_end()

    config = models.VAEConfig(input_dim=(784,), latent_dim=20, reconstruction_loss="bce")
    model = models.VAE(config, encoder=Encoder(), decoder=Decoder())
    x, y = data.splits["train"]
    trainer = BaseTrainer(
        model,
        BaseDataset(x / 255, y),
        training_config=BaseTrainerConfig(
            output_dir=str(root / "pythae"),
            num_epochs=epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-3,
            optimizer_cls="Adam",
            no_cuda=True,
        ),
        callbacks=[Steps()],
    )
    trainer.train()
    test, y = data.splits["test"]
    with torch.no_grad():
        return model(BaseDataset(test / 255, y)[:]).loss.item()


SIDES: dict[str, Callable[[MNIST, int, Path, Ticks], float]] = {
    "trellis": ours,  # first, for signals are the main thread's
    "trellis, compiled": partial(ours, compiled=True),
    "bare loop": bare_loop,
    "bare loop, fused": partial(bare_loop, optimizer_factory=fused),
    "pythae": of_pythae,
}


def measured(root: Path, data_dir: str, epochs: int) -> dict[str, tuple[float, float]]:
    """Images per second, and the bound of the test images, of each side."""
    data = MNIST(data_dir, BATCH, flatten=True, num_val=0, pixels="unit")
    data.setup()

    rates: dict[str, list[float]] = {}

    def take_part(name: str, turns: Turns) -> tuple[float, float]:
        ticks = Ticks(turns, name, BATCH)
        torch.manual_seed(0)
        bound = SIDES[name](data, epochs, root, ticks)
        speed, rates[name] = ticks.per_second(), [BATCH / seconds for seconds in ticks.steps]
        print(
            f"\n{name}: {speed:,.0f} images/s by the median step, {ticks.overall():,.0f} overall, "
            f"{bound:.2f} nats"
        )
        return speed, bound

    results = in_turns(SIDES, take_part)
    report("VAE on MNIST", "images/s", {name: rates[name] for name in SIDES})
    return results


def test_training_is_no_slower_than_a_loop_and_faster_than_pythae(
    tmp_path: Path, data_dir: str
) -> None:
    results = measured(tmp_path, data_dir, int(os.environ.get("EPOCHS", EPOCHS)))
    (speed, our_bound), (fast, _), (bare, bound), (quick, _), (peer, _) = results.values()
    print(
        f"\n{torch.get_num_threads()} threads: "
        f"{speed / bare:.2f}x the bare loop ({speed / quick:.2f}x with its Adam fused), "
        f"{speed / peer:.2f}x pythae, compiled {fast / peer:.2f}x"
    )
    assert speed >= 1.0 * bare
    assert speed >= 1.3 * peer
    assert fast >= 1.5 * peer
    assert our_bound == pytest.approx(bound, rel=0.01)

"""Training and sampling of flows beside zuko, nflows and normflows, with models of one size.

All run in turns in one process, on one thread, over the same batches, with Adam of one rate;
``pytest tests/benchmarks/test_flow_speed.py -m "" -s`` shows the numbers. Medians of single steps:
now and then the machine itself holds one up.
"""

import time
from collections.abc import Callable, Iterator
from itertools import chain, count, repeat
from statistics import median

import pytest
import torch
from measurements import report
from torch import Tensor, nn

from trellis.datamodules.generative.synthetic_densities import SyntheticDensities
from trellis.networks.generative.flow_autoregressive import MAF, NSF
from trellis.networks.generative.flow_coupling import RealNVP

PEERS = 'pip install -c constraints.txt -e ".[peers,dev]"'
zuko = pytest.importorskip("zuko", reason=PEERS)
nflows = pytest.importorskip("nflows", reason=PEERS)
normflows = pytest.importorskip("normflows", reason=PEERS)
from nflows import distributions, flows, transforms  # noqa: E402
from nflows.nn.nets import MLP  # noqa: E402

pytestmark = pytest.mark.slow
ROUNDS = 30  # of 20 steps


class OfZuko(nn.Module):
    """A flow of zuko, called as ours are."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        return self.flow().log_prob(x)

    def sample(self, number: int) -> Tensor:
        return self.flow().sample((number,))


class OfOthers(nn.Module):
    """A flow of nflows or normflows, called as ours are."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)

    def sample(self, number: int) -> Tensor:
        return self.flow.sample(number)


class WithoutContext(nn.Module):
    """A perceptron where nflows expects a network with a context."""

    def __init__(self, *sizes: object) -> None:
        super().__init__()
        self.network = MLP(*sizes)

    def forward(self, x: Tensor, context: None = None) -> Tensor:
        return self.network(x)


def of_nflows(layers: list[nn.Module], features: int) -> OfOthers:
    noise = distributions.StandardNormal([features])
    return OfOthers(flows.Flow(transforms.CompositeTransform(layers), noise))


def of_normflows(layers: list[nn.Module], features: int) -> OfOthers:
    noise = normflows.distributions.DiagGaussian(features, trainable=False)
    return OfOthers(normflows.NormalizingFlow(noise, layers))


def mafs(features: int, count: int, width: int) -> dict[str, nn.Module]:
    def layer(_: int) -> list[nn.Module]:
        affine = transforms.MaskedAffineAutoregressiveTransform(
            features, width, num_blocks=1, use_residual_blocks=False
        )
        return [transforms.ReversePermutation(features), affine]

    def other(_: int) -> list[nn.Module]:
        affine = normflows.flows.MaskedAffineAutoregressive(
            features, width, num_blocks=1, use_residual_blocks=False
        )
        return [affine, normflows.flows.Permute(features, mode="swap")]

    hidden = (width, width)
    return {
        "trellis": MAF((features,), num_transforms=count, hidden_channels=hidden),
        "zuko": OfZuko(zuko.flows.MAF(features, transforms=count, hidden_features=hidden)),
        "nflows": of_nflows(sum(map(layer, range(count)), []), features),
        "normflows": of_normflows(sum(map(other, range(count)), []), features),
    }


def nsfs(features: int, count: int, width: int) -> dict[str, nn.Module]:
    def layer(_: int) -> list[nn.Module]:
        spline = transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
            features, width, num_bins=8, tails="linear", tail_bound=5.0, num_blocks=1,
            use_residual_blocks=False,
        )  # fmt: skip
        return [transforms.ReversePermutation(features), spline]

    def other(_: int) -> list[nn.Module]:
        # Its conditioner has residual blocks only, the least of them one hidden map more.
        spline = normflows.flows.AutoregressiveRationalQuadraticSpline(
            features, 1, width, num_bins=8, tail_bound=5
        )
        return [spline]

    hidden = (width, width)
    return {
        "trellis": NSF((features,), num_transforms=count, hidden_channels=hidden),
        "zuko": OfZuko(zuko.flows.NSF(features, transforms=count, hidden_features=hidden)),
        "nflows": of_nflows(sum(map(layer, range(count)), []), features),
        "normflows": of_normflows(sum(map(other, range(count)), []), features),
    }


def realnvps(features: int, count: int, width: int) -> dict[str, nn.Module]:
    half = features // 2

    def layer(number: int) -> list[nn.Module]:
        mask = (torch.arange(features) % 2 == number % 2) * 2 - 1
        return [
            transforms.AffineCouplingTransform(
                mask, lambda a, b: WithoutContext([a], [b], [width, width], torch.relu)
            )
        ]

    def other(_: int) -> list[nn.Module]:
        network = normflows.nets.MLP([half, width, width, features], init_zeros=False)
        coupling = normflows.flows.AffineCouplingBlock(network)
        return [coupling, normflows.flows.Permute(features, mode="swap")]

    hidden = (width, width)
    return {
        "trellis": RealNVP((features,), num_transforms=count, hidden_channels=hidden),
        "zuko": OfZuko(zuko.flows.RealNVP(features, transforms=count, hidden_features=hidden)),
        "nflows": of_nflows(sum(map(layer, range(count)), []), features),
        "normflows": of_normflows(sum(map(other, range(count)), []), features),
    }


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(
    what: str, models: dict[str, nn.Module], batches: Iterator[Tensor], rounds: int, steps: int
) -> dict[str, float]:
    """Samples a second of each, by its median step, the models taking turns every few steps.

    Ours takes the optimiser of its configs, where Adam is fused; the others take it as their
    tutorials do. ``trellis, plain`` is ours with theirs.
    """
    optimizers = {
        name: torch.optim.Adam(model.parameters(), lr=1e-3, fused=name == "trellis")
        for name, model in models.items()
    }
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        some = [next(batches) for _ in range(steps)]
        for name, model in models.items():
            for batch in some:
                start = time.perf_counter()
                loss = -model(batch).mean()
                optimizers[name].zero_grad()
                loss.backward()
                optimizers[name].step()
                times[name].append(time.perf_counter() - start)
    size = len(some[0])
    rates = {name: [size / span for span in spans] for name, spans in times.items()}
    report(f"Training {what}", "samples/s", rates)
    return {name: size / median(spans) for name, spans in times.items()}


def show(what: str, models: dict[str, nn.Module], numbers: dict[str, float], unit: str) -> None:
    for name, number in numbers.items():
        weights = sum(parameter.numel() for parameter in models[name].parameters())
        print(f"{what}: {name} {number:,.5g} {unit}, {weights:,} parameters")


def best_of_others(rates: dict[str, float]) -> float:
    return max(rate for name, rate in rates.items() if not name.startswith("trellis"))


@pytest.mark.parametrize(
    ("what", "build", "layers", "judge"),
    [("nsf", nsfs, 3, "zuko"), ("maf", mafs, 3, "zuko"), ("realnvp", realnvps, 4, "normflows")],
)
def test_moons(
    what: str, build: Callable[..., dict[str, nn.Module]], layers: int, judge: str
) -> None:
    torch.manual_seed(0)
    models, data = build(2, layers, 64), SyntheticDensities("moons", seed=0)
    # Of the same size again, with the optimiser the others have.
    models["trellis, plain"] = build(2, layers, 64)["trellis"]
    data.setup()
    batches = chain.from_iterable(repeat(data.train_dataloader()))
    rates = train(f"{what}-moons", models, (x for x, _ in batches if len(x) == 256), ROUNDS, 20)
    show(f"{what}-moons", models, rates, "samples/s")
    test = torch.cat([x for x, _ in data.test_dataloader()])
    with torch.no_grad():
        losses = {name: -model(test).mean().item() for name, model in models.items()}
    show(f"{what}-moons", models, losses, "nats")
    assert losses["trellis"] <= losses[judge] + 0.01
    assert rates["trellis"] >= 1.2 * best_of_others(rates)
    assert rates["trellis, plain"] >= best_of_others(rates)


@pytest.mark.parametrize(("what", "build"), [("maf", mafs), ("realnvp", realnvps)])
def test_mnist_sizes(what: str, build: Callable[..., dict[str, nn.Module]]) -> None:
    """Of the size of MNIST, five transforms of (512, 512); which numbers, takes no time."""
    torch.manual_seed(0)
    models = build(784, 5, 512)
    if what == "maf":
        del models["normflows"]  # whose densities take a pass for each of the 784
    rates = train(f"{what}-mnist", models, (torch.randn(128, 784) for _ in count()), 8, 3)
    show(f"{what}-mnist", models, rates, "samples/s")
    assert rates["trellis"] >= best_of_others(rates)


@pytest.mark.parametrize("number", [1, 16])
def test_sampling_an_autoregression_of_784_dimensions(number: int) -> None:
    torch.manual_seed(0)
    models = mafs(784, 5, 512)
    del models["normflows"]  # the other way round: samples in one pass, densities in 784
    rates = {}
    for name, model in models.items():
        repeats = 5 if name == "trellis" else 1
        with torch.no_grad():
            start = time.perf_counter()
            for _ in range(repeats):
                assert model.eval().sample(number).shape == (number, 784)
            rates[name] = number * repeats / (time.perf_counter() - start)
    show(f"sampling {number} at once", models, rates, "samples/s")
    sides = {name: [rate] for name, rate in rates.items()}
    report(f"Sampling a MAF of 784 dimensions, {number} at once", "samples/s", sides)
    assert rates["trellis"] >= 5 * best_of_others(rates)

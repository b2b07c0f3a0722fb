import math
import time
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from discrete_cases import all_examples, check_frequencies
from torch import Tensor

from trellis.networks.generative.made import MADE

VARIANTS: dict[str, dict[str, Any]] = {
    "natural": {},
    "random": {"order": "random", "seed": 3},
    "direct": {"order": "random", "direct": True},
    "affine": {"hidden_channels": ()},
    "conditional": {"num_classes": 3, "direct": True},
    "many": {"order": "random", "num_masks": 3, "direct": True, "num_classes": 2},
}


def sharp(shape: tuple[int, ...], **options: Any) -> MADE:
    """A network whose bits depend on each other strongly."""
    torch.manual_seed(0)
    network = MADE(shape, **{"hidden_channels": (40, 30), **options}).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4)
    return network


def label(network: MADE, count: int, y: int = 1) -> Tensor | None:
    return torch.full((count,), y) if network.num_classes else None


@pytest.mark.parametrize("name", VARIANTS)
def test_probabilities_of_all_examples_sum_to_one(name: str) -> None:
    network = sharp((2, 4), **VARIANTS[name])
    x = all_examples((2, 4))
    totals = [network(x, label(network, 256, y)).exp() for y in range(network.num_classes or 1)]
    for probabilities in totals:
        assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
        assert probabilities.max() > 0.02, "a flat distribution would show nothing"
    assert network.num_classes == 0 or not torch.allclose(totals[0], totals[1], atol=1e-3)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_chain_rule_bit_by_bit(name: str) -> None:
    """Each bit's probability from a pass of its own, in which the bits after it are noise."""
    network = sharp((8,), **VARIANTS[name])
    x = all_examples((8,))[torch.randperm(256)[:20]]
    y = label(network, 20)
    context = None if y is None else F.one_hot(y, network.num_classes).float()
    each = []
    for chain, masked in enumerate(network.chains):
        total = torch.zeros(20)
        known: list[int] = []
        for bit in masked.order.argsort().tolist():
            seen = torch.randint(2, x.shape).float()
            seen[:, known] = x[:, known]
            one = network._logits(chain, seen, context)[:, bit].sigmoid()
            total += torch.where(x[:, bit] == 1, one, 1 - one).log()
            known.append(bit)
        each.append(total)
    mixed = torch.stack(each).exp().mean(0).log()
    torch.testing.assert_close(network.log_prob(x, y), mixed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_logit_depends_on_all_bits_before_it_and_no_others(name: str) -> None:
    network = sharp((6,), activation="tanh", **VARIANTS[name])
    context = torch.zeros(1, network.num_classes) if network.num_classes else None
    for chain, masked in enumerate(network.chains):

        def logits(x: Tensor, chain: int = chain) -> Tensor:
            return network._logits(chain, x[None], context)[0]

        seen = torch.autograd.functional.jacobian(logits, torch.rand(6)) != 0
        assert torch.equal(seen, masked.order[None] < masked.order[:, None])


@pytest.mark.parametrize("name", VARIANTS)
def test_samples_follow_the_probabilities(name: str) -> None:
    network = sharp((2, 3), **VARIANTS[name])
    generator = torch.Generator().manual_seed(5)
    y = label(network, 20_000)
    samples = network.sample(20_000, y, generator=generator)
    assert samples.shape == (20_000, 2, 3)
    assert not samples.requires_grad
    probabilities = network(all_examples((2, 3)), label(network, 64)).exp()
    check_frequencies(samples, probabilities)
    again = network.sample(20_000, y, generator=generator.manual_seed(5))
    assert torch.equal(samples, again)


def test_sampling_costs_far_less_than_a_pass_for_each_bit() -> None:
    network = MADE((400,), hidden_channels=(400, 400)).eval()
    times: dict[str, float] = {"samples": math.inf, "passes": math.inf}
    for _ in range(3):
        start = time.process_time()
        network.sample(20)
        middle = time.process_time()
        with torch.no_grad():
            for _ in range(40):  # of 400
                network(torch.ones(20, 400))
        times["samples"] = min(times["samples"], middle - start)
        times["passes"] = min(times["passes"], 10 * (time.process_time() - middle))
    assert times["samples"] < times["passes"] / 3


def test_many_masks_share_weights_and_take_turns_in_training() -> None:
    options = {"order": "random", "direct": True}
    one, many = sharp((5,), **options), sharp((5,), num_masks=4, **options)
    sizes = [sum(p.numel() for p in network.parameters()) for network in (one, many)]
    assert sizes[0] == sizes[1]
    assert len({tuple(masked.order.tolist()) for masked in many.chains}) == 4
    x = all_examples((5,))
    with torch.no_grad():
        each = torch.stack([many._log_prob(chain, x, None) for chain in range(4)])
        torch.testing.assert_close(many(x), each.exp().mean(0).log())
        torch.manual_seed(0)
        many.train()
        drawn = torch.stack([many(x) for _ in range(40)])
    which = (drawn[:, None] == each[None]).all(-1)
    assert which.sum(1).tolist() == [1] * 40
    assert which.any(0).all()


@pytest.mark.parametrize("name", ["random", "many"])
def test_weights_are_enough_to_rebuild(name: str) -> None:
    network, other = sharp((6,), **VARIANTS[name]), sharp((6,), **VARIANTS[name])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(network.state_dict())
    x = all_examples((6,))
    assert torch.equal(network(x, label(network, 64)), other(x, label(other, 64)))


@pytest.mark.parametrize(("hidden_channels", "bits_left"), [((16,), 2), ((), 3)])
def test_an_exclusive_or_takes_a_hidden_layer(
    hidden_channels: tuple[int, ...], bits_left: int
) -> None:
    """Two coins and their XOR have 2 bits of entropy; an affine model finds three coins."""
    torch.manual_seed(0)
    x = torch.tensor([[0.0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    network = MADE((3,), hidden_channels=hidden_channels)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = -network(x).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(bits_left * math.log(2), abs=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": ()}, r"shape=\(\): give that of one example"),
        ({"hidden_channels": (0,)}, "a width of hidden_channels=0: give at least 1"),
        ({"order": "raster"}, "order='raster': choose from natural, random"),
        ({"num_masks": 0}, "num_masks=0: give at least 1"),
        ({"num_masks": 2}, "num_masks=2: several orderings need order='random'"),
    ],
)
def test_sizes_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MADE(**{"shape": (4,), **options})


def test_inputs_are_checked() -> None:
    network, conditional = MADE((1, 2, 2)), MADE((4,), 3)
    with pytest.raises(ValueError, match=r"x \[5, 4\] does not fit MADE\(shape=\(1, 2, 2\)\)"):
        network(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="x holds 0.5, which is none of the 2 levels.*'static'"):
        network(torch.full((1, 1, 2, 2), 0.5))
    with pytest.raises(ValueError, match="label 3 is out of range: MADE"):
        conditional(torch.zeros(2, 4), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="is conditional: give labels"):
        conditional.sample(2)

import math
from functools import partial

import pytest
import torch
import zuko
from torch import Tensor, nn

from trellis.generative.autoregressive import MaskedAutoregressive
from trellis.generative.coupling import Coupling
from trellis.generative.transform import Chain, Scaling
from trellis.networks.generative.flow import Flow
from trellis.networks.generative.flow_autoregressive import IAF, MAF, NSF
from trellis.networks.generative.flow_coupling import NICE, CouplingNSF, RealNVP
from trellis.networks.generative.flow_image import Glow, RealNVPImage

VECTORS = [NICE, RealNVP, CouplingNSF, MAF, IAF, NSF]
small = {"hidden_channels": 4}
IMAGES = [partial(RealNVPImage, **small), partial(Glow, num_steps=2, **small)]
CASES = [(network, (2,)) for network in VECTORS]
CASES += [(network, (1, 2, 3)) for network in VECTORS]
CASES += [(network, (1, 4, 4)) for network in IMAGES]
IDS = [f"{getattr(n, 'func', n).__name__}-{len(shape)}d" for n, shape in CASES]


def built(network: type[Flow], shape: tuple[int, ...], num_classes: int = 0) -> Flow:
    """With weights that differ from their initial values, under which it may be the identity."""
    torch.manual_seed(0)
    flow = network(shape, num_classes)
    flow(torch.randn(16, *shape), torch.arange(16) % num_classes if num_classes else None)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return flow


def labels(count: int, num_classes: int) -> Tensor | None:
    return torch.arange(count) % num_classes if num_classes else None


def log_noise(flow: Flow, z: Tensor) -> Tensor:
    """Log-density of the noise, by torch's own distributions."""
    if flow.base == "normal":
        return torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    uniform = torch.distributions.Uniform(torch.zeros(()).to(z), torch.ones(()).to(z))
    logit = torch.distributions.SigmoidTransform().inv
    return torch.distributions.TransformedDistribution(uniform, logit).log_prob(z).sum(-1)


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize(("network", "shape"), CASES, ids=IDS)
def test_the_inverse_inverts_in_single_precision(
    network: type[Flow], shape: tuple[int, ...], num_classes: int
) -> None:
    flow, x, y = built(network, shape, num_classes), torch.randn(8, *shape), labels(8, num_classes)
    context = None if y is None else nn.functional.one_hot(y, num_classes).float()
    z, log_det = flow.transform(x, context)
    back, log_det_back = flow.transform.inverse(z, context)
    assert z.shape == (8, math.prod(shape))
    torch.testing.assert_close(back, x, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_det_back, -log_det, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize(("network", "shape"), CASES, ids=IDS)
def test_the_density_is_the_change_of_variables_by_autograd(
    network: type[Flow], shape: tuple[int, ...], num_classes: int
) -> None:
    flow, y = built(network, shape, num_classes).double(), labels(2, num_classes)
    x = torch.randn(2, *shape, dtype=torch.float64)
    log_prob = flow.log_prob(x, y)
    for number in range(2):
        context = None
        if y is not None:
            context = nn.functional.one_hot(y[number : number + 1], num_classes).double()

        def noise(x: Tensor, context: Tensor | None = context) -> Tensor:
            return flow.transform(x[None], context)[0][0]

        jacobian = torch.autograd.functional.jacobian(noise, x[number]).flatten(1)
        expected = log_noise(flow, noise(x[number])) + torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(log_prob[number], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("network", VECTORS)
def test_a_density_of_the_plane_integrates_to_one(network: type[Flow]) -> None:
    flow = built(network, (2,), num_classes=2)
    # Logistic noise has long tails; splines have narrow bins.
    wide, step = (24, 0.15) if network is NICE else (9, 0.06)
    ticks = torch.arange(-wide, wide, step)
    points = torch.cartesian_prod(ticks, ticks)
    with torch.no_grad():
        total = flow(points, torch.ones(len(points), dtype=torch.long)).exp().sum()
    assert total.item() * step**2 == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize(("network", "shape"), CASES, ids=IDS)
def test_every_parameter_learns(
    network: type[Flow], shape: tuple[int, ...], num_classes: int
) -> None:
    flow = built(network, shape, num_classes)
    y = labels(32, num_classes)
    (-flow(torch.randn(32, *shape), y).mean()).backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize(("network", "shape"), CASES, ids=IDS)
def test_samples_are_the_inverse_transform_of_noise(
    network: type[Flow], shape: tuple[int, ...], num_classes: int
) -> None:
    flow, y = built(network, shape, num_classes), labels(6, num_classes)
    x = flow.sample(6, y, generator=torch.Generator().manual_seed(3))
    assert x.shape == (6, *shape)
    assert not x.requires_grad
    context = None if y is None else nn.functional.one_hot(y, num_classes).float()
    z = torch.empty(6, math.prod(shape))
    generator = torch.Generator().manual_seed(3)
    if flow.base == "normal":
        z.normal_(generator=generator)
    else:
        z.uniform_(generator=generator).logit_()
    torch.testing.assert_close(flow.transform(x, context)[0], z, atol=1e-4, rtol=1e-4)
    if num_classes:
        other = flow.sample(6, y + 1 - 3 * (y == 2), generator=torch.Generator().manual_seed(3))
        assert (other != x).any()


@pytest.mark.parametrize(("context", "real"), [(0, False), (3, False), (3, True)])
@pytest.mark.parametrize("name", ["MAF", "NSF"])
def test_densities_equal_those_of_zuko(name: str, context: int, real: bool) -> None:
    torch.manual_seed(0)
    features = 4
    units = 16 if context else 15  # so many of each degree in both libraries
    peer = getattr(zuko.flows, name)(features, context, transforms=3, hidden_features=[units] * 2)
    sizes = {"context_features" if real else "num_classes": context}
    flow = {"MAF": MAF, "NSF": NSF}[name]((features,), hidden_channels=(units, units), **sizes)
    order = (torch.arange(units) % (4 if context else 3)).argsort(stable=True)
    for ours, theirs in zip(flow.transform.transforms, peer.transform.transforms, strict=True):
        assert isinstance(ours, MaskedAutoregressive)
        maps = [layer for layer in theirs.hyper if isinstance(layer, nn.Linear)]
        before = torch.arange(features + context)
        for number, (layer, other) in enumerate(zip(ours.conditioner.layers, maps, strict=True)):
            rows = order if number < 2 else torch.arange(other.out_features)
            layer.weight.data.copy_(other.weight.data[rows][:, before])
            layer.bias.data.copy_(other.bias.data[rows])
            assert layer.mask.bool().equal(other.mask[rows][:, before])
            before = rows
    x = torch.randn(50, features) * 2
    y = torch.arange(50) % context if context else None
    given = nn.functional.one_hot(y, context).float() if context else None
    if real:
        y = given = torch.randn(50, context)
    expected = peer(given).log_prob(x)
    torch.testing.assert_close(flow(x, y), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("network", VECTORS)
def test_labels_are_their_one_hot_vectors(network: type[Flow]) -> None:
    """A flow given real numbers is the one given labels, with any numbers in their place."""
    classes, flow = built(network, (3,), num_classes=2), network((3,), context_features=2)
    flow.load_state_dict(classes.state_dict())
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    one_hot = nn.functional.one_hot(y, 2).float()
    assert flow(x, one_hot).equal(classes(x, y))
    drawn = [each.sample(4, given, generator=torch.Generator().manual_seed(0))
             for each, given in ((flow, one_hot), (classes, y))]  # fmt: skip
    assert drawn[0].equal(drawn[1])
    assert not torch.allclose(flow(x, one_hot + 0.5), flow(x, one_hot))
    one = network((3,), context_features=1)
    assert one(x, y.float()).equal(one(x, y.float().unsqueeze(1)))


def test_nice_keeps_volume_but_for_its_scales() -> None:
    flow = built(NICE, (5,))
    *before, scaling = flow.transform.transforms
    assert isinstance(scaling, Scaling)
    x = torch.randn(8, 5)
    z, log_det = Chain(before)(x)
    assert (log_det == 0).all()
    assert not torch.allclose(z, x)
    torch.testing.assert_close(flow.transform(x)[1], scaling.log_scale.sum().expand(8))


def test_entries_alternate_or_are_halved() -> None:
    """The first coupling leaves every second entry as it is, or the first half."""
    x = torch.randn(1, 6)
    for partition, kept in (("alternating", [0, 2, 4]), ("halves", [0, 1, 2])):
        flow = RealNVP((6,), num_transforms=1, partition=partition)
        z, _ = flow.transform(x)
        back = torch.zeros(6, dtype=torch.long)
        for entry in range(6):
            back[entry] = (z[0] == x[0, entry]).any()
        assert back.nonzero().flatten().tolist() == kept
        assert sum(isinstance(part, Coupling) for part in flow.transform.transforms) == 1


def test_a_flow_learns_a_shifted_stretched_normal() -> None:
    """Maximum likelihood reaches the entropy of the truth; the same without training does not."""
    torch.manual_seed(0)
    truth = torch.distributions.MultivariateNormal(
        torch.tensor([2.0, -1.0]), torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    )
    flow = MAF((2,), num_transforms=2, hidden_channels=(16,), activation="tanh")
    test = truth.sample((2000,))
    before = -flow(test).mean().item()
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.02)
    for _ in range(200):
        loss = -flow(truth.sample((128,))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        after = -flow(test).mean().item()
    best = -truth.log_prob(test).mean().item()
    assert before > best + 1
    assert best - 0.01 < after < best + 0.05


def test_a_glow_resumes_with_its_norms_set() -> None:
    torch.manual_seed(0)
    flow, other = Glow((1, 4, 4), hidden_channels=4), Glow((1, 4, 4), hidden_channels=4)
    flow(torch.randn(8, 1, 4, 4) * 3 + 1)
    other.load_state_dict(flow.state_dict())
    x = torch.randn(8, 1, 4, 4)
    assert other.train()(x).equal(flow(x))


@pytest.mark.parametrize("network", [NICE, RealNVP, CouplingNSF])
def test_one_number_cannot_be_coupled(network: type[Flow]) -> None:
    with pytest.raises(ValueError, match="channels=1: give at least 2, one to condition on"):
        network((1,))


def test_bad_input_is_named() -> None:
    flow = MAF((3,), 2)
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"label 2 is out of range: MAF\(num_classes=2\)"):
        flow(x, torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"MAF\(num_classes=2\) is conditional: give labels"):
        flow.sample(2)
    with pytest.raises(ValueError, match="y is given, but NSF"):
        NSF((3,))(x, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"x \[2, 3\] does not fit NSF\(shape=\(2,\)\)"):
        NSF((2,))(x)
    real = NSF((3,), context_features=2)
    for y, message in (
        (None, r"NSF\(context_features=2\) is conditional: give real numbers y \[B, 2\]"),
        (torch.zeros(2, 3), r"y \[2, 3\] of torch.float32 does not fit NSF\(context_features=2"),
        (torch.tensor([0, 1]), r"y \[2\] of torch.int64 does not fit .*: give real numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            real(x, y)
    with pytest.raises(ValueError, match="num_classes=2, context_features=1: .* give one of them"):
        MAF((3,), 2, context_features=1)
    with pytest.raises(ValueError, match="num_transforms=0: give at least 1"):
        MAF((2,), num_transforms=0)
    with pytest.raises(ValueError, match="partition='thirds': choose from alternating, halves"):
        RealNVP((2,), partition="thirds")
    with pytest.raises(ValueError, match="base='cauchy': choose from normal, logistic"):
        NICE((2,), base="cauchy")
    with pytest.raises(ValueError, match=r"shape=\(1, 6, 6\): give .* divisible by 4"):
        Glow((1, 6, 6))
    with pytest.raises(ValueError, match=r"shape=\(4,\): give \(C, H, W\)"):
        RealNVPImage((4,))
    with pytest.raises(ValueError, match="num_steps=0: give at least 1"):
        Glow((1, 4, 4), num_steps=0)

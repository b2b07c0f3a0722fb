import pytest
import torch
from torch import Tensor, nn
from transform_cases import (
    assert_every_parameter_learns,
    assert_log_det_is_of_the_jacobian,
    assert_one_to_one,
    shaken,
)

from trellis.generative.coupling import (
    CheckerboardCoupling,
    ConvConditioner,
    Coupling,
    MultiScale,
    Squeeze,
    coupled_sizes,
)
from trellis.generative.spline import RationalQuadratic
from trellis.generative.transform import Additive, Affine, Chain, Elementwise, Transform

MAPS = {"additive": Additive(), "affine": Affine(10.0), "spline": RationalQuadratic(bins=3)}


class Constants(nn.Module):
    """Constant parameters, whatever the input."""

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self.numbers = torch.tensor(numbers)

    def forward(self, x: Tensor) -> Tensor:
        return self.numbers.expand(len(x), -1)


def of_vectors(elementwise: Elementwise, swap: bool, context: int) -> Coupling:
    kept, mapped = coupled_sizes(5, swap=swap)
    sizes = kept + context, mapped * elementwise.num_parameters
    network = nn.Sequential(nn.Linear(sizes[0], 16), nn.Tanh(), nn.Linear(16, sizes[1]))
    return Coupling(5, elementwise, network, swap=swap)


def of_images(elementwise: Elementwise, swap: bool, context: int) -> Coupling:
    kept, mapped = coupled_sizes(3, swap=swap)
    sizes = kept + context, mapped * elementwise.num_parameters
    return Coupling(3, elementwise, ConvConditioner(*sizes, hidden_channels=4), swap=swap)


def of_squares(elementwise: Elementwise, swap: bool, context: int) -> CheckerboardCoupling:
    sizes = 3 + context, 3 * elementwise.num_parameters
    network = ConvConditioner(*sizes, hidden_channels=4)
    return CheckerboardCoupling(3, elementwise, network, swap=swap)


@pytest.mark.parametrize("context_features", [0, 2])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("elementwise", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("build", [of_vectors, of_images, of_squares])
def test_one_to_one_with_the_jacobian_of_autograd(
    build: type, elementwise: Elementwise, swap: bool, context_features: int
) -> None:
    torch.manual_seed(0)
    transform = shaken(build(elementwise, swap, context_features))
    x = torch.randn(3, 5) if build is of_vectors else torch.randn(2, 3, 3, 2)
    context = torch.randn(len(x), 2) if context_features else None
    assert_one_to_one(transform, x, context)
    assert_log_det_is_of_the_jacobian(transform, x, context)
    if elementwise is MAPS["additive"]:
        context = None if context is None else context.double()
        assert (transform(x.double(), context)[1] == 0).all()


def test_the_coupling_of_the_course() -> None:
    """z = (1, 2), F = (.5, -.25), G = (0, 1) -> x = z exp(F) + G; log-determinant .25.

    Source: UvA Deep Learning course, reversible models, affine coupling.
    """
    affine = Affine()
    bound = torch.tensor(affine.max_scale).log().item()
    # F before the soft clip that bounds it.
    before = [scale / (1 - abs(scale) / bound) for scale in (0.5, -0.25)]
    coupling = Coupling(4, affine, Constants(0.0, 1.0, *before))
    z = torch.tensor([[9.0, 9.0, 1.0, 2.0]])
    x, log_det = coupling(z)
    torch.testing.assert_close(x[0, 2:], torch.tensor([1.648721, 2.557602]))
    assert x[0, :2].equal(z[0, :2])
    assert log_det.item() == pytest.approx(0.25)
    assert log_det.exp().item() == pytest.approx(1.284025)


def test_the_half_that_is_conditioned_on_is_unchanged() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5)
    z, _ = of_vectors(Affine(), False, 0)(x)
    assert (z == x).tolist() == [[True, True, True, False, False]] * 2
    z, _ = of_vectors(Affine(), True, 0)(x)
    assert (z == x).tolist() == [[False, False, False, True, True]] * 2


def test_the_squares_that_are_conditioned_on_are_unchanged() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 2, 3)
    for swap in (False, True):
        z, _ = shaken(of_squares(Affine(), swap, 0))(x)
        white = torch.tensor([[True, False, True], [False, True, False]])
        assert (z == x)[0].equal((white ^ swap).expand(3, -1, -1))


def test_couplings_learn() -> None:
    torch.manual_seed(0)
    steps: list[Transform] = [shaken(of_squares(Affine(), False, 1)), Squeeze()]
    network = ConvConditioner(7, 12, hidden_channels=4)
    steps += [shaken(Coupling(12, Affine(), network, swap=True))]
    chain = Chain(steps)
    z, log_det = chain(torch.randn(4, 3, 4, 4), torch.randn(4, 1))
    assert_every_parameter_learns(chain, (z.square().sum((1, 2, 3)) - log_det).mean())


def test_a_convolution_begins_as_the_identity() -> None:
    x = torch.randn(2, 3, 4, 4)
    z, log_det = of_images(Affine(), False, 0)(x)
    assert z.equal(x)
    assert (log_det == 0).all()


def test_a_squeeze_puts_squares_into_channels() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    z, log_det = Squeeze()(x)
    assert z[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert log_det.tolist() == [0]
    assert Squeeze().inverse(z)[0].equal(x)


def test_half_the_channels_are_factored_out_at_a_scale() -> None:
    torch.manual_seed(0)
    coarse = Chain([Squeeze(), shaken(Coupling(8, Affine(), ConvConditioner(4, 8)))])
    fine = Chain([Squeeze(), shaken(Coupling(4, Affine(), ConvConditioner(2, 4)), 0.05)])
    multi = MultiScale([fine, coarse], [(4, 2, 4), (8, 1, 2)])
    x = torch.randn(2, 1, 4, 8)
    z, _ = multi(x)
    assert z.shape == (2, 32)
    first, log_det = fine(x)
    last, more = coarse(first[:, :2])
    assert z.equal(torch.cat([first[:, 2:].flatten(1), last.flatten(1)], 1))
    assert multi(x)[1].equal(log_det + more)
    assert_one_to_one(multi, x)
    assert_log_det_is_of_the_jacobian(multi, x)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="channels=1: give at least 2, one to condition on"):
        Coupling(1, Affine(), nn.Identity())
    with pytest.raises(
        ValueError, match=r"shapes=\[\(3, 2, 2\), \(1, 2, 2\)\]: give one for each"
    ):
        MultiScale([Squeeze(), Squeeze()], [(3, 2, 2), (1, 2, 2)])
    with pytest.raises(ValueError, match="hidden_channels=0: give at least 1"):
        ConvConditioner(1, 1, hidden_channels=0)

import pytest
import torch
from transform_cases import (
    assert_every_parameter_learns,
    assert_log_det_is_of_the_jacobian,
    assert_one_to_one,
)

from trellis.generative.autoregressive import MaskedAutoregressive
from trellis.generative.spline import RationalQuadratic
from trellis.generative.transform import Additive, Affine, Elementwise, Inverse

MAPS = {"additive": Additive(), "affine": Affine(), "spline": RationalQuadratic(bins=4)}
ORDER = torch.tensor([3, 0, 4, 1, 2])


@pytest.mark.parametrize("context_features", [0, 2])
@pytest.mark.parametrize("elementwise", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("turned", [False, True], ids=["forward", "inverse"])
def test_one_to_one_with_the_jacobian_of_autograd(
    elementwise: Elementwise, context_features: int, turned: bool
) -> None:
    torch.manual_seed(0)
    plain = MaskedAutoregressive(
        5, elementwise, hidden_channels=(16, 7), activation="tanh", order=ORDER,
        context_features=context_features,
    )  # fmt: skip
    transform = Inverse(plain) if turned else plain
    x = torch.randn(3, 5)
    context = torch.randn(3, 2) if context_features else None
    assert_one_to_one(transform, x, context)
    assert_log_det_is_of_the_jacobian(transform, x, context)


@pytest.mark.parametrize("elementwise", MAPS.values(), ids=MAPS)
def test_the_jacobian_is_triangular_in_the_order(elementwise: Elementwise) -> None:
    torch.manual_seed(0)
    transform = MaskedAutoregressive(5, elementwise, activation="tanh", order=ORDER).double()
    x = torch.randn(5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: transform(x[None])[0][0], x)
    by_rank = ORDER.argsort()
    jacobian = jacobian[by_rank][:, by_rank]
    assert (jacobian.triu(1) == 0).all()
    assert (jacobian.diagonal() > 0).all()
    assert (jacobian[torch.ones(5, 5).tril(-1).bool()] != 0).all()


@pytest.mark.parametrize("turned", [False, True], ids=["forward", "inverse"])
def test_every_parameter_learns(turned: bool) -> None:
    torch.manual_seed(0)
    plain = MaskedAutoregressive(4, RationalQuadratic(), context_features=2)
    transform = Inverse(plain) if turned else plain
    z, log_det = transform(torch.randn(20, 4), torch.randn(20, 2))
    assert_every_parameter_learns(transform, (z.square().sum(1) - log_det).mean())


def test_one_feature_has_constant_parameters() -> None:
    transform = MaskedAutoregressive(1, Affine())
    x = torch.tensor([[0.0], [1.0], [2.0]])
    z, _ = transform(x)
    assert z.diff(dim=0)[0].item() == pytest.approx(z.diff(dim=0)[1].item())
    assert_one_to_one(transform, x)

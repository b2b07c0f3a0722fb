import pytest
import torch
from torch import Tensor

from trellis.generative.masked import MaskedLinear, MaskedMLP, spread_degrees


def jacobian(network: MaskedMLP, context: Tensor | None = None) -> Tensor:
    """``[D of the parameters, P, D of the inputs]`` at a random point."""
    x = torch.randn(network.in_features, dtype=torch.float64)

    def parameters(x: Tensor) -> Tensor:
        return network(x[None], context)[0]

    return torch.autograd.functional.jacobian(parameters, x)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
@pytest.mark.parametrize("hidden_sizes", [(40, 40), (3, 17), ()])
def test_parameters_depend_on_all_features_before_and_no_others(
    order: list[int], hidden_sizes: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    ranks = torch.tensor(order)
    network = MaskedMLP(5, 2, hidden_sizes=hidden_sizes, activation="tanh", order=ranks).double()
    seen = jacobian(network).abs().amax(1) > 0
    before = ranks[None] < ranks[:, None]
    assert not (seen & ~before).any()
    if 3 not in hidden_sizes:  # three units cannot tell five features apart
        assert (seen == before).all()


def test_fewer_units_than_features_cover_all_features() -> None:
    """Degrees assigned cyclically would be 1 to 4, and no unit would depend on the rest."""
    torch.manual_seed(0)
    network = MaskedMLP(20, 1, hidden_sizes=(4,), activation="tanh").double()
    assert spread_degrees(4, 20).tolist() == [1, 5, 10, 15]
    seen = jacobian(network)[-1, 0].abs() > 0
    assert seen.tolist() == [True] * 15 + [False] * 5


def test_context_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    network = MaskedMLP(4, 2, hidden_sizes=(32, 32), activation="tanh", context_features=3)
    context = torch.randn(1, 3, requires_grad=True)
    for row in network(torch.randn(1, 4), context).flatten():
        (gradient,) = torch.autograd.grad(row, context, retain_graph=True)
        assert (gradient != 0).all()


@pytest.mark.parametrize("context_features", [0, 2])
@pytest.mark.parametrize("hidden_sizes", [(12, 30), (5,), ()])
def test_generating_is_a_fixed_point_of_the_network(
    context_features: int, hidden_sizes: tuple[int, ...]
) -> None:
    """The parameters that ``choose`` was given are those of ``forward`` on the result."""
    torch.manual_seed(0)
    network = MaskedMLP(
        7, 3, hidden_sizes=hidden_sizes, activation="elu", context_features=context_features,
        order=torch.tensor([3, 1, 6, 0, 2, 5, 4]),
    ).double()  # fmt: skip
    context = torch.randn(4, 2).double() if context_features else None
    noise = torch.randn(4, 7).double()
    asked = []

    def choose(parameters: Tensor, features: Tensor) -> Tensor:
        asked.append(features)
        return noise[:, features] + parameters.sin().sum(-1)

    x = network.generate(choose, 4, context)
    assert sorted(torch.cat(asked).tolist()) == list(range(7))
    assert network.order[torch.cat(asked)].tolist() == list(range(7))
    torch.testing.assert_close(x, noise + network(x, context).sin().sum(-1))
    x.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_features_of_the_same_hidden_units_are_generated_together() -> None:
    sizes = []

    def choose(parameters: Tensor, features: Tensor) -> Tensor:
        sizes.append(len(features))
        return parameters[..., 0]

    MaskedMLP(20, 1, hidden_sizes=(4,)).generate(choose, 1)
    assert sizes == [1, 4, 5, 5, 5]


def test_masked_weights_have_no_gradient_and_no_effect() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[1, 0, 1], [0, 1, 0]])
    layer = MaskedLinear(3, 2, mask)
    x = torch.randn(5, 3)
    layer(x).square().sum().backward()
    assert ((layer.weight.grad != 0) == mask.bool()).all()
    torch.testing.assert_close(layer(x), x @ (layer.weight * mask).T + layer.bias)
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_bad_input_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"mask \[3, 2\]: give one for each weight \[out_features, in_features\]"
    ):
        MaskedLinear(3, 2, torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"order=\[0, 2\]: give each of 0 to 1 once"):
        MaskedMLP(2, 1, order=torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="hidden_sizes=0: give at least 1"):
        MaskedMLP(2, 1, hidden_sizes=(0,))
    with pytest.raises(ValueError, match="degrees: give non-decreasing numbers"):
        MaskedMLP(3, 1, hidden_sizes=(2,), degrees=[torch.tensor([2, 1])])
    with pytest.raises(ValueError, match="context of 0 features.*context_features=3"):
        MaskedMLP(2, 1, context_features=3)(torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"x \[1, 4\] does not fit MaskedMLP\(in_channels=2\)"):
        MaskedMLP(2, 1)(torch.zeros(1, 4))

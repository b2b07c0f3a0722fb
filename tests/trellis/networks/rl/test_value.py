"""Values have one number for each observation, or for each action in it."""

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent

from trellis.networks.rl.value import ActorCriticNetwork, QNetwork, StateActionValue, Value


def gradients(network: nn.Module, loss: torch.Tensor) -> set[str]:
    """Names of the parameters that a loss moves."""
    network.zero_grad()
    loss.backward()
    named = network.named_parameters()
    return {name for name, p in named if p.grad is not None and bool((p.grad != 0).any())}


def names(network: nn.Module) -> set[str]:
    return {name for name, _ in network.named_parameters()}


def test_value() -> None:
    torch.manual_seed(0)
    network, x = Value((4,)), torch.randn(6, 4)
    value = network(x)
    torch.testing.assert_close(value, network.head(network.features(x))[:, 0])
    assert gradients(network, value.square().sum()) == names(network)
    norm = float(network.head.weight.detach().norm())
    assert norm == pytest.approx(1.0)
    table = Value((), num_observations=5, hidden_channels=())
    torch.testing.assert_close(table(torch.arange(5)), table.head.weight[0] + table.head.bias)


def test_q_network() -> None:
    torch.manual_seed(0)
    network, x = QNetwork((4,), 3, hidden_channels=(8,)), torch.randn(6, 4)
    torch.testing.assert_close(network(x), network.actions(network.features(x)))
    assert network(x).shape == (6, 3)
    assert gradients(network, network(x).square().sum()) == names(network)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 7)])
def test_dueling(hidden) -> None:
    """Over the actions advantages have mean zero, so that the mean of Q is the value."""
    torch.manual_seed(0)
    network = QNetwork((4,), 3, dueling=True, hidden_channels=hidden)
    x = torch.randn(6, 4)
    features = network.features(x)
    value, advantages = network.state(features), network.actions(features)
    expected = torch.empty(6, 3)
    for b in range(6):
        for a in range(3):
            expected[b, a] = value[b, 0] + advantages[b, a] - sum(advantages[b]) / 3
    torch.testing.assert_close(network(x), expected)
    torch.testing.assert_close(network(x).mean(1), value[:, 0])
    # A constant added to all advantages changes nothing: that is what the mean is taken off for.
    before = network(x)
    with torch.no_grad():
        last = network.actions[-1] if hidden else network.actions
        last.bias += 5.0
    torch.testing.assert_close(network(x), before)
    # Each stream has the last hidden layer to itself: map, activation, head.
    if hidden:
        assert len(network.state) == len(network.actions) == 3
    assert len(network.features.layers) == 2 * max(len(hidden) - 1, 0)


def test_value_of_an_action() -> None:
    torch.manual_seed(0)
    network = StateActionValue((4,), 2, hidden_channels=(8,))
    x, action = torch.randn(6, 4), torch.randn(6, 2, requires_grad=True)
    first = network.layers[0]
    both = torch.cat([x, action], dim=1)
    hidden = (both @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(network(x, action), network.head(hidden)[:, 0])
    assert gradients(network, network(x, action).square().sum()) == names(network)
    assert action.grad is not None
    assert bool((action.grad != 0).any())
    linear = StateActionValue((4,), 2, hidden_channels=())
    assert linear(x, action).shape == (6,)
    with pytest.raises(ValueError, match=r"action \[6\]: give one .* \[6, 2\]"):
        network(x, torch.zeros(6))


def test_values_of_pixels() -> None:
    x = torch.randint(0, 256, (2, 1, 36, 36), dtype=torch.uint8)
    assert Value((1, 36, 36))(x).shape == (2,)
    assert QNetwork((1, 36, 36), 5, dueling=True)(x).shape == (2, 5)
    assert StateActionValue((1, 36, 36), 2)(x, torch.zeros(2, 2)).shape == (2,)


@pytest.mark.parametrize("actions", [{"num_actions": 3}, {"action_dim": 2}])
@pytest.mark.parametrize("shared", [False, True])
def test_actor_critic(actions, shared) -> None:
    torch.manual_seed(0)
    network = ActorCriticNetwork((4,), shared=shared, orthogonal=False, **actions)
    x = torch.randn(6, 4)
    distribution, value = network(x)
    assert isinstance(distribution, Categorical if "num_actions" in actions else Independent)
    assert value.shape == (6,)
    torch.testing.assert_close(value, network.value(x))
    torch.testing.assert_close(distribution.mean, network.policy(x).mean, equal_nan=True)
    action = distribution.sample()
    torch.testing.assert_close(distribution.log_prob(action), network.policy(x).log_prob(action))
    critic = gradients(network, network(x)[1].square().sum())
    actor = gradients(network, network(x)[0].log_prob(action).sum())
    assert actor | critic == names(network)
    assert bool(actor & critic) == shared


def test_apart_each_has_a_trunk_of_its_own() -> None:
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(6, 5))
    apart = ActorCriticNetwork((2, 3), 2, trunk=trunk)
    assert apart.features.front is trunk
    assert apart.value_features.front is not trunk
    shared = ActorCriticNetwork((2, 3), 2, trunk=trunk, shared=True)
    assert sum(p.numel() for p in apart.parameters()) > sum(p.numel() for p in shared.parameters())
    assert apart(torch.zeros(3, 2, 3))[1].shape == (3,)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: QNetwork((4,), 0),
            "num_actions=0: .* a StateActionValue for real-valued actions",
        ),
        (lambda: StateActionValue((4,), 0), "action_dim=0: .* a QNetwork for discrete actions"),
        (lambda: ActorCriticNetwork((4,)), "num_actions=0, action_dim=0: give one of them"),
        (lambda: ActorCriticNetwork((4,), 2, 1), "num_actions=2, action_dim=1: give one of them"),
        (lambda: Value((4, 4)), "have a default trunk; give one from"),
        (lambda: StateActionValue((4,), 1, hidden_channels=(0,)), "hidden_channels=0"),
    ],
)
def test_bad_input(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build()

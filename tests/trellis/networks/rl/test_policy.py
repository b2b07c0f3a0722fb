"""Policies return what torch calls distributions; the networks beneath are computed by hand."""

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, Normal

from trellis.networks.graph.gnn import GCN
from trellis.networks.rl.policy import (
    CategoricalPolicy,
    DeterministicPolicy,
    GaussianPolicy,
    SquashedGaussianPolicy,
)

LOW, HIGH = (-2.0, 0.0), (2.0, 1.0)


def every_parameter_learns(network: nn.Module, loss: torch.Tensor) -> None:
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_categorical() -> None:
    torch.manual_seed(0)
    policy, x = CategoricalPolicy((4,), 3, orthogonal=False), torch.randn(6, 4)
    distribution = policy(x)
    assert isinstance(distribution, Categorical)
    logits = policy.head.linear(policy.features(x))
    actions = distribution.sample()
    assert actions.shape == (6,)
    expected = logits.log_softmax(-1)[torch.arange(6), actions]
    torch.testing.assert_close(distribution.log_prob(actions), expected)
    entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(distribution.entropy(), entropy)
    assert torch.equal(distribution.mode, logits.argmax(-1))
    every_parameter_learns(policy, -distribution.log_prob(actions).mean())


def test_a_table_of_states_is_a_softmax_of_its_own() -> None:
    """Without hidden layers a state's row of the head decides its actions, and no other's."""
    policy = CategoricalPolicy((), 2, num_observations=3, hidden_channels=())
    with torch.no_grad():
        policy.head.linear.weight.copy_(torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]]))
    found = policy(torch.tensor([0, 1, 2])).probs[:, 0]
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 2.0]).sigmoid())


def test_gaussian() -> None:
    torch.manual_seed(0)
    policy, x = GaussianPolicy((4,), 2, log_std=-0.5), torch.randn(6, 4)
    distribution = policy(x)
    assert isinstance(distribution, Independent)
    assert (distribution.batch_shape, distribution.event_shape) == ((6,), (2,))
    mean = policy.head.linear(policy.features(x))
    actions = distribution.sample()
    expected = Normal(mean, torch.tensor(-0.5).exp()).log_prob(actions).sum(-1)
    torch.testing.assert_close(distribution.log_prob(actions), expected)
    # A Gaussian's entropy is ln(2 pi e) / 2 + ln s, for each of two entries.
    assert distribution.entropy().tolist() == pytest.approx([2 * (1.4189385 - 0.5)] * 6)
    torch.testing.assert_close(distribution.mode, mean)
    every_parameter_learns(policy, -distribution.log_prob(actions).mean())


def test_squashed_gaussian() -> None:
    torch.manual_seed(0)
    policy, x = SquashedGaussianPolicy((4,), LOW, HIGH, hidden_channels=(8,)), torch.randn(6, 4)
    distribution = policy(x)
    assert (distribution.batch_shape, distribution.event_shape) == ((6,), (2,))
    action, log_prob = distribution.rsample_with_log_prob()
    assert (action.shape, log_prob.shape) == ((6, 2), (6,))
    assert bool(((action > torch.tensor(LOW)) & (action < torch.tensor(HIGH))).all())
    mean, log_std = policy.head(policy.features(x)).split(2, dim=-1)
    torch.testing.assert_close(distribution.loc, mean)
    torch.testing.assert_close(distribution.log_std, log_std)
    every_parameter_learns(policy, (log_prob - action.sum(-1)).mean())
    with torch.no_grad():
        policy.head.bias[2:] = 50.0
    assert policy(x).log_std.unique().item() == 2.0


def test_deterministic() -> None:
    torch.manual_seed(0)
    policy = DeterministicPolicy((4,), LOW, HIGH, hidden_channels=(8,), orthogonal=False)
    x = torch.randn(6, 4)
    raw = policy.head(policy.features(x))
    expected = torch.stack([2 * raw[:, 0].tanh(), 0.5 + 0.5 * raw[:, 1].tanh()], dim=1)
    torch.testing.assert_close(policy(x), expected)
    every_parameter_learns(policy, policy(x).sum())
    with torch.no_grad():
        policy.head.bias.copy_(torch.tensor([50.0, -50.0]))
    assert policy(x)[0].tolist() == [2.0, 0.0]
    assert {"action_low", "action_high"} <= set(policy.state_dict())


@pytest.mark.parametrize("kind", ["categorical", "gaussian", "squashed"])
@torch.no_grad()
def test_a_start_without_preferences(kind) -> None:
    """The small head: whatever it sees, all actions are nearly as good at first."""
    torch.manual_seed(0)
    x = 3 * torch.randn(50, 4)
    if kind == "categorical":
        probabilities = CategoricalPolicy((4,), 2)(x).probs
        assert float((probabilities - 0.5).abs().max()) < 0.02
        off = CategoricalPolicy((4,), 2, orthogonal=False)(x).probs
        assert float((off - 0.5).abs().max()) > 0.05
    elif kind == "gaussian":
        assert float(GaussianPolicy((4,), 2)(x).mean.abs().max()) < 0.1
    else:
        assert float(SquashedGaussianPolicy((4,), LOW, HIGH)(x).loc.abs().max()) < 0.2


class RingOfNodes(nn.Module):
    """Observations of five nodes on a ring, read by a graph network."""

    def __init__(self) -> None:
        super().__init__()
        self.gnn = GCN(3, 6, hidden_channels=8, dropout=0.0)
        nodes = torch.arange(5)
        ahead = torch.stack([nodes, (nodes + 1) % 5])
        self.register_buffer("edge_index", torch.cat([ahead, ahead.flip(0)], dim=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [B, 5, 3] -> [B, 6]
        return torch.stack([self.gnn(nodes, self.edge_index).mean(0) for nodes in x])


def test_a_graph_network_as_trunk() -> None:
    """Turning the ring changes no probability, as the graph network promises."""
    torch.manual_seed(0)
    policy = CategoricalPolicy((5, 3), 4, trunk=RingOfNodes(), orthogonal=False)
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(policy(x).probs, policy(x.roll(2, dims=1)).probs)
    assert not torch.allclose(policy(x).probs, policy(x.flip(2)).probs)
    every_parameter_learns(policy, policy(x).log_prob(torch.tensor([1, 2])).sum())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: CategoricalPolicy((4,), 0),
            "num_actions=0: .* a GaussianPolicy for real-valued actions",
        ),
        (
            lambda: GaussianPolicy((4,), 0),
            "action_dim=0: .* a CategoricalPolicy for discrete actions",
        ),
        (lambda: SquashedGaussianPolicy((4,), (), ()), "for discrete actions use Categorical"),
        (lambda: SquashedGaussianPolicy((4,), (1.0,), (-1.0,)), "finite and in order"),
        (lambda: DeterministicPolicy((4,), (0.0,), (float("inf"),)), "finite and in order"),
        (lambda: DeterministicPolicy((4,), (0.0,), (1.0, 1.0)), "both bounds of each entry"),
    ],
)
def test_bad_input(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build()

"""A graph network as the trunk of a policy: what the edges tell decides, and nothing else does."""

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from learning_cases import Case, run
from torch import Tensor, nn

from trellis.datamodules.rl.environment_rollouts import EnvironmentRollouts
from trellis.lightning_modules.rl.ppo import PPO
from trellis.networks.graph.gnn import GraphSAGE, NodeMLP
from trellis.networks.graph.graph_network import GraphNetwork
from trellis.networks.rl.value import ActorCriticNetwork
from trellis.optim.schedule import Schedule

NODES = 7
# A ring with a chord.
EDGES = [(i, (i + 1) % NODES) for i in range(NODES)] + [(0, 3)]
STEPS = 4


class Fires(gymnasium.Env):
    """A walker on a graph, moved about, says in each step whether a node beside it burns.

    Two nodes burn, whether or not one is near, so that there is nothing to see without the edges.
    """

    observation_space, action_space = Box(0.0, 1.0, (NODES, 2)), Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self._next(), {}

    def _next(self) -> np.ndarray:
        here = int(self.np_random.integers(NODES))
        near = {a + b - here for a, b in EDGES if here in (a, b)}
        far = [node for node in range(NODES) if node != here and node not in near]
        self.danger = int(self.np_random.integers(2))
        burning = list(self.np_random.choice(far, 2 - self.danger, replace=False))
        if self.danger:
            burning.append(self.np_random.choice(sorted(near)))
        seen = np.zeros((NODES, 2), dtype=np.float32)
        seen[here, 0], seen[burning, 1] = 1.0, 1.0
        return seen

    def step(self, action: Any) -> Any:
        reward, self.time = float(action == self.danger), self.time + 1
        return self._next(), reward, self.time == STEPS, False, {}


if "TestFires-v0" not in gymnasium.registry:
    gymnasium.register("TestFires-v0", Fires)


class OnGraph(nn.Module):
    """A network of graphs on one graph whose nodes are observed: ``[B, NODES, 2] -> [B, 16]``."""

    edges: Tensor

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.network = GraphNetwork(2, 16, encoder=encoder, hidden_channels=16, dropout=0.0)
        edges = torch.tensor(EDGES).T
        self.register_buffer("edges", torch.cat([edges, edges.flip(0)], dim=1))

    def forward(self, x: Tensor) -> Tensor:
        graphs = torch.arange(len(x), device=x.device)
        edges = (self.edges[:, None] + NODES * graphs[:, None]).flatten(1)
        return self.network(x.flatten(0, 1), edges, graphs.repeat_interleave(NODES), len(x))


class OnGraphPolicy(ActorCriticNetwork):
    """A policy and a value on a graph each."""

    def __init__(self, encoder: Any, **sizes: Any) -> None:
        super().__init__(trunk=OnGraph(encoder), hidden_channels=(), **sizes)


@pytest.mark.long
@pytest.mark.parametrize(
    ("encoder", "least", "most"),
    [(GraphSAGE, 0.95, 1.0), (NodeMLP, 0.3, 0.7)],
    ids=["graph", "no graph"],
)
def test_sees_what_is_beside_it_along_the_edges(
    encoder: Any, least: float, most: float, tmp_path: Path
) -> None:
    data = partial(EnvironmentRollouts, "TestFires-v0", 8, 64, 8 * 64 * 9, num_val_episodes=50)
    network = partial(OnGraphPolicy, encoder=partial(encoder, num_layers=2, dropout=0.0))
    objective = partial(
        PPO, network, partial(torch.optim.Adam, lr=0.01),
        lr_scheduler=partial(Schedule, decay="linear"), gamma=0.9,
    )  # fmt: skip
    done = run(Case(objective, data), tmp_path, val_check_interval=1.0, max_epochs=1)
    assert done.error is None
    assert least <= done.recorder.metrics[-1]["val/return"] / STEPS <= most


def test_names_of_nodes_do_not_matter() -> None:
    """The trunk sees a graph: turning the ring with what is on it changes nothing."""
    trunk = OnGraph(partial(GraphSAGE, num_layers=2, dropout=0.0))
    mirror = torch.tensor([(3 - node) % NODES for node in range(NODES)])  # keeps the chord
    x = torch.rand(5, NODES, 2)
    torch.testing.assert_close(trunk(x), trunk(x[:, mirror]))
    assert not torch.allclose(trunk(x), trunk(x.roll(1, dims=1)))

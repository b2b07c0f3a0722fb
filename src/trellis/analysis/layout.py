"""A force-directed layout of graphs."""

import numpy as np
import torch
from torch import Tensor

MAX_PAIRS = 300_000  # pairs of nodes whose repulsion is computed in one step
GRAVITY = 0.5  # unconnected nodes settle about one unit apart, in a disc of area 2 pi N


def graph_layout(edge_index: Tensor, num_nodes: int, *, steps: int = 100, seed: int = 0) -> Tensor:
    r"""Positions in the plane with neighbours close to each other and other nodes apart.

    .. math:: f_i = \sum_j \frac{x_i - x_j}{\|x_i - x_j\|^2}
              - \sum_{j \in N(i)} \|x_i - x_j\| (x_i - x_j) - g x_i

    A step moves a node along its force, up to a limit that shrinks to zero. The weak gravity g
    keeps the components of a graph together.

    Args:
        edge_index: edges; direction, duplicates and self-loops do not matter.
        num_nodes: N.
        steps: of the simulation.
        seed: of the initial positions and of the samples; the same seed gives the same layout.
    Shape:
        edge_index ``[2, E]`` -> ``[N, 2]``, with mean 0 and a mean distance of 1 from it
    Raises:
        ValueError: an edge has a node that does not exist.

    Source: Fruchterman and Reingold 1991.
    Deviates: it starts from smoothed noise; in large graphs the repulsion is estimated from a
        sample of the nodes in each step, so that a step costs O(N) instead of O(N^2).
    """
    if edge_index.numel() and int(edge_index.max()) >= num_nodes:
        raise ValueError(
            f"edge_index holds node {int(edge_index.max())}: give 0 to num_nodes - 1 = "
            f"{num_nodes - 1}"
        )
    if num_nodes == 0:
        return torch.zeros(0, 2)
    # NumPy: many small operations are faster without torch's overhead.
    random = np.random.default_rng(seed)
    source, target = _simple_edges(edge_index.detach().cpu().numpy(), num_nodes)
    radius = num_nodes**0.5
    x = _smoothed(random.standard_normal((num_nodes, 2)), source, target) * radius
    sample = min(num_nodes, max(MAX_PAIRS // num_nodes, 16))
    for step in range(steps):
        others = x[random.permutation(num_nodes)[:sample]]
        offset = x[:, None] - others  # [N, sample, 2]
        nearness = 1 / np.maximum((offset**2).sum(-1), 1e-2)
        force = (nearness[..., None] * offset).sum(1) * (num_nodes / sample)
        pull = x[source] - x[target]
        pull *= np.linalg.norm(pull, axis=-1, keepdims=True)
        force += _sum_at(target, pull, num_nodes) - GRAVITY * x
        limit = 0.2 * radius * (1 - step / steps)
        x = x + force * limit / np.maximum(np.linalg.norm(force, axis=-1, keepdims=True), limit)
    x = x - x.mean(0)
    return torch.from_numpy(x / max(np.linalg.norm(x, axis=-1).mean(), 1e-9)).float()


def _simple_edges(edge_index: np.ndarray, num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Each edge once in both directions, without self-loops."""
    both = np.concatenate([edge_index, edge_index[::-1]], axis=1)
    both = both[:, both[0] != both[1]]
    codes = np.unique(both[0] * num_nodes + both[1])
    return codes // num_nodes, codes % num_nodes


def _sum_at(index: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Rows of ``values`` summed by ``index``."""
    columns = [np.bincount(index, weights=column, minlength=size) for column in values.T]
    return np.stack(columns, axis=1)


def _smoothed(
    x: np.ndarray, source: np.ndarray, target: np.ndarray, rounds: int = 100
) -> np.ndarray:
    """Noise averaged over neighbours repeatedly, which brings neighbours close to each other.

    This is the power iteration towards the leading eigenvectors of the graph's lazy random walk;
    the second column is kept orthogonal to the first.
    """
    degree = np.maximum(np.bincount(target, minlength=len(x)), 1)[:, None]
    for _ in range(rounds):
        x = 0.5 * x + 0.5 * _sum_at(target, x[source], len(x)) / degree
        x = x - x.mean(0)
        first, second = x.T
        second = second - first * (first @ second) / max(first @ first, 1e-12)
        x = np.stack([first, second], axis=1)
        x = x / np.maximum(x.std(0), 1e-9)
    # Ranks instead of values: no outliers, and no cluster in the middle.
    return 2 * x.argsort(0).argsort(0) / len(x) - 1

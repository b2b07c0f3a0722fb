"""Walks, samples of neighbourhoods and skip-gram steps beside loops in plain Python.

``pytest tests/benchmarks/test_walk_speed.py -m slow -s``
"""

import random
import time
from collections.abc import Callable
from functools import partial

import networkx as nx
import pytest
import torch
from measurements import report

from trellis.functional.skip_gram import Noise, SkipGramBatch, context_windows
from trellis.graph import Neighbours, NeighbourSampler, random_walks
from trellis.lightning_modules.sequence import SkipGram
from trellis.networks.sequence import SkipGramEmbedding
from trellis.spec import EmbeddingSpec

NODES, EDGES, LENGTH, FAN_OUT = 20_000, 200_000, 40, (15, 10)


@pytest.fixture(scope="module", name="edges")
def _edges() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    half = torch.randint(NODES, (2, EDGES), generator=generator)
    return torch.cat([half, half.flip(0)], 1).unique(dim=1)


def rate(work: Callable[[], int], repeats: int = 3) -> float:
    """How many a second, at best, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best = 0.0
    for _ in range(repeats):
        start = time.process_time()
        count = work()
        best = max(best, count / (time.process_time() - start))
    torch.set_num_threads(threads)
    return best


def lists(graph: Neighbours) -> list[list[int]]:
    return [part.tolist() for part in graph.nodes.split(graph.degrees.tolist())]


@pytest.mark.slow
@pytest.mark.parametrize(("p", "q", "least"), [(1.0, 1.0, 50), (4.0, 0.25, 5)])
def test_walks_beat_a_python_loop(edges: torch.Tensor, p: float, q: float, least: float) -> None:
    graph = Neighbours(edges, NODES)
    theirs = nx.Graph(edges.t().tolist())

    def next_node(before: int, now: int) -> int:
        neighbours = list(theirs.neighbors(now))
        if p == q == 1 or before < 0:
            return random.choice(neighbours)
        weights = [
            1 / p if x == before else 1.0 if theirs.has_edge(before, x) else 1 / q
            for x in neighbours
        ]
        return random.choices(neighbours, weights)[0]

    def loop() -> int:
        for start in range(300):
            before, now, walk = -1, start, [start]
            for _ in range(LENGTH):
                before, now = now, next_node(before, now)
                walk.append(now)
        return 300

    def ours() -> int:
        random_walks(graph, torch.arange(NODES), LENGTH, p=p, q=q)
        return NODES

    sides = {"trellis": [rate(ours)], "a loop over networkx": [rate(loop)]}
    ratio = sides["trellis"][0] / sides["a loop over networkx"][0]
    print(f"\nwalks/s, p={p}, q={q}: {sides['trellis'][0]:,.0f}, {ratio:.1f} times the loop's")
    report(f"Walks of {LENGTH} steps, p={p:g}, q={q:g}", "walks/s", sides)
    assert ratio >= least


@pytest.mark.slow
def test_samples_beat_a_python_sampler(edges: torch.Tensor) -> None:
    graph = Neighbours(edges, NODES, incoming=True)
    neighbours, sampler = lists(graph), NeighbourSampler(graph, FAN_OUT)

    def loop() -> int:
        seeds = list(range(512))
        places, found, frontier = {n: i for i, n in enumerate(seeds)}, [], seeds
        for fan_out in FAN_OUT:
            reached = []
            for node in frontier:
                mine = neighbours[node]
                for source in mine if len(mine) <= fan_out else random.sample(mine, fan_out):
                    if source not in places:
                        places[source] = len(places)
                        reached.append(source)
                    found.append((places[source], places[node]))
            frontier = reached
        torch.tensor(list(places)), torch.tensor(found).t()
        return len(found)

    def ours() -> int:
        return sampler.sample(torch.arange(512)).edge_index.size(1)

    sides = {"trellis": [rate(ours, 10)], "loop": [rate(loop)]}
    ratio = sides["trellis"][0] / sides["loop"][0]
    print(f"\nedges/s: {sides['trellis'][0]:,.0f}, {ratio:.1f} times the loop's")
    report("Samples of 512 seeds, fan-out 15 and 10", "edges/s", sides)
    assert ratio >= 10


@pytest.mark.slow
def test_skip_gram_pairs_a_second(edges: torch.Tensor) -> None:
    graph = Neighbours(edges, NODES)
    center, context = context_windows(random_walks(graph, torch.arange(32), LENGTH), 5)
    negatives = Noise(torch.ones(NODES)).draw(len(center), 5)
    batch, pairs = SkipGramBatch(center, context, negatives), int((context >= 0).sum())
    rates = {}
    for sparse in (False, True):
        adam = torch.optim.SparseAdam if sparse else partial(torch.optim.Adam, fused=True)
        objective = SkipGram(SkipGramEmbedding, adam, spec=EmbeddingSpec(NODES))
        objective.configure_model()
        for table in (objective.network.center, objective.network.context):
            table.sparse = sparse
        optimizer = adam(objective.parameters())

        def steps(objective=objective, optimizer=optimizer) -> int:
            for _ in range(5):
                optimizer.zero_grad()
                objective.training_step(batch, 0).backward()
                optimizer.step()
            return 5 * pairs

        rates["sparse gradients" if sparse else "trellis"] = [rate(steps)]
    print("\npairs/s: " + ", ".join(f"{k} {v[0]:,.0f}" for k, v in rates.items()))
    report(f"Skip-gram steps, {NODES} nodes of width 128", "pairs/s", rates)
    assert rates["trellis"][0] > 0

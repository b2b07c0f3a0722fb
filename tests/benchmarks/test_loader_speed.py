"""What batches cost: images against indexing a float tensor, graphs against PyG's collation.

Both sides run in turns in the same process; ``pytest tests/benchmarks/test_loader_speed.py -s``.
"""

import time
from collections.abc import Callable, Iterable

import pytest
import torch
from measurements import report
from torch_geometric.data import Batch

from trellis.datamodules.graph.in_memory_graphs import InMemoryGraphs
from trellis.datamodules.image.mnist import MNIST

IMAGES, GRAPHS = 20_000, 188


def seconds(*sides: Callable[[], Iterable], repeats: int = 5) -> list[float]:
    """Shortest time of each side, run in turns so that a slow moment meets all of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best = [float("inf")] * len(sides)
    for _ in range(repeats):
        for number, side in enumerate(sides):
            start = time.process_time()
            for _ in side():
                pass
            best[number] = min(best[number], time.process_time() - start)
    torch.set_num_threads(threads)
    return best


@pytest.mark.parametrize("batch_size", [32, 64, 256])
def test_image_batches_are_as_fast_as_indexing_floats(batch_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (IMAGES, 784), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (IMAGES,), generator=generator)
    floats = pixels.float().div(255).view(-1, 1, 28, 28)
    data = MNIST(batch_size=batch_size)
    data.splits = {"train": (pixels, labels)}
    loader = data.train_dataloader()

    def bare() -> Iterable:
        for indices in torch.randperm(IMAGES).split(batch_size):
            yield floats[indices], labels[indices]

    def selected() -> Iterable:
        for indices in torch.randperm(IMAGES).split(batch_size):
            yield floats.index_select(0, indices), labels.index_select(0, indices)

    ours, indexed, gathered = seconds(lambda: loader, bare, selected)
    print(
        f"\nbatches of {batch_size}: {IMAGES / ours:,.0f} images/s, {indexed / ours:.2f}x x[i], "
        f"{gathered / ours:.2f}x index_select"
    )
    sides = {"trellis": ours, "x[i] of floats": indexed, "index_select of floats": gathered}
    rates = {name: [IMAGES / spent] for name, spent in sides.items()}
    report(f"Batches of {batch_size} images", "images/s", rates)
    assert indexed / ours >= 0.8


def test_graph_batches_beat_collation() -> None:
    generator = torch.Generator().manual_seed(0)
    nodes = torch.randint(10, 28, (GRAPHS,), generator=generator)
    first = nodes.cumsum(0) - nodes
    owner = torch.arange(GRAPHS).repeat_interleave(nodes).repeat(2)
    ends = torch.rand(2, len(owner), generator=generator) * nodes[owner]
    graphs = InMemoryGraphs(
        x=torch.rand(int(nodes.sum()), 7, generator=generator),
        edge_index=ends.long() + first[owner],
        y=torch.randint(0, 2, (GRAPHS,), generator=generator),
        nodes=nodes,
    )
    objects = graphs.batch(torch.arange(GRAPHS)).to_data_list()
    orders = torch.randperm(GRAPHS, generator=generator).split(32)[:-1]

    ours, collated = seconds(
        lambda: (graphs.batch(order) for order in orders),
        lambda: (Batch.from_data_list([objects[i] for i in order.tolist()]) for order in orders),
    )
    print(
        f"\n32 graphs: {ours / len(orders) * 1e3:.2f} ms, {collated / ours:.1f}x PyG's collation"
    )
    sides = {"trellis": ours, "PyG's collation": collated}
    spans = {name: [1e3 * spent / len(orders)] for name, spent in sides.items()}
    report("A batch of 32 graphs", "ms", spans)
    assert collated / ours >= 2

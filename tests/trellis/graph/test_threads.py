"""Gradients of sums over edges do not depend on which thread comes first."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from trellis.graph import RelationalLayer, SAGELayer, all_pairs_loss
from trellis.networks.graph import (
    RGCN,
    BilinearDecoder,
    DistMult,
    InnerProductDecoder,
    MLPDecoder,
)

NODES, EDGES, WIDTH = 60, 40_000, 32
LINKS = torch.randint(NODES, (2, EDGES), generator=torch.Generator().manual_seed(0))
TYPES = LINKS[0] % 3

Case = tuple[Callable[[], nn.Module], Callable[[nn.Module, Tensor], Tensor]]
CASES: dict[str, Case] = {
    "SAGELayer": (lambda: SAGELayer(WIDTH, WIDTH, False), lambda layer, x: layer(x, LINKS)),
    "RelationalLayer": (
        lambda: RelationalLayer(WIDTH, WIDTH, 3, 2),
        lambda layer, x: layer(x, LINKS, TYPES),
    ),
    "RGCN": (
        lambda: RGCN(NODES, 3, embed_dim=WIDTH),
        lambda network, x: network(LINKS[0], TYPES, LINKS, TYPES, candidates=LINKS[1][:400]),
    ),
    "DistMult": (
        lambda: DistMult(NODES, 3, embed_dim=WIDTH),
        lambda network, x: network(LINKS[0, :400], TYPES[:400], candidates=LINKS[1]),
    ),
    "all_pairs_loss": (
        nn.Identity,
        lambda _, x: all_pairs_loss(x @ x.t(), LINKS, torch.ones(EDGES)),
    ),
    **{
        decoder.__name__: (lambda decoder=decoder: decoder(WIDTH), lambda made, x: made(x, LINKS))
        for decoder in (InnerProductDecoder, BilinearDecoder, MLPDecoder)
    },
}


@pytest.fixture
def _many_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_many_threads")
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_bit_equal_with_many_threads(name: str) -> None:
    make, call = CASES[name]
    seen = []
    for _ in range(4):
        torch.manual_seed(0)
        x, module = torch.randn(NODES, WIDTH, requires_grad=True), make()
        out = call(module, x)
        out.backward(torch.linspace(-1, 1, out.numel()).view(out.shape))
        leaves = (x, *module.parameters())
        seen.append(torch.cat([t.grad.flatten() for t in leaves if t.grad is not None]))
    assert all(each.equal(seen[0]) for each in seen)

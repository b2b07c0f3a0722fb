"""Ranks and known answers against their definitions; the relational layer against PyG's."""

import torch
from torch_geometric.nn import RGCNConv

from trellis.graph.relational import RelationalLayer
from trellis.graph.triples import KnownAnswers, both_ways, ranks


def triples(number: int, num_entities: int, num_relations: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    heads, tails = (torch.randint(num_entities, (number,), generator=generator) for _ in range(2))
    relations = torch.randint(num_relations, (number,), generator=generator)
    return torch.stack([heads, relations, tails], 1).unique(dim=0)


def test_known_answers_and_ranks_are_those_of_a_loop() -> None:
    everything = triples(60, 7, 3)
    known = KnownAnswers(everything, num_entities=7, num_relations=3)
    asked = both_ways(everything[::4], 3)
    torch.manual_seed(0)
    scores = torch.randint(5, (len(asked[0]), 7)).float()  # with many equal ones
    found = ranks(scores, asked[2], known.others(*asked))
    true = {tuple(t) for t in torch.stack(both_ways(everything, 3), 1).tolist()}
    for row, (head, relation, tail) in enumerate(torch.stack(asked, 1).tolist()):
        others = [e for e in range(7) if e != tail and (head, relation, e) not in true]
        above = sum(bool(scores[row, e] > scores[row, tail]) for e in others)
        equal = sum(bool(scores[row, e] == scores[row, tail]) for e in others)
        assert found[row] == 1 + above + equal / 2
    assert (ranks(scores, asked[2]) >= found).all()


def test_the_relational_layer_is_that_of_pyg() -> None:
    torch.manual_seed(0)
    edge_index, edge_type = torch.randint(9, (2, 40)), torch.randint(4, (40,))
    layer, x = RelationalLayer(5, 3, num_relations=4, num_bases=2).double(), torch.randn(9, 5)
    peer = RGCNConv(5, 3, num_relations=4, num_bases=2).double()
    with torch.no_grad():
        peer.weight.copy_(layer.bases)
        peer.comp.copy_(layer.coefficients)
        peer.root.copy_(layer.own.weight.t())
        peer.bias.copy_(layer.own.bias)
    x = x.double()
    torch.testing.assert_close(layer(x, edge_index, edge_type), peer(x, edge_index, edge_type))
    kept = torch.rand(40) < 0.5
    torch.testing.assert_close(
        layer(x, edge_index, edge_type, kept), peer(x, edge_index[:, kept], edge_type[kept])
    )

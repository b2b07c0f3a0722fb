"""Scores of triples against PyG's networks with the same weights."""

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.nn import kge

from trellis.networks.graph.knowledge_graph import RGCN, ComplEx, DistMult, TransE

HEAD, RELATION = torch.tensor([0, 3, 5]), torch.tensor([1, 0, 1])


def ours_and_theirs(name: str):
    torch.manual_seed(0)
    ours = {"DistMult": DistMult, "ComplEx": ComplEx, "TransE": TransE}[name](6, 2, embed_dim=4)
    theirs = getattr(kge, name)(6, 2, 4)
    with torch.no_grad():
        if name == "ComplEx":
            for part, ends in (("node_emb", ours.entities), ("rel_emb", ours.relations)):
                real, imaginary = ends.weight.chunk(2, dim=1)
                getattr(theirs, part).weight.copy_(real)
                getattr(theirs, f"{part}_im").weight.copy_(imaginary)
        else:
            if name == "TransE":  # theirs normalises entities in each call
                ours.entities.weight.copy_(F.normalize(ours.entities.weight, p=1.0, dim=-1))
            theirs.node_emb.weight.copy_(ours.entities.weight)
            theirs.rel_emb.weight.copy_(ours.relations.weight)
    return ours, theirs


@pytest.mark.parametrize("name", ["DistMult", "ComplEx", "TransE"])
def test_scores_are_those_of_pyg(name: str) -> None:
    ours, theirs = ours_and_theirs(name)
    scores = ours(HEAD, RELATION)
    expected = [theirs(HEAD, RELATION, torch.full((3,), tail)) for tail in range(6)]
    torch.testing.assert_close(scores, torch.stack(expected, 1), atol=1e-6, rtol=1e-5)
    some = torch.tensor([1, 5, 4, 4])
    torch.testing.assert_close(ours(HEAD, RELATION, some), scores[:, some])


def test_only_complex_numbers_tell_directions_apart() -> None:
    for network, symmetric in ((DistMult(6, 2), True), (ComplEx(6, 2), False)):
        there = network(HEAD, RELATION)[:, 2]
        back = network(torch.full((3,), 2), RELATION).gather(1, HEAD[:, None])[:, 0]
        assert torch.allclose(there, back, atol=1e-6) is symmetric


def test_factors_are_what_a_triple_is_made_of() -> None:
    network = ComplEx(6, 2, embed_dim=4)
    entities = torch.view_as_complex(
        torch.stack(network.entities.weight.chunk(2, dim=1), dim=-1).contiguous()
    )
    head, _, tail = network.factors(HEAD, RELATION, HEAD.flip(0))
    torch.testing.assert_close(head, entities[HEAD].abs())
    torch.testing.assert_close(tail, entities[HEAD.flip(0)].abs())


def test_an_entity_reads_its_neighbours_and_in_training_not_all() -> None:
    torch.manual_seed(0)
    network = RGCN(6, 2, embed_dim=4, edge_dropout=1.0)
    edge_index, edge_type = torch.tensor([[1], [0]]), torch.tensor([1])
    alone = network.eval()(HEAD, RELATION)
    read = network(HEAD, RELATION, edge_index, edge_type)
    assert not torch.allclose(read[0], alone[0])
    torch.testing.assert_close(read[1:, 1:], alone[1:, 1:])  # entity 0 alone is a target
    torch.testing.assert_close(network.train()(HEAD, RELATION, edge_index, edge_type), alone)

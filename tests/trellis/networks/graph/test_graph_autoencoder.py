"""Graph autoencoders are PyG's with the same weights; decoders are their formulas."""

from functools import partial

import pytest
import torch
from torch_geometric import nn as pyg
from torch_geometric.nn import GCNConv

from trellis.networks.graph import (
    GAE,
    GAT,
    GCN,
    VGAE,
    BilinearDecoder,
    GraphSAGE,
    InnerProductDecoder,
    MLPDecoder,
    OverlapScore,
)

EDGES = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])
LINKS = torch.tensor([[0, 1, 4], [2, 3, 4]])


class TheirEncoder(torch.nn.Module):
    """The encoder of PyG's example."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.first = GCNConv(6, 8)
        self.heads = torch.nn.ModuleList(GCNConv(8, 4) for _ in range(heads))

    def forward(self, x, edge_index):
        hidden = self.first(x, edge_index).relu()
        out = tuple(head(hidden, edge_index) for head in self.heads)
        return out if len(out) > 1 else out[0]

    def copy_of(self, network: GCN) -> None:
        first, last = network.convolutions
        self.first.load_state_dict(first.state_dict())
        for number, head in enumerate(self.heads):
            part = slice(4 * number, 4 * number + 4)
            head.load_state_dict({name: w[part] for name, w in last.state_dict().items()})


encoder = partial(GCN, hidden_channels=8, dropout=0.0)


def test_gae_is_pygs_with_the_same_weights() -> None:
    torch.manual_seed(0)
    x, ours = torch.randn(6, 6), GAE(6, encoder=encoder, latent_dim=4)
    theirs = pyg.GAE(TheirEncoder(1))  # which draws its weights anew
    theirs.encoder.copy_of(ours.encoder)
    z = theirs.encode(x, EDGES)
    torch.testing.assert_close(ours.encode(x, EDGES), z)
    torch.testing.assert_close(
        ours(x, EDGES, LINKS).logits, theirs.decode(z, LINKS, sigmoid=False)
    )
    every = theirs.decoder.forward_all(z, sigmoid=False)
    torch.testing.assert_close(ours(x, EDGES).logits, every)
    assert ours(x, EDGES, LINKS).kl is None


def test_vgae_is_pygs_with_the_same_weights() -> None:
    torch.manual_seed(0)
    x, ours = torch.randn(6, 6), VGAE(6, encoder=encoder, latent_dim=4)
    theirs = pyg.VGAE(TheirEncoder(2))  # which draws its weights anew
    theirs.encoder.copy_of(ours.encoder)
    torch.manual_seed(1)
    z = theirs.encode(x, EDGES)
    torch.manual_seed(1)
    sampled = ours(x, EDGES, LINKS)
    torch.testing.assert_close(sampled.logits, theirs.decode(z, LINKS, sigmoid=False))
    torch.testing.assert_close(sampled.kl.mean(), theirs.kl_loss())
    theirs.eval()
    means = theirs.encode(x, EDGES)
    torch.testing.assert_close(
        ours.eval()(x, EDGES, LINKS).logits, theirs.decode(means, LINKS, sigmoid=False)
    )


@pytest.mark.parametrize("encoder", [GCN, GAT, GraphSAGE])
@pytest.mark.parametrize("decoder", [InnerProductDecoder, BilinearDecoder, MLPDecoder])
@pytest.mark.parametrize("network", [GAE, VGAE])
def test_any_encoder_goes_with_any_decoder(network, decoder, encoder) -> None:
    torch.manual_seed(0)
    made = network(6, encoder=encoder, decoder=decoder, latent_dim=4)
    x = torch.randn(6, 6)
    scores = made.eval()(x, EDGES, LINKS)
    assert scores.logits.shape == (3,)
    made.train()(x, EDGES, LINKS).logits.sum().backward()
    unused = [n for n, p in made.named_parameters() if p.grad is None and "encoder" in n]
    assert not unused


def test_decoders_are_their_formulas() -> None:
    torch.manual_seed(0)
    z, bilinear, mlp = torch.randn(6, 4), BilinearDecoder(4), MLPDecoder(4, hidden_channels=5)
    torch.testing.assert_close(bilinear(z, LINKS), InnerProductDecoder(4)(z, LINKS))
    torch.nn.init.normal_(bilinear.weight)
    for number, (u, v) in enumerate(LINKS.t().tolist()):
        one = sum(z[u, i] * bilinear.weight[i, j] * z[v, j] for i in range(4) for j in range(4))
        torch.testing.assert_close(bilinear(z, LINKS)[number], one)
        torch.testing.assert_close(mlp(z, LINKS)[number], mlp.mlp((z[u] * z[v])[None])[0, 0])
    torch.testing.assert_close(bilinear(z)[LINKS[0], LINKS[1]], bilinear(z, LINKS))
    assert not torch.allclose(bilinear(z, LINKS), bilinear(z, LINKS.flip(0)))
    torch.testing.assert_close(mlp(z, LINKS), mlp(z, LINKS.flip(0)))
    with pytest.raises(ValueError, match="MLPDecoder scores no N x N pairs at once: train with"):
        mlp(z)


def test_weights_of_edges_reach_the_encoder() -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(6, 6), torch.rand(6)
    network = GAE(6, encoder=encoder)
    z = network.encoder(x, EDGES, edge_weight=weights)
    torch.testing.assert_close(network.encode(x, EDGES, weights), z)
    assert not torch.allclose(network.encode(x, EDGES), z)
    with pytest.raises(ValueError, match="GAE: its encoder GAT takes no edge_weight: choose GCN"):
        GAE(6, encoder=GAT)(x, EDGES, LINKS, edge_weight=weights)


def test_overlap_keeps_the_order_of_scores() -> None:
    x, network = torch.zeros(6, 1), OverlapScore(1, score="common_neighbours")
    torch.nn.init.constant_(network.log_scale, 0.5)
    torch.nn.init.constant_(network.shift, -2.0)
    links = torch.tensor([[0, 0], [2, 3]])  # one neighbour in common, and none
    logits = network(x, EDGES, links).logits
    expected = torch.tensor([0.5, -torch.inf], dtype=torch.float64).exp() - 2
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match="OverlapScore takes no N x N pairs"):
        network(x, EDGES)


def test_the_smallest_of_katz_indices_stay_apart() -> None:
    path = torch.stack((torch.arange(11), torch.arange(1, 12)))
    links = torch.stack((torch.zeros(6, dtype=torch.long), torch.arange(2, 8)))
    network = OverlapScore(1, score="katz")  # 0.005^7 is 8e-17
    torch.nn.init.constant_(network.shift, -2.0)
    assert bool((network(torch.zeros(12, 1), path, links).logits.diff() < 0).all())

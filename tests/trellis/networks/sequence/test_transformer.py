"""Encoder-decoder transformers: torch's own, a published size, stepping and padding."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.networks.sequence.transformer import Memory, TransformerSeq2Seq
from trellis.nn.transformer_layer import cached_length

V_SOURCE, V_TARGET, D, H, L, FEEDFORWARD = 11, 13, 8, 2, 2, 12
PAD, B, S, T = 1, 3, 7, 6
POSITIONS = ["sinusoidal", "learned", "rotary", "none"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def source() -> Tensor:
    tokens = torch.randint(2, V_SOURCE, (B, S))
    tokens[1, 4:] = PAD
    tokens[2, 1:] = PAD
    return tokens


@pytest.fixture
def target() -> Tensor:
    return torch.randint(2, V_TARGET, (B, T))


def build(**options: object) -> TransformerSeq2Seq:
    """A small transformer in which everything matters."""
    defaults = {
        "embed_dim": D,
        "num_heads": H,
        "num_layers": L,
        "feedforward_dim": FEEDFORWARD,
        "max_length": 9,
        "target_tokens": V_TARGET,
    }
    network = TransformerSeq2Seq(
        V_SOURCE, source_pad_id=PAD, target_pad_id=PAD, **{**defaults, **options}
    ).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network


def copy_(peer: nn.Module, *ours: nn.Module) -> None:
    mine = [parameter for module in ours for parameter in module.parameters()]
    for parameter, theirs in zip(mine, peer.parameters(), strict=True):
        theirs.data = parameter.data


def torch_peer(network: TransformerSeq2Seq, norm_first: bool) -> nn.Transformer:
    """torch's transformer with the same weights."""
    peer = nn.Transformer(
        D, H, L, L, FEEDFORWARD, dropout=0.0, batch_first=True, norm_first=norm_first
    )
    if norm_first:
        copy_(peer.encoder.norm, network.encoder_norm)
        copy_(peer.decoder.norm, network.decoder_norm)
    else:
        peer.encoder.norm = peer.decoder.norm = None
    for theirs, mine in zip(peer.encoder.layers, network.encoder, strict=True):
        copy_(theirs.self_attn, mine.attention)
        copy_(theirs.norm1, mine.residual.norm)
        copy_(theirs.linear1, mine.feedforward.hidden)
        copy_(theirs.linear2, mine.feedforward.output)
        copy_(theirs.norm2, mine.feedforward.residual.norm)
    for theirs, mine in zip(peer.decoder.layers, network.decoder, strict=True):
        cross, attention = mine.cross_attention, theirs.multihead_attn
        copy_(theirs.self_attn, mine.attention)
        attention.in_proj_weight.data = torch.cat([cross.query.weight, cross.key_value.weight])
        attention.in_proj_bias.data = torch.cat([cross.query.bias, cross.key_value.bias])
        copy_(attention.out_proj, cross.output)
        copy_(theirs.norm1, mine.residual.norm)
        copy_(theirs.norm2, mine.cross_residual.norm)
        copy_(theirs.norm3, mine.feedforward.residual.norm)
        copy_(theirs.linear1, mine.feedforward.hidden)
        copy_(theirs.linear2, mine.feedforward.output)
    return peer


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("norm_first", [True, False])
def test_it_is_torchs_transformer(norm_first: bool, source: Tensor, target: Tensor) -> None:
    network = build(norm_first=norm_first, positions="learned")
    padding = source == PAD
    expected = torch_peer(network, norm_first)(
        network.source_embedding.weight[source] * D**0.5 + network.source_positions.weight[:S],
        network.target_embedding.weight[target] * D**0.5 + network.target_positions.weight[:T],
        tgt_mask=torch.ones(T, T, dtype=torch.bool).triu(1),
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
    )
    expected = F.linear(expected, network.output.weight, network.output.bias)
    torch.testing.assert_close(network(source, target), expected, rtol=1e-4, atol=1e-4)


def test_the_notebooks_transformer_has_its_size() -> None:
    """pytorch-seq2seq, notebook 6, with its vocabularies."""
    with torch.device("meta"):
        network = TransformerSeq2Seq(
            7853,
            5893,
            source_pad_id=1,
            target_pad_id=1,
            norm_first=False,
            positions="learned",
            max_length=100,
        )
    assert sum(p.numel() for p in network.parameters()) == 9_038_341


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_the_base_model_has_its_published_size() -> None:
    """Vaswani et al. 2017, table 3: 65 million, 37,000 tokens shared by both sides."""
    with torch.device("meta"):
        network = TransformerSeq2Seq(
            37000,
            37000,
            source_pad_id=0,
            target_pad_id=0,
            embed_dim=512,
            num_layers=6,
            feedforward_dim=2048,
            norm_first=False,
            tie="all",
        )
        peer = nn.Transformer(512, 8, 6, 6, 2048)
    size = sum(p.numel() for p in network.parameters())
    assert size == pytest.approx(65e6, rel=0.03)
    layers = sum(p.numel() for p in peer.parameters()) - 4 * 512  # torch's ends in norms anyway
    assert size == layers + 37000 * 512 + 37000


@pytest.mark.parametrize("tie", ["none", "target", "all"])
def test_tied_matrices_are_one(tie: str) -> None:
    network = build(tie=tie, target_tokens=V_SOURCE)
    source, target, output = (
        layer.weight
        for layer in (network.source_embedding, network.target_embedding, network.output)
    )
    assert (output is target) == (tie != "none")
    assert (source is target) == (tie == "all")
    sizes = {
        kind: sum(p.numel() for p in build(tie=kind, target_tokens=V_SOURCE).parameters())
        for kind in ("none", "target", "all")
    }
    assert sizes["none"] - sizes["target"] == sizes["target"] - sizes["all"] == V_SOURCE * D


def test_it_starts_at_the_scale_of_one() -> None:
    network = TransformerSeq2Seq(400, 400, source_pad_id=0, target_pad_id=1, positions="none")
    for embedding, pad in ((network.source_embedding, 0), (network.target_embedding, 1)):
        rows = embedding.weight * network.scale
        assert rows[2:].std().item() == pytest.approx(1, rel=0.05)
        assert rows[pad].eq(0).all()
    bound = (6 / (256 + 512)) ** 0.5
    hidden = network.encoder[0].feedforward.hidden
    assert 0.99 * bound < hidden.weight.abs().max() <= bound
    assert hidden.bias.eq(0).all()


# --- properties ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positions", "norm_first", "pieces"),
    list(itertools.product(POSITIONS, [True, False], [(1,) * T, (2, 1, 3)])),
)
def test_pieces_with_the_state_equal_the_whole(
    positions: str, norm_first: bool, pieces: tuple[int, ...], source: Tensor, target: Tensor
) -> None:
    network = build(positions=positions, norm_first=norm_first)
    memory, state = network.encode(source)
    assert state is None
    outputs, seen = [], 0
    for piece in target.split(pieces, 1):
        logits, state = network.decode(piece, state, memory)
        outputs.append(logits)
        seen += piece.size(1)
        assert cached_length(state) == seen
    whole = network(source, target)
    torch.testing.assert_close(torch.cat(outputs, 1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_more_padding_changes_nothing(positions: str, source: Tensor, target: Tensor) -> None:
    network = build(positions=positions)
    wider = F.pad(source, (0, 2), value=PAD)
    torch.testing.assert_close(network(wider, target), network(source, target))
    alone = torch.cat([network(source[b : b + 1, : n], target[b : b + 1])
                       for b, n in enumerate((S, 4, 1))])  # fmt: skip
    torch.testing.assert_close(alone, network(source, target), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_order_matters_where_there_are_positions(positions: str) -> None:
    """One layer without positions takes the source, and the targets before the last, for sets."""
    network = build(positions=positions, num_layers=1)
    source = torch.randperm(9)[None] + 2
    target = torch.randperm(T)[None] + 2
    order = torch.cat([torch.arange(T - 1).flip(0), torch.tensor([T - 1])])
    last = network(source, target)[:, -1]
    for changed in (network(source.flip(1), target), network(source, target[:, order])):
        assert last.allclose(changed[:, -1], rtol=1e-4, atol=1e-4) == (positions == "none")


def test_no_logit_depends_on_later_targets(source: Tensor, target: Tensor) -> None:
    network, changed = build(), target.clone()
    changed[:, 3] = (changed[:, 3] + 1) % V_TARGET
    before, after = network(source, target), network(source, changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amax(-1).min() > 1e-4


def test_every_logit_depends_on_every_token_of_the_source(source: Tensor, target: Tensor) -> None:
    network = build()
    whole = network(source[:1], target[:1])
    for s in range(S):
        changed = source[:1].clone()
        changed[0, s] = 2 + (changed[0, s] - 1) % (V_SOURCE - 2)
        assert (network(changed, target[:1]) - whole).abs().amax(-1).min() > 1e-5


def test_rows_of_memory_and_state_can_be_chosen(source: Tensor, target: Tensor) -> None:
    """As beams do: the batch is the first dimension of every tensor in both."""
    network, rows = build(), torch.tensor([2, 0, 2, 1])
    memory, _ = network.encode(source)
    _, state = network.decode(target[:, :2], None, memory)

    def chosen(caches: tuple) -> tuple:
        return tuple(type(c)(*(t.index_select(0, rows) for t in c)) for c in caches)

    few = Memory(chosen(memory.layers), memory.mask[rows])
    logits, _ = network.decode(target[rows, 2:], chosen(state), few)
    expected = network(source[rows], target[rows])[:, 2:]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm_first", [True, False])
def test_alignments_are_the_last_layers(norm_first: bool, source: Tensor, target: Tensor) -> None:
    network = build(norm_first=norm_first, positions="rotary")
    alignments = network.alignments(source, target)
    assert alignments.shape == (B, T, S)
    torch.testing.assert_close(alignments.sum(-1), torch.ones(B, T))
    assert alignments.transpose(1, 2)[source == PAD].eq(0).all()
    caught: list[tuple] = []
    attention = network.decoder[-1].cross_attention
    attention.register_forward_pre_hook(lambda _, args: caught.append(args))
    network(source, target)
    expected = attention.weights(*caught[0]).mean(1)
    torch.testing.assert_close(alignments, expected)


@pytest.mark.parametrize("tie", ["none", "target", "all"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_every_parameter_learns(
    tie: str, norm_first: bool, source: Tensor, target: Tensor
) -> None:
    network = build(tie=tie, norm_first=norm_first, positions="learned", target_tokens=V_SOURCE)
    target = target.clamp(max=V_SOURCE - 1)
    (network.train()(source, target) * torch.randn(V_SOURCE)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_dropout_only_in_training(source: Tensor, target: Tensor) -> None:
    network = build(dropout=0.5)
    assert {part.p for part in network.modules() if isinstance(part, nn.Dropout)} == {0.5}
    torch.testing.assert_close(network(source, target), network(source, target), rtol=0, atol=0)
    network.train()
    assert not network(source, target).equal(network(source, target))
    for layer in (*network.encoder, *network.decoder):
        layer.eval()
    network.dropout.p = 1.0  # of the embeddings: all pairs look alike
    logits = network(source[:, :1], target)
    torch.testing.assert_close(logits[0], logits[1])
    torch.testing.assert_close(logits[:, 0], logits[:, 1])


# --- errors -------------------------------------------------------------------------------------


def test_sequences_beyond_learned_positions_are_refused(source: Tensor, target: Tensor) -> None:
    network = build(positions="learned", max_length=6)
    assert network.max_length == 6
    with pytest.raises(ValueError, match="sequence of 7 tokens is longer than the 6 learned"):
        network(source, target)
    memory, _ = network.encode(source[:, :6])
    _, state = network.decode(target, None, memory)
    with pytest.raises(ValueError, match="sequence of 7 tokens is longer than the 6 learned"):
        network.decode(target[:, :1], state, memory)


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary", "none"])
def test_other_positions_have_no_end(positions: str) -> None:
    network = build(positions=positions, max_length=6)
    assert network.max_length is None
    assert network(torch.full((1, 50), 2), torch.full((1, 40), 2)).isfinite().all()


def test_wrong_tokens_are_named(source: Tensor, target: Tensor) -> None:
    network = build()
    with pytest.raises(ValueError, match="source holds id 11, outside the vocabulary of 11"):
        network(source.clamp(min=V_SOURCE), target)
    with pytest.raises(ValueError, match="target holds id 13, outside the vocabulary of 13"):
        network(source, target.clamp(min=V_TARGET))
    source[1] = PAD
    with pytest.raises(ValueError, match="source: sequence 1 is nothing but padding"):
        network(source, target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers=0"),
        ({"num_heads": 3}, "num_heads=3: give a divisor of embed_dim=8"),
        ({"feedforward_dim": 0}, "feedforward_dim=0"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"positions": "alibi"}, "positions='alibi'"),
        ({"tie": "source"}, "tie='source': choose from none, target, all"),
        ({"tie": "all"}, "source_tokens=11 and target_tokens=13 differ"),
        ({"target_tokens": 0}, "target_tokens=0"),
    ],
)
def test_impossible_sizes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)

"""GPT against torch's encoder under a causal mask, published sizes, and its own cache."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from trellis.networks.sequence.gpt import GPT
from trellis.nn.transformer_layer import cached_length

V, CONTEXT, D, H, L = 11, 12, 8, 2, 2
POSITIONS = ["learned", "sinusoidal", "rotary", "none"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(V, (3, CONTEXT))


def build(**options: object) -> GPT:
    """A small GPT in which everything matters."""
    sizes = {"context": CONTEXT, "embed_dim": D, "num_heads": H, "num_layers": L}
    network = GPT(V, **{**sizes, **options}).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network


def copy_(peer: nn.Module, ours: nn.Module) -> None:
    for mine, theirs in zip(ours.parameters(), peer.parameters(), strict=True):
        theirs.data = mine.data


def test_it_is_torchs_encoder_under_a_causal_mask(tokens: Tensor) -> None:
    network = build()
    layers = []
    for mine in network.layers:
        layer = nn.TransformerEncoderLayer(
            D, H, 4 * D, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        copy_(layer.self_attn, mine.attention)
        copy_(layer.norm1, mine.residual.norm)
        copy_(layer.norm2, mine.feedforward.residual.norm)
        copy_(layer.linear1, mine.feedforward.hidden)
        copy_(layer.linear2, mine.feedforward.output)
        layers.append(layer)
    ahead = torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).triu(1)
    x = network.tokens.weight[tokens] + network.positions.weight
    for layer in layers:
        x = layer(x, ahead)
    expected = network.norm(x) @ network.tokens.weight.t()
    torch.testing.assert_close(network(tokens)[0], expected, rtol=1e-4, atol=1e-5)


def test_the_smallest_gpt_2_has_its_published_size() -> None:
    with torch.device("meta"):
        network = GPT(50257, context=1024, embed_dim=768, num_heads=12, num_layers=12)
    assert sum(p.numel() for p in network.parameters()) == 124_439_808


def test_the_gpt_of_nanogpts_readme_has_its_size() -> None:
    network = GPT(65, context=64, bias=False)
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    assert sum(sizes.values()) - sizes["positions.weight"] == 795_904  # "0.80M" without positions
    assert not [name for name in sizes if name.endswith("bias")]


def test_it_starts_as_gpt_2_does() -> None:
    network = GPT(500, context=200, embed_dim=128, num_layers=8)
    narrow = 0.02 / 16**0.5
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert parameter.eq(0).all(), name
        elif "norm" in name:
            assert parameter.eq(1).all(), name
        else:
            std = narrow if name.endswith("output.weight") else 0.02
            assert parameter.std().item() == pytest.approx(std, rel=0.05), name


@pytest.mark.parametrize(
    ("positions", "pieces"),
    list(itertools.product(POSITIONS, [(1,) * CONTEXT, (5, 1, 6), (11, 1)])),
)
def test_pieces_with_the_state_equal_the_whole(
    positions: str, pieces: tuple[int, ...], tokens: Tensor
) -> None:
    network = build(positions=positions)
    whole, _ = network(tokens)
    state, outputs, seen = None, [], 0
    for piece in tokens.split(pieces, 1):
        logits, state = network(piece, state)
        outputs.append(logits)
        seen += piece.size(1)
        assert cached_length(state) == seen
    torch.testing.assert_close(torch.cat(outputs, 1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_no_logit_depends_on_what_comes_later(positions: str, tokens: Tensor) -> None:
    network = build(positions=positions)
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % V
    before, after = network(tokens)[0], network(changed)[0]
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().amax(-1).min() > 1e-4


def test_positions_matter(tokens: Tensor) -> None:
    """A set of the same tokens before the last: only without positions does order not matter."""
    order = torch.cat([torch.randperm(CONTEXT - 1), torch.tensor([CONTEXT - 1])])
    for positions in POSITIONS:
        network = build(positions=positions, num_layers=1)
        same = network(tokens)[0][:, -1].allclose(network(tokens[:, order])[0][:, -1], atol=1e-5)
        assert same == (positions == "none")


def test_rows_of_a_state_can_be_chosen(tokens: Tensor) -> None:
    """As beams do: the batch is the first dimension of every tensor in a state."""
    network, rows = build(), torch.tensor([2, 0, 2])
    _, state = network(tokens[:, :6])
    chosen = tuple(type(c)(*(t.index_select(0, rows) for t in c)) for c in state)
    expected, _ = network(tokens[rows])
    torch.testing.assert_close(
        network(tokens[rows, 6:], chosen)[0], expected[:, 6:], rtol=1e-4, atol=1e-5
    )


def test_attention_weights_look_back_only(tokens: Tensor) -> None:
    network = build(positions="rotary")
    weights = network.attention_weights(tokens)
    calls: list[tuple] = []
    for layer in network.layers:
        layer.attention.register_forward_pre_hook(lambda _, arguments: calls.append(arguments))
    network(tokens)
    for layer, (x, _, rotation), w in zip(network.layers, calls, weights, strict=True):
        torch.testing.assert_close(w, layer.attention.weights(x, rotation))
    assert [w.shape for w in weights] == [(3, H, CONTEXT, CONTEXT)] * L
    for w in weights:
        torch.testing.assert_close(w.sum(-1), torch.ones(3, H, CONTEXT))
        assert w.triu(1).eq(0).all()


@pytest.mark.parametrize("positions", POSITIONS)
def test_every_parameter_learns(positions: str, tokens: Tensor) -> None:
    network = build(positions=positions).train()
    (network(tokens)[0] * torch.randn(V)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_dropout_only_in_training(tokens: Tensor) -> None:
    network = build(dropout=0.5)
    assert {part.p for part in network.modules() if isinstance(part, nn.Dropout)} == {0.5}
    torch.testing.assert_close(network(tokens)[0], network(tokens)[0], rtol=0, atol=0)
    network.train()
    assert not network(tokens)[0].equal(network(tokens)[0])
    network.dropout.p = 1.0  # of the embeddings: all texts look alike
    for layer in network.layers:
        layer.eval()
    logits = network(tokens)[0]
    torch.testing.assert_close(logits[0], logits[1])


def test_attention_dropout_reaches_the_layers() -> None:
    network = build(attention_dropout=0.25)
    assert [layer.attention.dropout for layer in network.layers] == [0.25] * L


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_text_beyond_the_context_is_refused(positions: str, tokens: Tensor) -> None:
    network = build(positions=positions)
    with pytest.raises(ValueError, match=r"text of 13 tokens .* longer than GPT\(context=12\)"):
        network(torch.zeros(1, 13, dtype=torch.long))
    _, state = network(tokens)
    with pytest.raises(ValueError, match=r"text of 13 tokens \(12 of them in the state\)"):
        network(tokens[:, :1], state)


def test_ids_outside_the_vocabulary_are_named() -> None:
    with pytest.raises(ValueError, match="id 11, outside the vocabulary of 11"):
        build()(torch.full((1, 3), V))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 0}, "context=0"),
        ({"num_layers": 0}, "num_layers=0"),
        ({"num_heads": 3}, "num_heads=3: give a divisor of embed_dim=8"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"positions": "alibi"}, "positions='alibi'"),
    ],
)
def test_impossible_sizes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)
    with pytest.raises(ValueError, match="num_tokens=0"):
        GPT(0)

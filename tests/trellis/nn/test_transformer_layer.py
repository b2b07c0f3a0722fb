"""Layers of transformers against torch's own, with the same weights."""

import itertools

import pytest
import torch
from torch import nn

from trellis.nn.attention import KeyValues
from trellis.nn.positional import LearnedPositions, RotaryPositions
from trellis.nn.transformer_layer import (
    CausalLayer,
    DecoderLayer,
    EncoderLayer,
    LayerOptions,
    cached_length,
    initialize_normal_,
)

B, H, T, S, D, F = 2, 2, 5, 7, 8, 12
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0]], dtype=torch.bool)
KINDS = list(itertools.product([True, False], ["relu", "gelu"]))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randomized(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def options(norm_first: bool, activation: str = "relu", dropout: float = 0.0) -> LayerOptions:
    return LayerOptions(D, H, F, dropout, activation=activation, norm_first=norm_first)


def copy_(peer: nn.Module, ours: nn.Module) -> None:
    """Write the weights of one submodule of ours into one of torch's."""
    for mine, theirs in zip(ours.parameters(), peer.parameters(), strict=True):
        theirs.data = mine.data


def torch_peer(layer: nn.Module, norm_first: bool, activation: str) -> nn.Module:
    """torch's encoder or decoder layer with the same weights."""
    decoder = isinstance(layer, DecoderLayer)
    kind = nn.TransformerDecoderLayer if decoder else nn.TransformerEncoderLayer
    peer = kind(
        D, H, F, dropout=0.0, activation=activation, batch_first=True, norm_first=norm_first
    )
    copy_(peer.self_attn, layer.attention)
    copy_(peer.norm1, layer.residual.norm)
    copy_(peer.linear1, layer.feedforward.hidden)
    copy_(peer.linear2, layer.feedforward.output)
    copy_(peer.norm3 if decoder else peer.norm2, layer.feedforward.residual.norm)
    if decoder:
        cross = layer.cross_attention
        copy_(peer.norm2, layer.cross_residual.norm)
        copy_(peer.multihead_attn.out_proj, cross.output)
        peer.multihead_attn.in_proj_weight.data = torch.cat(
            [cross.query.weight, cross.key_value.weight]
        )
        peer.multihead_attn.in_proj_bias.data = torch.cat([cross.query.bias, cross.key_value.bias])
    return peer


@pytest.mark.parametrize(("norm_first", "activation"), KINDS)
def test_encoder_layer_is_torchs(norm_first: bool, activation: str) -> None:
    layer = randomized(EncoderLayer(options(norm_first, activation)))
    peer, x = torch_peer(layer, norm_first, activation), torch.randn(B, S, D)
    torch.testing.assert_close(layer(x), peer(x))
    expected = peer(x, src_key_padding_mask=~MASK)
    torch.testing.assert_close(layer(x, MASK)[MASK], expected[MASK])


@pytest.mark.parametrize(("norm_first", "activation"), KINDS)
def test_causal_layer_is_torchs_with_a_mask(norm_first: bool, activation: str) -> None:
    layer = randomized(CausalLayer(options(norm_first, activation)))
    peer, x = torch_peer(layer, norm_first, activation), torch.randn(B, T, D)
    ahead = torch.ones(T, T, dtype=torch.bool).triu(1)
    torch.testing.assert_close(layer(x)[0], peer(x, ahead))


@pytest.mark.parametrize(("norm_first", "activation"), KINDS)
def test_decoder_layer_is_torchs(norm_first: bool, activation: str) -> None:
    layer = randomized(DecoderLayer(options(norm_first, activation)))
    peer, x = torch_peer(layer, norm_first, activation), torch.randn(B, T, D)
    memory = torch.randn(B, S, D)
    seen = layer.cross_attention.project(memory)
    ahead = torch.ones(T, T, dtype=torch.bool).triu(1)
    expected = peer(x, memory, ahead, memory_key_padding_mask=~MASK)
    torch.testing.assert_close(layer(x, seen, MASK)[0], expected)


@pytest.mark.parametrize("norm_first", [True, False])
def test_gradients_are_torchs(norm_first: bool) -> None:
    layer = randomized(DecoderLayer(options(norm_first)))
    peer, x = torch_peer(layer, norm_first, "relu"), torch.randn(B, T, D)
    memory, weights = torch.randn(B, S, D), torch.randn(B, T, D)
    ahead = torch.ones(T, T, dtype=torch.bool).triu(1)
    (layer(x, layer.cross_attention.project(memory))[0] * weights).sum().backward()
    (peer(x, memory, ahead) * weights).sum().backward()
    ours, theirs = layer.attention.query_key_value, peer.self_attn.in_proj_weight
    torch.testing.assert_close(ours.weight.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    theirs_of_cross = peer.multihead_attn.in_proj_weight.grad[D:]
    ours_of_cross = layer.cross_attention.key_value.weight.grad
    torch.testing.assert_close(ours_of_cross, theirs_of_cross, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("pieces", [[1] * T, [2, 3]])
def test_pieces_with_a_cache_equal_the_whole(norm_first: bool, pieces: list[int]) -> None:
    layer = randomized(DecoderLayer(options(norm_first)))
    x, seen = torch.randn(B, T, D), layer.cross_attention.project(torch.randn(B, S, D))
    whole, _ = layer(x, seen, MASK)
    cache, outputs = None, []
    for piece in x.split(pieces, 1):
        output, cache = layer(piece, seen, MASK, cache)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, 1), whole)


def caught_by(module: nn.Module) -> list[tuple]:
    """Arguments of every later call of a module."""
    calls: list[tuple] = []
    module.register_forward_pre_hook(lambda _, arguments: calls.append(arguments))
    return calls


@pytest.mark.parametrize("norm_first", [True, False])
def test_weights_are_those_of_the_layer(norm_first: bool) -> None:
    """The weights, times the values, are what the cross-attention maps to its output."""
    layer = randomized(DecoderLayer(options(norm_first)))
    x, memory = torch.randn(B, T, D), torch.randn(B, S, D)
    _, rotation = RotaryPositions(D // H)(x)
    seen = layer.cross_attention.project(memory)
    calls, own_calls = caught_by(layer.cross_attention.output), caught_by(layer.attention)
    layer(x, seen, MASK, None, rotation)
    weights = layer.weights(x, seen, MASK, rotation)
    mixed = (weights @ seen.values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(calls[0][0], mixed)
    assert own_calls[0][2] is own_calls[1][2] is rotation


@pytest.mark.parametrize("kind", [EncoderLayer, CausalLayer])
@pytest.mark.parametrize("norm_first", [True, False])
def test_weights_of_self_attention(kind: type[nn.Module], norm_first: bool) -> None:
    layer, x = randomized(kind(options(norm_first))), torch.randn(B, S, D)
    _, rotation = RotaryPositions(D // H)(x)
    calls = caught_by(layer.attention)
    if kind is EncoderLayer:
        layer(x, MASK, rotation)
        weights, expected = layer.weights(x, MASK, rotation), layer.attention.weights(*calls[0])
        assert calls[0][1] is MASK
    else:
        layer(x, None, rotation)
        weights = layer.weights(x, rotation)
        expected = layer.attention.weights(calls[0][0], calls[0][2])
    assert calls[0][2] is rotation
    torch.testing.assert_close(weights, expected)


# --- dropout ------------------------------------------------------------------------------------


def test_dropout_of_everything_leaves_the_input() -> None:
    """Every sublayer of a norm-first layer is dropped before it is added, in training only."""
    x, memory = torch.randn(B, T, D), torch.randn(B, S, D)
    encoder, causal, decoder = (
        randomized(kind(options(True, dropout=1.0)))
        for kind in (EncoderLayer, CausalLayer, DecoderLayer)
    )
    seen = decoder.cross_attention.project(memory)
    assert encoder(x).equal(x)
    assert causal(x)[0].equal(x)
    assert decoder(x, seen)[0].equal(x)
    for layer in (encoder, causal, decoder):
        layer.eval()
    assert not encoder(x).isclose(x).any(-1).all()
    assert not decoder(x, seen)[0].isclose(x).any(-1).all()


def test_dropout_inside_the_feedforward_network() -> None:
    layer, x = randomized(EncoderLayer(options(True))), torch.randn(B, T, D)
    layer.feedforward.dropout.p = 1.0
    expected = x + layer.feedforward.output.bias
    torch.testing.assert_close(layer.feedforward(x), expected)


def test_attention_dropout_reaches_the_attentions() -> None:
    layer = DecoderLayer(LayerOptions(D, H, F, attention_dropout=0.25))
    assert layer.attention.dropout == layer.cross_attention.dropout == 0.25
    for kind in (EncoderLayer, CausalLayer):
        assert kind(LayerOptions(D, H, F, attention_dropout=0.25)).attention.dropout == 0.25


# --- the rest -----------------------------------------------------------------------------------


def test_biases_are_left_out_on_request() -> None:
    layer = DecoderLayer(LayerOptions(D, H, F, bias=False))
    assert not [name for name, _ in layer.named_parameters() if name.endswith("bias")]


def test_cached_length_counts_what_was_seen() -> None:
    keys = torch.zeros(B, H, 3, D // H)
    assert cached_length((KeyValues(keys, keys),)) == 3


def test_initialize_normal() -> None:
    module = nn.Sequential(nn.Linear(200, 200), nn.Embedding(200, 200), LearnedPositions(200, 200))
    initialize_normal_(module, 0.1)
    for part in module:
        assert part.weight.std().item() == pytest.approx(0.1, rel=0.05)
        assert part.weight.mean().item() == pytest.approx(0.0, abs=0.003)
    assert module[0].bias.eq(0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 3}, "num_heads=3: give a divisor of embed_dim=8"),
        ({"feedforward_dim": 0}, "feedforward_dim=0"),
        ({"dropout": -0.1}, "dropout=-0.1"),
        ({"attention_dropout": 2.0}, "attention_dropout=2.0"),
    ],
)
def test_impossible_options_are_named(arguments: dict[str, float], message: str) -> None:
    sizes = {"embed_dim": D, "num_heads": H, "feedforward_dim": F}
    with pytest.raises(ValueError, match=message):
        LayerOptions(**{**sizes, **arguments})

"""Attention against a loop over queries and keys, and against torch's own module."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trellis.nn.attention import (
    CausalSelfAttention,
    CrossAttention,
    KeyValues,
    SelfAttention,
    attend,
    attend_causally,
    attention_weights,
    merge_heads,
    split_heads,
)
from trellis.nn.positional import RotaryPositions, rotate

B, H, T, S, D = 2, 2, 5, 7, 8
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0, 0]], dtype=torch.bool)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def heads(length: int) -> Tensor:
    return torch.randn(B, H, length, D // H, dtype=torch.float64)


def naive(query: Tensor, seen: KeyValues, visible: Callable[[int, int, int], bool]) -> Tensor:
    """One query and one head at a time; ``visible(sequence, query, key)``."""
    out = torch.zeros_like(query)
    for b in range(query.size(0)):
        for h in range(query.size(1)):
            for t in range(query.size(2)):
                looked = [s for s in range(seen.keys.size(2)) if visible(b, t, s)]
                scores = [
                    float(query[b, h, t] @ seen.keys[b, h, s]) / math.sqrt(query.size(3))
                    for s in looked
                ]
                total = sum(math.exp(score) for score in scores)
                for score, s in zip(scores, looked, strict=True):
                    out[b, h, t] += math.exp(score) / total * seen.values[b, h, s]
    return out


def test_attend_is_a_loop() -> None:
    query, seen = heads(T), KeyValues(heads(S), heads(S))
    torch.testing.assert_close(attend(query, seen), naive(query, seen, lambda b, t, s: True))
    expected = naive(query, seen, lambda b, t, s: bool(MASK[b, s]))
    torch.testing.assert_close(attend(query, seen, MASK), expected)


@pytest.mark.parametrize("length", [1, 3, S])
def test_attend_causally_is_a_loop(length: int) -> None:
    query, seen = heads(length), KeyValues(heads(S), heads(S))
    expected = naive(query, seen, lambda b, t, s: s <= S - length + t)
    torch.testing.assert_close(attend_causally(query, seen), expected)


def test_weights_are_those_of_attend() -> None:
    query, seen = heads(T), KeyValues(heads(S), heads(S))
    weights = attention_weights(query, seen.keys, MASK[:, None, None])
    torch.testing.assert_close(weights @ seen.values, attend(query, seen, MASK))
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, T, dtype=torch.float64))
    assert weights.movedim(-1, 1)[~MASK].eq(0).all()


def test_heads_are_slices_of_the_features() -> None:
    x = torch.randn(B, T, D)
    split = split_heads(x, H)
    assert split[1, 1, 3].equal(x[1, 3, D // H :])
    assert merge_heads(split).equal(x)


# --- modules ------------------------------------------------------------------------------------


def torch_peer(module: nn.Module) -> nn.MultiheadAttention:
    """torch's module with the same weights."""
    peer = nn.MultiheadAttention(D, H, batch_first=True)
    if isinstance(module, CrossAttention):
        weight = torch.cat([module.query.weight, module.key_value.weight])
        bias = torch.cat([module.query.bias, module.key_value.bias])
    else:
        weight, bias = module.query_key_value.weight, module.query_key_value.bias
    peer.in_proj_weight.data, peer.in_proj_bias.data = weight, bias
    peer.out_proj.weight.data, peer.out_proj.bias.data = module.output.weight, module.output.bias
    return peer


def randomize(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def test_self_attention_is_torchs() -> None:
    module, x = randomize(SelfAttention(D, H)), torch.randn(B, S, D)
    peer = torch_peer(module)
    for mask in (None, MASK):
        padding = None if mask is None else ~mask
        expected, weights = peer(x, x, x, key_padding_mask=padding, average_attn_weights=False)
        torch.testing.assert_close(module(x, mask), expected)
        torch.testing.assert_close(module.weights(x, mask), weights)


def test_causal_self_attention_is_torchs() -> None:
    module, x = randomize(CausalSelfAttention(D, H)), torch.randn(B, T, D)
    ahead = torch.ones(T, T, dtype=torch.bool).triu(1)
    expected, weights = torch_peer(module)(x, x, x, attn_mask=ahead, average_attn_weights=False)
    torch.testing.assert_close(module(x)[0], expected)
    torch.testing.assert_close(module.weights(x), weights)


def test_cross_attention_is_torchs() -> None:
    module, x = randomize(CrossAttention(D, H)), torch.randn(B, T, D)
    memory = torch.randn(B, S, D)
    seen = module.project(memory)
    expected, weights = torch_peer(module)(
        x, memory, memory, key_padding_mask=~MASK, average_attn_weights=False
    )
    torch.testing.assert_close(module(x, seen, MASK), expected)
    torch.testing.assert_close(module.weights(x, seen, MASK), weights)


@pytest.mark.parametrize("kind", [SelfAttention, CausalSelfAttention])
def test_rotary_positions_turn_queries_and_keys_alone(kind: type[nn.Module]) -> None:
    module, x = randomize(kind(D, H)), torch.randn(B, T, D)
    _, rotation = RotaryPositions(D // H)(x)
    query, keys, values = (split_heads(part, H) for part in module.query_key_value(x).chunk(3, -1))
    visible = torch.ones(T, T, dtype=torch.bool)
    if kind is CausalSelfAttention:
        visible = visible.tril()
    weights = attention_weights(rotate(query, rotation), rotate(keys, rotation), visible)
    output = module(x, None, rotation)
    output = output[0] if kind is CausalSelfAttention else output
    torch.testing.assert_close(output, module.output(merge_heads(weights @ values)))
    torch.testing.assert_close(module.weights(x, rotation=rotation), weights)


@pytest.mark.parametrize("pieces", [[1] * T, [2, 3], [4, 1], [1, 3, 1]])
def test_pieces_with_a_cache_equal_the_whole(pieces: list[int]) -> None:
    module, x = randomize(CausalSelfAttention(D, H)), torch.randn(B, T, D)
    whole, all_seen = module(x)
    cache, outputs = None, []
    for piece in x.split(pieces, 1):
        output, cache = module(piece, cache)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, 1), whole)
    torch.testing.assert_close(cache, all_seen)


def test_a_cache_that_is_given_is_left_alone() -> None:
    module, x = CausalSelfAttention(D, H), torch.randn(B, T, D)
    _, cache = module(x)
    before = [tensor.clone() for tensor in cache]
    module(x, cache)
    assert all(old.equal(new) for old, new in zip(before, cache, strict=True))


def test_self_attention_takes_a_set() -> None:
    module, x = randomize(SelfAttention(D, H)), torch.randn(B, T, D)
    order = torch.randperm(T)
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order])


def test_what_is_masked_changes_nothing() -> None:
    module, x = randomize(SelfAttention(D, H)), torch.randn(B, S, D)
    changed = x.where(MASK.unsqueeze(-1), 100.0)
    kept = MASK.unsqueeze(-1).expand_as(x)
    torch.testing.assert_close(module(changed, MASK)[kept], module(x, MASK)[kept])


@pytest.mark.parametrize("kind", [SelfAttention, CausalSelfAttention])
def test_dropout_forgets_weights_in_training_only(kind: type[nn.Module]) -> None:
    module, x = randomize(kind(D, H, dropout=1.0)), torch.randn(B, T, D)

    def run() -> Tensor:
        return module(x) if kind is SelfAttention else module(x)[0]

    torch.testing.assert_close(run(), module.output.bias.expand_as(x))
    if kind is CausalSelfAttention:
        again, _ = module(x, module(x)[1])  # behind a cache
        torch.testing.assert_close(again, module.output.bias.expand_as(x))
    module.eval()
    assert (run() - module.output.bias).abs().max() > 0.1


def test_dropout_forgets_weights_of_cross_attention() -> None:
    module, x = randomize(CrossAttention(D, H, dropout=1.0)), torch.randn(B, T, D)
    seen = module.project(x)
    torch.testing.assert_close(module(x, seen), module.output.bias.expand_as(x))
    assert (module.eval()(x, seen) - module.output.bias).abs().max() > 0.1


@pytest.mark.parametrize("kind", [SelfAttention, CausalSelfAttention, CrossAttention])
def test_biases_are_left_out_on_request(kind: type[nn.Module]) -> None:
    module = kind(D, H, bias=False)
    assert sum(p.numel() for p in module.parameters()) == 4 * D * D


@pytest.mark.parametrize("kind", [SelfAttention, CausalSelfAttention, CrossAttention])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed_dim": 10, "num_heads": 4}, "num_heads=4: give a divisor of embed_dim=10"),
        ({"embed_dim": 8, "num_heads": 0}, "num_heads=0: give at least 1"),
        ({"embed_dim": 0, "num_heads": 1}, "embed_dim=0: give at least 1"),
        ({"embed_dim": 8, "num_heads": 2, "dropout": 1.5}, "dropout=1.5: give a probability"),
    ],
)
def test_impossible_sizes_are_named(
    kind: type[nn.Module], arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)

"""Local, linear and grouped causal attention, each equal to the naive form with a mask."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.networks.sequence.gpt import GPT
from trellis.nn.attention import CausalSelfAttention, split_heads
from trellis.nn.linear_attention import CHUNK, CausalLinearAttention, attend_linearly
from trellis.nn.local_attention import attend_locally
from trellis.nn.transformer_layer import cached_length
from trellis.sequence.decoding import greedy_search, language_model

B, H, D = 2, 3, 4
KINDS: dict[str, dict[str, Any]] = {
    "grouped": {"attention": partial(CausalSelfAttention, key_value_heads=1)},
    "local": {"attention": partial(CausalSelfAttention, window=3)},
    "grouped and local": {
        "attention": partial(CausalSelfAttention, key_value_heads=2, window=3),
        "positions": "rotary",
    },
    "linear": {"attention": CausalLinearAttention},
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def heads(length: int) -> Tensor:
    return torch.randn(B, H, length, D, dtype=torch.float64)


@pytest.mark.parametrize(("length", "total"), [(1, 1), (1, 9), (7, 7), (4, 9), (9, 9), (2, 5)])
@pytest.mark.parametrize("window", [1, 2, 3, 5, 20])
def test_local_attention_is_masked_attention(length: int, total: int, window: int) -> None:
    query, keys, values = heads(length), heads(total), heads(total)
    scores = query @ keys.mT / D**0.5
    for t in range(length):
        for s in range(total):
            position = total - length + t
            if not position - window < s <= position:
                scores[:, :, t, s] = float("-inf")
    expected = scores.softmax(-1) @ values
    torch.testing.assert_close(attend_locally(query, keys, values, window), expected)


@pytest.mark.parametrize("length", [1, 5, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7])
@pytest.mark.parametrize("first", [0, 1, 70])
def test_linear_attention_is_masked_attention(length: int, first: int) -> None:
    """With all positions at once, and with the first ones in the memory."""
    total = first + length
    query, keys, values = heads(total), heads(total), heads(total)
    weights = (
        (torch.nn.functional.elu(query) + 1) @ (torch.nn.functional.elu(keys) + 1).mT
    ).tril()
    expected = weights / weights.sum(-1, keepdim=True) @ values
    memory, parts = None, []
    for start, end in ((0, first), (first, total)):
        if end > start:
            piece = (each[:, :, start:end] for each in (query, keys, values))
            attended, memory = attend_linearly(*piece, memory)
            parts.append(attended)
    torch.testing.assert_close(torch.cat(parts, 2), expected)
    assert memory is not None
    assert memory.positions.shape == (B, H, total, 0)


def test_groups_of_heads_share_keys_and_values() -> None:
    """Equal to torch's attention with the keys and values repeated."""
    module, x = CausalSelfAttention(12, 6, key_value_heads=2), torch.randn(B, 5, 12)
    query, keys, values = module.query_key_value(x).split([12, 4, 4], -1)
    repeated = (split_heads(each, 2).repeat_interleave(3, 1) for each in (keys, values))
    expected = F.scaled_dot_product_attention(split_heads(query, 6), *repeated, is_causal=True)
    output, cache = module(x)
    torch.testing.assert_close(output, module.output(expected.transpose(1, 2).flatten(2)))
    assert cache.keys.shape == (B, 2, 5, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_times_values_are_the_output(kind: str) -> None:
    module = KINDS[kind]["attention"](12, 4)
    x = torch.randn(B, 7, 12)
    values = split_heads(module.query_key_value(x), 1)[..., 12:].squeeze(1)
    groups = getattr(module, "key_value_heads", 4)
    values = split_heads(values[..., -3 * groups :], groups).repeat_interleave(4 // groups, 1)
    weights = module.weights(x)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, 4, 7))
    expected = module.output((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(x)[0], expected)


def gpt(kind: str, context: int = 200) -> GPT:
    options = {"context": context, "embed_dim": 16, "num_heads": 4, "num_layers": 2}
    network = GPT(11, **{**options, **KINDS[kind]}).double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_in_pieces_is_the_text_at_once(kind: str) -> None:
    network, tokens = gpt(kind), torch.randint(11, (B, 150))
    with torch.no_grad():
        whole, _ = network(tokens)
        state, pieces = None, []
        for piece in tokens.split([70, 1, 1, 30, 48], 1):
            logits, state = network(piece, state)
            pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole)
    assert cached_length(state) == 150


@pytest.mark.parametrize("kind", KINDS)
def test_later_tokens_change_nothing(kind: str) -> None:
    network, tokens = gpt(kind), torch.randint(11, (B, 100))
    other = tokens.clone()
    other[:, 60:] = (other[:, 60:] + 1) % 11
    torch.testing.assert_close(network(tokens)[0][:, :60], network(other)[0][:, :60])


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_feeds_a_token_at_a_time(kind: str) -> None:
    network, prompt = gpt(kind), torch.randint(1, 11, (3, 4))
    found = greedy_search(language_model(network), prompt, eos_id=0, max_new_tokens=12)
    for row, tokens in zip(prompt, found.best(), strict=True):
        text = row.tolist()
        for token in tokens:
            assert int(network(torch.tensor([text]))[0][0, -1].argmax()) == token
            text.append(token)


@pytest.mark.parametrize(
    "kind", ["linear", pytest.param("grouped and local", marks=pytest.mark.long)]
)
def test_one_graph_on_any_device(kind: str) -> None:
    network, tokens = gpt(kind), torch.randint(11, (B, 70))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(tokens)[0], network(tokens)[0])
    logits, _ = network.to("meta")(tokens.to("meta"))
    assert logits.shape == (B, 70, 11)
    program = torch.export.export(gpt(kind), (tokens,))
    assert program.module()(tokens)[0].shape == (B, 70, 11)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"key_value_heads": 3}, "key_value_heads=3: give a divisor of num_heads=4"),
        ({"key_value_heads": 0}, "key_value_heads=0"),
        ({"window": 0}, "window=0"),
    ],
)
def test_impossible_groups_and_windows_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        CausalSelfAttention(16, 4, **options)


def test_linear_attention_refuses_what_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="attention_dropout=0.1: linear attention makes no"):
        CausalLinearAttention(16, 4, dropout=0.1)
    network = GPT(11, attention=CausalLinearAttention, positions="rotary")
    with pytest.raises(ValueError, match="linear attention takes no rotary positions"):
        network(torch.zeros(1, 2, dtype=torch.long))

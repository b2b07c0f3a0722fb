"""Attention, positions and transformer blocks with the numbers and identities of the courses."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.nn.attention import (
    CausalSelfAttention,
    KeyValues,
    SelfAttention,
    attend,
    attend_causally,
    attention_weights,
)
from trellis.nn.positional import LearnedPositions, SinusoidalPositions, rotate, sinusoids
from trellis.nn.transformer_layer import EncoderLayer, LayerOptions

TWO_WORDS = torch.eye(2)[None, None]  # x_1 = (1, 0), x_2 = (0, 1): [B, H, T, d] = [1, 1, 2, 2]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def identity_attention(kind: type[nn.Module], width: int) -> nn.Module:
    """One head whose queries, keys, values and outputs are its inputs."""
    module = kind(width, 1, bias=False)
    module.query_key_value.weight.data = torch.eye(width).repeat(3, 1)
    module.output.weight.data = torch.eye(width)
    return module


def test_attention_of_two_words_without_a_scale() -> None:
    """NYU Tandon, "Transformers": w_ij = x_i x_j, softmax of rows, y_i = sum_j W_ij x_j."""
    weights = attention_weights(TWO_WORDS * 2**0.5, TWO_WORDS)[0, 0]  # the scale taken back
    expected = torch.tensor([[0.731059, 0.268941], [0.268941, 0.731059]])
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)
    y = attend(TWO_WORDS * 2**0.5, KeyValues(TWO_WORDS, TWO_WORDS))[0, 0]
    torch.testing.assert_close(y[0], expected[0], rtol=0, atol=1e-6)


def test_attention_of_two_words_with_the_scale() -> None:
    """NYU Tandon: identity maps, one head, d = 2: W_11 = 0.669762."""
    module = identity_attention(SelfAttention, 2)
    x = TWO_WORDS[0]
    assert module.weights(x)[0, 0, 0, 0].item() == pytest.approx(0.669762, abs=1e-6)
    assert module(x)[0, 0].tolist() == pytest.approx([0.669762, 0.330238], abs=1e-6)


def test_attention_permutes_with_its_input() -> None:
    """NYU Tandon: permuted words, permuted outputs, whatever the weights."""
    module, x, order = SelfAttention(8, 2), torch.randn(1, 5, 8), torch.randperm(5)
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order])


def test_several_heads_are_concatenated_and_mapped() -> None:
    """NYU Tandon, Berkeley CS182, Columbia COMS4995: y = W concat(y^1, .., y^h), each scaled by
    the width of a head (Vaswani et al. 2017; the first prints the width of the model)."""
    heads, width = 4, 8
    module, x = SelfAttention(width, heads), torch.randn(1, 3, width)
    query, keys, values = (
        (x[0] @ w.t() + b).split(width // heads, 1)
        for w, b in zip(
            module.query_key_value.weight.chunk(3),
            module.query_key_value.bias.chunk(3),
            strict=True,
        )
    )
    y = [
        (q @ k.t() / math.sqrt(width // heads)).softmax(1) @ v
        for q, k, v in zip(query, keys, values, strict=True)
    ]
    expected = torch.cat(y, 1) @ module.output.weight.t() + module.output.bias
    torch.testing.assert_close(module(x)[0], expected)


def test_a_causal_mask_is_minus_infinity_or_a_zero_exponential() -> None:
    """Berkeley CS182, "Transformers": e = q k if l >= t, else -inf; or exp replaced by 0."""
    x = torch.randn(1, 1, 4, 3)
    scores = x[0, 0] @ x[0, 0].t() / 3**0.5
    by_infinity = (scores + torch.full((4, 4), -math.inf).triu(1)).softmax(1)
    by_zero = scores.exp().tril()
    by_zero = by_zero / by_zero.sum(1, keepdim=True)
    torch.testing.assert_close(by_infinity, by_zero)
    torch.testing.assert_close(attend_causally(x, KeyValues(x, x))[0, 0], by_zero @ x[0, 0])


def test_the_first_word_looks_at_itself_alone() -> None:
    """Columbia COMS4995: y_i = sum over j <= i, so y_1 = x_1."""
    x = torch.randn(1, 5, 6)
    y, _ = identity_attention(CausalSelfAttention, 6)(x)
    torch.testing.assert_close(y[:, 0], x[:, 0])


def test_attention_is_a_kernel_average() -> None:
    """Columbia COMS4995: Nadaraya-Watson with k(x, x_i) = exp(x x_i / sqrt(d))."""
    query, keys, values = torch.randn(4), torch.randn(7, 4), torch.randn(7, 4)
    kernel = (keys @ query / 2).exp()
    expected = (kernel[:, None] * values).sum(0) / kernel.sum()
    y = attend(query.view(1, 1, 1, 4), KeyValues(keys[None, None], values[None, None]))
    torch.testing.assert_close(y.flatten(), expected)


# --- positions ----------------------------------------------------------------------------------


def test_sinusoids_of_three_positions() -> None:
    """Columbia COMS4995: d = 4, positions 0, 1, 2; sines at even features, cosines at odd."""
    table = sinusoids(torch.arange(3), 4)
    sines = torch.tensor([[0.0, 0.0], [0.8415, 0.0100], [0.9093, 0.0200]])
    cosines = torch.tensor([[1.0, 1.0], [0.5403, 0.99995], [-0.4161, 0.9998]])
    torch.testing.assert_close(table[:, 0::2], sines, rtol=0, atol=5e-5)
    torch.testing.assert_close(table[:, 1::2], cosines, rtol=0, atol=5e-5)


def test_sinusoids_with_the_exponents_of_berkeleys_slide() -> None:
    """Berkeley CS182 counts i from 1 (errata E4): 10000^(2/d) .. 10000^1 instead of 1 .. ; its
    frequencies are the paper's, each times 10000^(-2/d)."""
    d = 8
    slide = [10000 ** (-2 * i / d) for i in range(1, d // 2 + 1)]
    ours = torch.tensor(
        [table.item() for table in sinusoids(torch.tensor([1]), d)[0, 0::2].asin()]
    )
    torch.testing.assert_close(ours[1:], torch.tensor(slide[:-1]), rtol=1e-4, atol=1e-6)
    assert slide[-1] == pytest.approx(1 / 10000)


def test_the_sines_alone_of_nyu() -> None:
    """NYU Tandon: omega_k = 10000^(-k/d), k = 1 .. d, sines only; d = 4, t = 1. Those with even k
    are the paper's sines after the first."""
    printed = torch.tensor([0.0998334, 0.00999983, 0.00099999983, 0.0001])
    paper = sinusoids(torch.tensor([1]), 4)[0, 0::2]
    assert paper[1].item() == pytest.approx(printed[1].item(), abs=1e-8)
    wider = sinusoids(torch.tensor([1]), 8)[0, 0::2]  # 10000^(-k/4), k = 0 .. 3
    torch.testing.assert_close(wider[1:], printed[:3], rtol=1e-5, atol=0)


def test_positions_are_bounded_and_unique() -> None:
    """NYU Tandon: all in [-1, 1]; Columbia COMS4995: a normalised index confuses 4/5 with 8/10."""
    table = sinusoids(torch.arange(2000), 16)
    assert table.abs().max() <= 1
    assert 4 / 5 == 8 / 10 == 12 / 15
    nearest = torch.cdist(table, table).fill_diagonal_(9).min()
    assert nearest > 0.1


def test_embeddings_and_positions_are_added() -> None:
    """Berkeley CS182: emb(x_t) + p_t; learned positions do not extrapolate, sinusoids do."""
    embeddings = torch.randn(1, 5, 4)
    added, _ = SinusoidalPositions(4)(embeddings)
    torch.testing.assert_close(added[0, 2] - embeddings[0, 2], sinusoids(torch.tensor([2]), 4)[0])
    with pytest.raises(ValueError, match="4 learned positions"):
        LearnedPositions(4, 4)(embeddings)


def test_rotary_attention_forgets_where_a_text_starts() -> None:
    x = torch.randn(1, 1, 5, 4)
    angles = torch.arange(20).unsqueeze(1) * torch.tensor([1.0, 0.01])
    table = torch.stack([angles.cos(), angles.sin()], -1)
    here, there = (rotate(x, table[t : t + 5]) for t in (0, 13))
    torch.testing.assert_close(attention_weights(here, here), attention_weights(there, there))


# --- blocks -------------------------------------------------------------------------------------


def layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def test_the_post_norm_block() -> None:
    """Berkeley CS182, Columbia COMS4995: z = LN(x + attention(x)), y = LN(z + feedforward(z))."""
    block = EncoderLayer(LayerOptions(8, 2, 16, norm_first=False))
    x, network = torch.randn(2, 4, 8), block.feedforward
    z = layer_norm(x + block.attention(x))
    hidden = F.relu(z @ network.hidden.weight.t() + network.hidden.bias)
    expected = layer_norm(z + hidden @ network.output.weight.t() + network.output.bias)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_block_keeps_the_shape(norm_first: bool) -> None:
    """Columbia COMS4995: widths in and out are equal, so blocks stack."""
    block = EncoderLayer(LayerOptions(8, 2, 16, norm_first=norm_first))
    x = torch.randn(2, 4, 8)
    assert block(block(x)).shape == x.shape


def test_a_pair_of_words_costs_a_weight_each() -> None:
    """All courses: n^2 weights, and any two words are one step apart."""
    module = SelfAttention(4, 1)
    weights = module.weights(torch.randn(1, 9, 4))
    assert weights.numel() == 81
    assert weights.min() > 0

"""BERT and its heads: torch's encoder, published sizes, padding, and what each head reads."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.networks.sequence.bert import (
    BERT,
    BertAnswering,
    BertClassifier,
    BertPretraining,
    BertTagger,
)

V, D, H, L, PAD, B, T = 13, 8, 2, 2, 1, 3, 7
SIZES = {"pad_id": PAD, "embed_dim": D, "num_heads": H, "num_layers": L, "max_length": 9}
HEADS: dict[str, Callable[..., nn.Module]] = {
    "pretraining": lambda **options: BertPretraining(V, **options),
    "classifier": lambda **options: BertClassifier(V, 4, **options),
    "tagger": lambda **options: BertTagger(V, 4, **options),
    "answering": lambda **options: BertAnswering(V, **options),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tokens() -> Tensor:
    tokens = torch.randint(2, V, (B, T))
    tokens[1, 4:] = PAD
    return tokens


@pytest.fixture
def segments() -> Tensor:
    return torch.randint(2, (B, T))


def randomized(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network.eval()


def copy_(peer: nn.Module, ours: nn.Module) -> None:
    for mine, theirs in zip(ours.parameters(), peer.parameters(), strict=True):
        theirs.data = mine.data


@pytest.mark.parametrize("norm_first", [True, False])
def test_it_is_torchs_encoder(norm_first: bool, tokens: Tensor, segments: Tensor) -> None:
    network = randomized(BERT(V, norm_first=norm_first, **SIZES))
    x = network.tokens.weight[tokens] + network.segments.weight[segments]
    x = network.norm(x + network.positions.weight[:T])
    for mine in network.layers:
        layer = nn.TransformerEncoderLayer(
            D, H, 4 * D, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
        )
        copy_(layer.self_attn, mine.attention)
        copy_(layer.norm1, mine.residual.norm)
        copy_(layer.norm2, mine.feedforward.residual.norm)
        copy_(layer.linear1, mine.feedforward.hidden)
        copy_(layer.linear2, mine.feedforward.output)
        x = layer(x, src_key_padding_mask=tokens == PAD)
    expected = network.last_norm(x) if norm_first else x
    kept = tokens != PAD
    torch.testing.assert_close(
        network(tokens, segments)[kept], expected[kept], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("width", "depth", "heads", "millions"), [(768, 12, 12, 110), (1024, 24, 16, 340)]
)
def test_published_sizes(width: int, depth: int, heads: int, millions: int) -> None:
    """Devlin et al. 2019, section 3: base 110 million, large 340 million."""
    with torch.device("meta"):
        network = BertPretraining(
            30522, pad_id=0, max_length=512, embed_dim=width, num_layers=depth, num_heads=heads
        )
    size = sum(p.numel() for p in network.parameters())
    assert size == pytest.approx(millions * 1e6, rel=0.015)


def test_without_segments_all_are_the_first(tokens: Tensor, segments: Tensor) -> None:
    network = randomized(BERT(V, **SIZES))
    first = torch.zeros_like(tokens)
    torch.testing.assert_close(network(tokens), network(tokens, first))
    assert (network(tokens, segments) - network(tokens)).abs().max() > 0.01


@pytest.mark.parametrize("kind", list(HEADS))
def test_more_padding_changes_nothing(kind: str, tokens: Tensor) -> None:
    network = randomized(HEADS[kind](**SIZES))
    narrow, wide = network(tokens), network(F.pad(tokens, (0, 2), value=PAD))
    if kind == "pretraining":
        torch.testing.assert_close(wide[1], narrow[1])
        narrow, wide = narrow[0], wide[0]
    if kind != "classifier":
        wide = wide[:, :T]
    torch.testing.assert_close(wide, narrow, rtol=1e-4, atol=1e-5)


def test_every_token_sees_every_other(tokens: Tensor) -> None:
    network = randomized(BERT(V, **SIZES))
    before = network(tokens[:1])
    for t in range(T):
        changed = tokens[:1].clone()
        changed[0, t] = 2 + (changed[0, t] - 1) % (V - 2)
        assert (network(changed) - before).abs().amax(-1).min() > 1e-4


def test_pretraining_reads_tokens_and_order_by_the_written_formulas(
    tokens: Tensor, segments: Tensor
) -> None:
    network = randomized(BertPretraining(V, **SIZES))
    x = network.body(tokens, segments)
    token_logits, order_logits = network(tokens, segments)
    hidden = network.norm(F.gelu(x @ network.hidden.weight.t() + network.hidden.bias))
    expected = hidden @ network.body.tokens.weight.t() + network.output.bias
    torch.testing.assert_close(token_logits, expected, rtol=1e-4, atol=1e-4)
    pooled = (x[:, 0] @ network.pooler.weight.t() + network.pooler.bias).tanh()
    expected = pooled @ network.order.weight.t() + network.order.bias
    torch.testing.assert_close(order_logits, expected)


def test_classifier_and_tagger_read_the_body(tokens: Tensor, segments: Tensor) -> None:
    """Columbia COMS4995: softmax(W y_cls) of the sequence, softmax(W z_i) of each token."""
    classifier = randomized(BertClassifier(V, 4, **SIZES))
    pooled = classifier.pooler(classifier.body(tokens, segments)[:, 0]).tanh()
    torch.testing.assert_close(classifier(tokens, segments), classifier.output(pooled))
    tagger = randomized(BertTagger(V, 4, **SIZES))
    torch.testing.assert_close(tagger(tokens), tagger.output(tagger.body(tokens)))
    answering = randomized(BertAnswering(V, **SIZES))
    expected = answering.output(answering.body(tokens, segments))
    torch.testing.assert_close(answering(tokens, segments), expected)
    assert expected.shape == (B, T, 2)


def test_heads_take_the_weights_of_pretraining() -> None:
    pretrained = BertPretraining(V, **SIZES).state_dict()
    heads = (BertClassifier(V, 4, **SIZES), BertTagger(V, 4, **SIZES), BertAnswering(V, **SIZES))
    for head in heads:
        missing, _ = head.load_state_dict(pretrained | head.output.state_dict(prefix="output."),
                                          strict=False)  # fmt: skip
        assert not missing
        assert head.body.tokens.weight.equal(pretrained["body.tokens.weight"])


@pytest.mark.parametrize("kind", list(HEADS))
def test_it_starts_at_a_scale_of_0_02(kind: str) -> None:
    network = HEADS[kind](pad_id=PAD, num_layers=1)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert parameter.eq(0).all(), name
        elif "norm" in name:
            assert parameter.eq(1).all(), name
        else:
            tolerance = 0.05 if parameter.numel() > 5000 else 0.2
            assert parameter.std().item() == pytest.approx(0.02, rel=tolerance), name


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("kind", list(HEADS))
def test_every_parameter_learns(
    kind: str, norm_first: bool, tokens: Tensor, segments: Tensor
) -> None:
    network = randomized(HEADS[kind](norm_first=norm_first, **SIZES)).train()
    outputs = network(tokens) if kind == "tagger" else network(tokens, segments)
    outputs = outputs if kind == "pretraining" else [outputs]
    sum((out * torch.randn(out.size(-1))).sum() for out in outputs).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", list(HEADS))
def test_dropout_only_in_training(kind: str, tokens: Tensor) -> None:
    def run() -> Tensor:
        out = network(tokens)
        return out[0] if kind == "pretraining" else out

    network = randomized(HEADS[kind](dropout=0.3, **SIZES))
    body = [part.p for part in network.body.modules() if isinstance(part, nn.Dropout)]
    assert body == [0.3] * (1 + 3 * L)
    assert run().equal(run())
    network.train()
    assert not run().equal(run())


def test_dropout_of_the_embeddings(tokens: Tensor) -> None:
    network = randomized(BERT(V, **SIZES))
    network.dropout.train().p = 1.0
    outputs = network(tokens[[0, 2]])  # without padding: nothing is left to tell them apart
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(outputs[0, 0], outputs[0, 1])


@pytest.mark.parametrize("kind", ["classifier", "tagger"])
def test_head_dropout_falls_before_the_last_map(kind: str, tokens: Tensor) -> None:
    network = randomized(HEADS[kind](head_dropout=1.0, **SIZES)).train()
    logits = network(tokens)
    torch.testing.assert_close(logits, network.output.bias.expand_as(logits))


def test_attention_weights_see_no_padding(tokens: Tensor, segments: Tensor) -> None:
    network = randomized(BERT(V, attention_dropout=0.25, **SIZES))
    weights = network.attention_weights(tokens, segments)
    calls: list[tuple] = []
    for layer in network.layers:
        layer.attention.register_forward_pre_hook(lambda _, arguments: calls.append(arguments))
    network(tokens, segments)
    for layer, arguments, w in zip(network.layers, calls, weights, strict=True):
        torch.testing.assert_close(w, layer.attention.weights(*arguments))
    assert [w.shape for w in weights] == [(B, H, T, T)] * L
    for w, layer in zip(weights, network.layers, strict=True):
        torch.testing.assert_close(w.sum(-1), torch.ones(B, H, T))
        assert w.movedim(-1, 1)[tokens == PAD].eq(0).all()
        assert layer.attention.dropout == 0.25


# --- errors -------------------------------------------------------------------------------------


def test_wrong_sequences_are_named(tokens: Tensor) -> None:
    network = BERT(V, **SIZES)
    with pytest.raises(ValueError, match="sequence of 10 tokens is longer than the 9 learned"):
        network(torch.full((1, 10), 3))
    with pytest.raises(ValueError, match="tokens holds id 13, outside the vocabulary of 13"):
        network(tokens.clamp(min=V))
    with pytest.raises(ValueError, match="segments holds id 2, outside the vocabulary of 2"):
        network(tokens, torch.full_like(tokens, 2))
    with pytest.raises(ValueError, match="tokens: sequence 0 is nothing but padding"):
        network(torch.full((1, 3), PAD))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers=0"),
        ({"num_heads": 3}, "num_heads=3: give a divisor of embed_dim=8"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"max_length": 0}, "max_length=0"),
    ],
)
def test_impossible_sizes_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BERT(V, **{**SIZES, **options})


def test_impossible_sizes_of_heads_are_named() -> None:
    with pytest.raises(ValueError, match="num_tokens=0"):
        BertPretraining(0, **SIZES)
    with pytest.raises(ValueError, match="out_channels=0"):
        BertTagger(V, 0, **SIZES)
    with pytest.raises(ValueError, match="head_dropout=2"):
        BertClassifier(V, 2, head_dropout=2, **SIZES)

"""Recurrent encoder-decoders: published sizes, printed equations, stepping, padding, errors."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from recurrent_cases import torch_layers
from torch import Tensor, nn

from trellis.hyperparameters import to_plain
from trellis.networks.sequence.recurrent_seq2seq import RecurrentSeq2Seq
from trellis.sequence.alignment import (
    AdditiveAttention,
    DotAttention,
    GeneralAttention,
    KernelAttention,
    LastState,
    LearnedValue,
    ReducedRankAttention,
)
from trellis.sequence.beam_search import beam_search
from trellis.sequence.decoding import Hypotheses, greedy_search

VS, VT, PAD, BOS, EOS, B, S, T, E, H = 11, 13, 0, 1, 2, 4, 6, 5, 4, 6
LENGTHS = torch.tensor([4, 6, 1, 3])
PADS = {"source_pad_id": PAD, "target_pad_id": PAD}
NETWORKS: dict[str, dict[str, object]] = {
    "last_lstm": {"cell": "lstm", "bidirectional": False, "attention": None, "num_layers": 2},
    "context_gru": {"cell": "gru", "bidirectional": False, "attention": LastState},
    "dot_elman": {"cell": "elman", "bidirectional": False, "attention": DotAttention},
    "additive_gru": {"cell": "gru"},
    "additive_lstm": {"cell": "lstm", "num_layers": 2, "tie": True},
    "general_gru": {"num_layers": 2, "attention": GeneralAttention, "attend": "after"},
    "reduced_lstm": {"cell": "lstm", "attention": ReducedRankAttention, "attend": "after"},
    "backward_gru": {"bidirectional": "backward", "attention": KernelAttention},
    "value_gru": {"attention": partial(LearnedValue, attention=GeneralAttention)},
}
WITH_ATTENTION = [name for name, options in NETWORKS.items() if name != "last_lstm"]


def build(**options: object) -> RecurrentSeq2Seq:
    return RecurrentSeq2Seq(VS, VT, **PADS, embed_dim=E, hidden_size=H, **options)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def source() -> Tensor:
    return torch.randint(3, VS, (B, S)).masked_fill(torch.arange(S) >= LENGTHS[:, None], PAD)


@pytest.fixture
def target() -> Tensor:
    return torch.randint(3, VT, (B, T))


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> RecurrentSeq2Seq:
    return loud(build(**NETWORKS[request.param]).eval())


def loud(network: RecurrentSeq2Seq) -> RecurrentSeq2Seq:
    """Larger weights, so that what is looked at shows in the outputs."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    return network


# --- published sizes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # https://github.com/bentrevett/pytorch-seq2seq, notebooks 1, 2 and 3 of its first edition.
        (
            {"cell": "lstm", "num_layers": 2, "bidirectional": False, "attention": None},
            13_898_501,
        ),
        ({"bidirectional": False, "attention": LastState}, 14_219_781),
        ({"attention": partial(AdditiveAttention, attention_dim=512)}, 20_518_405),
    ],
)
def test_published_parameter_counts(options: dict[str, object], expected: int) -> None:
    with torch.device("meta"):  # no memory, no initial values
        network = RecurrentSeq2Seq(7_853, 5_893, **PADS, **options)
    assert sum(p.numel() for p in network.parameters()) == expected


# --- equality with the equations -----------------------------------------------------------------


def cell_like(kind: Callable[..., nn.Module], stack: nn.Module, layer: int = 0) -> nn.Module:
    """One of torch's cells with the weights of one of a stack's layers."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = {name: stack.rnn.get_parameter(f"{name}_l{layer}") for name in names}
    cell = kind(weights["weight_ih"].size(1), H)
    cell.load_state_dict(weights)
    return cell


@pytest.mark.parametrize(("cell", "num_layers"), [("gru", 1), ("lstm", 2)])
def test_additive_attention_is_the_printed_decoder(
    cell: str, num_layers: int, source: Tensor, target: Tensor
) -> None:
    """Bahdanau et al. 2015: look with the last state, step, then write; a sentence at a time."""
    attention = partial(AdditiveAttention, attention_dim=5)
    network = loud(build(cell=cell, num_layers=num_layers, attention=attention).eval())
    attention, kind = network.attention, nn.GRUCell if cell == "gru" else nn.LSTMCell
    cells = [cell_like(kind, network.decoder, layer) for layer in range(num_layers)]
    logits, weights = network(source, target), network.alignments(source, target)
    for b in range(B):
        words = network.source_embedding.weight[source[b, : LENGTHS[b]]]
        h, last = torch_layers(network.encoder)(words[None])
        h, states = h[0], first_states(network, last if cell == "lstm" else (last,))
        for t in range(T):
            y = network.target_embedding.weight[target[b, t]]
            hidden = torch.tanh(attention.query.weight @ states[-1][0] + attention.key(h))
            alpha = (hidden @ attention.energy.weight[0]).softmax(0)
            c = sum(a * state for a, state in zip(alpha, h, strict=True))
            x = torch.cat((y, c))
            for k, step in enumerate(cells):
                after = step(x, states[k] if cell == "lstm" else states[k][0])
                states[k] = after if cell == "lstm" else (after,)
                x = states[k][0]
            torch.testing.assert_close(logits[b, t], network.output(torch.cat((x, c, y))))
            torch.testing.assert_close(weights[b, t, : len(words)], alpha)
    assert (weights.max(-1).values > 0.3).any()  # it does choose


def first_states(network: RecurrentSeq2Seq, last: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    """Of each layer: forwards at the end and backwards at the start, mapped and squashed."""
    maps, layers = iter(network.bridge), range(network.decoder.num_layers)
    parts = [
        [torch.tanh(next(maps)(torch.cat((x[2 * k, 0], x[2 * k + 1, 0])))) for k in layers]
        for x in last
    ]
    return list(zip(*parts, strict=True))


def test_attention_after_the_step_is_the_printed_decoder(source: Tensor, target: Tensor) -> None:
    """Luong et al. 2015, global attention with the general score, on two LSTM layers."""
    network = loud(
        build(cell="lstm", num_layers=2, attention=GeneralAttention, attend="after", tie=True)
    ).eval()
    cells = [cell_like(nn.LSTMCell, network.decoder, layer) for layer in (0, 1)]
    logits = network(source, target)
    for b in range(B):
        words = network.source_embedding.weight[source[b, : LENGTHS[b]]]
        outputs, last = torch_layers(network.encoder)(words[None])
        states = first_states(network, last)
        for t in range(T):
            x = network.target_embedding.weight[target[b, t]]
            for k, cell in enumerate(cells):
                states[k] = cell(x, states[k])
                x = states[k][0]
            alpha = (outputs[0] @ network.attention.key.weight.t() @ x).softmax(0)
            read = torch.tanh(network.readout[0](torch.cat((x, alpha @ outputs[0]))))
            expected = network.target_embedding.weight @ read + network.output.bias
            torch.testing.assert_close(logits[b, t], expected)


def test_without_attention_only_the_last_state_goes_over(source: Tensor, target: Tensor) -> None:
    """Sutskever et al. 2014: both layers of an LSTM start where the encoder's end."""
    network = loud(build(**NETWORKS["last_lstm"]).eval())
    logits = network(source, target)
    for b in range(B):
        words = network.source_embedding.weight[source[b, : LENGTHS[b]]]
        _, state = torch_layers(network.encoder)(words[None])
        outputs, _ = torch_layers(network.decoder)(
            network.target_embedding.weight[target[b]][None], state
        )
        torch.testing.assert_close(logits[b], network.output(outputs[0]))


def test_the_last_state_as_context_is_seen_at_each_step(source: Tensor, target: Tensor) -> None:
    """Cho et al. 2014: the summary enters each step and each output."""
    network = loud(build(**NETWORKS["context_gru"]).eval())
    cell, logits = cell_like(nn.GRUCell, network.decoder), network(source, target)
    for b in range(B):
        words = network.source_embedding.weight[source[b, : LENGTHS[b]]]
        s = summary = torch_layers(network.encoder)(words[None])[1][0, 0]
        for t in range(T):
            y = network.target_embedding.weight[target[b, t]]
            s = cell(torch.cat((y, summary))[None], s[None])[0]
            torch.testing.assert_close(logits[b, t], network.output(torch.cat((s, summary, y))))


@pytest.mark.parametrize("attention", [None, LastState, GeneralAttention])
def test_a_reversed_source_is_read_as_its_reverse(
    attention: Callable[..., nn.Module] | None, source: Tensor, target: Tensor
) -> None:
    network = loud(build(bidirectional="backward", attention=attention).eval())
    plain = build(bidirectional=False, attention=attention).eval()
    plain.load_state_dict(network.state_dict())
    for b, length in enumerate(LENGTHS.tolist()):
        backwards = source[b, :length].flip(0)[None]
        expected = plain(backwards, target[b : b + 1])
        torch.testing.assert_close(network(source, target)[b : b + 1], expected)
        if attention is not None:
            shares = plain.alignments(backwards, target[b : b + 1])[0].flip(-1)
            torch.testing.assert_close(network.alignments(source, target)[b, :, :length], shares)


# --- properties ----------------------------------------------------------------------------------


def test_a_target_in_pieces_is_the_target(
    network: RecurrentSeq2Seq, source: Tensor, target: Tensor
) -> None:
    whole = network(source, target)
    memory, state = network.encode(source)
    logits = []
    for piece in target.split((1, 3, 1), dim=1):
        output, state = network.decode(piece, state, memory)
        logits.append(output)
    torch.testing.assert_close(torch.cat(logits, dim=1), whole)


def test_no_step_sees_a_later_target(
    network: RecurrentSeq2Seq, source: Tensor, target: Tensor
) -> None:
    changed = target.clone()
    changed[:, 3] = (changed[:, 3] - 2) % (VT - 3) + 3
    before, after = network(source, target), network(source, changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not before[:, 3].allclose(after[:, 3], atol=1e-3)


def test_padding_changes_nothing(
    network: RecurrentSeq2Seq, source: Tensor, target: Tensor
) -> None:
    expected = network(source, target)
    wide = F.pad(source, (0, 4), value=PAD)
    torch.testing.assert_close(network(wide, target), expected)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = network(source[row : row + 1, :length], target[row : row + 1])
        torch.testing.assert_close(alone[0], expected[row])


def test_every_source_token_matters_to_all_that_is_written(
    network: RecurrentSeq2Seq, source: Tensor, target: Tensor
) -> None:
    expected = network(source, target)[1]
    for position in range(S):
        changed = source.clone()
        changed[1, position] = (changed[1, position] - 2) % (VS - 3) + 3
        difference = (network(changed, target)[1] - expected).abs().amax(-1)
        assert difference.min() > 1e-6


def test_rows_of_state_and_memory_are_rows_of_the_batch(
    network: RecurrentSeq2Seq, source: Tensor, target: Tensor
) -> None:
    expected = network(source, target)
    rows = torch.tensor([3, 1, 3])
    memory, state = network.encode(source)
    _, state = network.decode(target[:, :2], state, memory)
    state, memory = (tuple(part.index_select(0, rows) for part in x) for x in (state, memory))
    logits, _ = network.decode(target[rows, 2:], state, memory)
    torch.testing.assert_close(logits, expected[rows, 2:])


def test_decoding_is_the_loop_over_whole_prefixes(
    network: RecurrentSeq2Seq, source: Tensor
) -> None:
    memory, state = network.encode(source)
    prompt = torch.full((B, 1), BOS)
    text = prompt
    for _ in range(6):
        text = torch.cat((text, network(source, text)[:, -1:].argmax(-1)), dim=1)
    found = greedy_search(network.decode, prompt, state, memory, eos_id=EOS, max_new_tokens=6)
    for row, tokens in enumerate(text[:, 1:].tolist()):
        expected = tokens[: tokens.index(EOS)] if EOS in tokens else tokens
        assert found.best()[row] == expected


def test_a_batch_of_beams_is_each_sentence_alone(
    network: RecurrentSeq2Seq, source: Tensor
) -> None:
    def search(source: Tensor) -> Hypotheses:
        memory, state = network.encode(source)
        prompt = torch.full((len(source), 1), BOS)
        return beam_search(
            network.decode, prompt, state, memory, eos_id=EOS, max_new_tokens=6, num_beams=3
        )

    batch = search(source)
    for row in range(B):
        alone = search(source[row : row + 1])
        assert alone.best() == batch.best()[row : row + 1]
        torch.testing.assert_close(alone.scores[0], batch.scores[row])


@pytest.mark.parametrize("kind", WITH_ATTENTION)
def test_alignments_are_shares_of_what_is_no_padding(
    kind: str, source: Tensor, target: Tensor
) -> None:
    network = loud(build(**NETWORKS[kind]).eval())
    weights = network.alignments(source, target)
    assert weights.shape == (B, T, S)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, T))
    assert weights.masked_select((source == PAD)[:, None]).abs().max() == 0
    if kind == "context_gru":
        assert weights.argmax(-1).equal((LENGTHS - 1)[:, None].expand(B, T))


def test_training_drops_and_all_parameters_learn(
    network: RecurrentSeq2Seq, source: Tensor, target: Tensor
) -> None:
    expected = network(source, target)
    assert expected.equal(network(source, target))
    (expected * torch.randn_like(expected)).sum().backward()
    for name, parameter in network.named_parameters():
        # The softmax takes away what all positions share.
        assert name == "attention.key.bias" or parameter.grad.abs().max() > 0, name
    assert network.source_embedding.weight.grad[PAD].abs().max() == 0
    network.train()
    assert not network(source, target).equal(network(source, target))


def test_all_that_is_dropped_leaves_the_bias(source: Tensor, target: Tensor) -> None:
    for options in NETWORKS.values():
        network = build(**options, dropout=1.0)
        if network.readout is not None:
            network.readout[0].bias.data.zero_()
        logits = network(source, target)
        torch.testing.assert_close(logits, network.output.bias.expand_as(logits))


def test_source_embeddings_are_dropped_too(source: Tensor, target: Tensor) -> None:
    network, seen = build(dropout=1.0), []
    network.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network(source, target)
    assert seen[0].abs().max() == 0


def test_the_embeddings_of_padding_stay_zero(source: Tensor, target: Tensor) -> None:
    network = build()
    source[1, 2] = target[:, 3:] = PAD
    network(source, target).sum().backward()
    for embedding in (network.source_embedding, network.target_embedding):
        assert embedding.weight[PAD].abs().max() == embedding.weight.grad[PAD].abs().max() == 0
        assert embedding.weight.grad.abs().max() > 0


def test_bfloat16_products_train_it(
    network: RecurrentSeq2Seq, source: Tensor, target: Tensor
) -> None:
    if network.encoder.cell == "lstm" and "AVX512" not in torch.backends.cpu.get_cpu_capability():
        pytest.skip("without AVX-512, torch has no LSTM in bfloat16")
    exact = network(source, target)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(source, target)
    torch.testing.assert_close(logits.float(), exact, rtol=0.2, atol=0.3)
    logits.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_tied_outputs_are_the_targets_embeddings() -> None:
    network = build(tie=True)
    assert network.output.weight is network.target_embedding.weight
    free, tied = ({n for n, _ in build(tie=tie).named_parameters()} for tie in (False, True))
    assert free - tied == {"output.weight"}


def test_a_factory_of_attention_is_stored_as_plain_types() -> None:
    factory = partial(
        RecurrentSeq2Seq, hidden_size=8, attention=partial(AdditiveAttention, attention_dim=4)
    )
    attention = to_plain(factory)["init_args"]["attention"]
    assert attention == {
        "class_path": "trellis.sequence.AdditiveAttention",
        "init_args": {"attention_dim": 4},
    }


# --- errors --------------------------------------------------------------------------------------


def test_alignments_need_attention(source: Tensor, target: Tensor) -> None:
    with pytest.raises(ValueError, match=r"attention=None\) has no alignments: choose"):
        build(attention=None).alignments(source, target)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([[3, VS]], [[1]], "source holds id 11, outside the vocabulary of 11"),
        ([[3, 4]], [[1, VT]], "target holds id 13, outside the vocabulary of 13"),
        ([[3, 4]], [[-100, 1]], "target holds id -100"),
        ([[3, 4], [0, 0]], [[1], [1]], "source: sequence 1 is nothing but padding"),
        ([3, 4], [[1]], r"source \[2\] of torch.int64: give token ids \[B, T\]"),
    ],
)
@pytest.mark.parametrize("kind", ["last_lstm", "additive_gru"])
def test_sequences_that_are_none_are_named(
    kind: str, source: list, target: list, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(**NETWORKS[kind])(torch.tensor(source), torch.tensor(target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": DotAttention}, "query_dim=6 and key_dim=12 must be equal"),
        ({"attend": "during"}, "attend='during': choose from before, after"),
        ({"cell": "rnn"}, "cell='rnn': choose from elman, lstm, gru"),
        ({"bidirectional": "forward"}, "bidirectional='forward': choose from backward"),
        ({"num_layers": 0}, "num_layers=0: give at least 1"),
        ({"dropout": 2.0}, "dropout=2.0: give a probability"),
    ],
)
def test_impossible_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_pad_id_outside_the_vocabulary_is_named() -> None:
    with pytest.raises(ValueError, match="pad_id=11: give an id of the vocabulary, 0 to 10"):
        RecurrentSeq2Seq(VS, VT, source_pad_id=VS)

"""Language models, classifiers and taggers: stepping, padding, directions, errors."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.networks.sequence.recurrent import RecurrentClassifier, RecurrentLM, RecurrentTagger
from trellis.sequence.decoding import greedy_search, language_model

V, C, PAD, B, T = 12, 3, 0, 4, 6
LENGTHS = torch.tensor([4, 6, 1, 3])
CELLS = ("elman", "lstm", "gru")
SMALL = {"embed_dim": 5, "hidden_size": 7, "num_layers": 2}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(1, V, (B, T))


@pytest.fixture
def padded(tokens: Tensor) -> Tensor:
    return tokens.masked_fill(torch.arange(T) >= LENGTHS[:, None], PAD)


@pytest.fixture(params=CELLS)
def lm(request: pytest.FixtureRequest) -> RecurrentLM:
    return RecurrentLM(V, cell=request.param, **SMALL).eval()


def reader(kind: type[nn.Module], cell: str = "lstm", **options: object) -> nn.Module:
    return kind(V, C, pad_id=PAD, cell=cell, **SMALL, **options).eval()


# --- language models -----------------------------------------------------------------------------


def test_a_text_in_pieces_is_the_text(lm: RecurrentLM, tokens: Tensor) -> None:
    whole, last = lm(tokens)
    state, logits = None, []
    for piece in tokens.split((1, 3, 2), dim=1):
        output, state = lm(piece, state)
        logits.append(output)
    torch.testing.assert_close(torch.cat(logits, dim=1), whole)
    torch.testing.assert_close(state, last)
    assert all(part.size(0) == B for part in state)


def test_no_token_sees_a_later_one(lm: RecurrentLM, tokens: Tensor) -> None:
    changed = tokens.clone()
    changed[:, 3] = changed[:, 3] % (V - 1) + 1
    same = (lm(tokens)[0] == lm(changed)[0]).all(-1)
    assert same[:, :3].all()
    assert not same[:, 3:].any()


def test_an_lstm_language_model_is_torchs_cells(tokens: Tensor) -> None:
    lm = RecurrentLM(V, cell="lstm", **SMALL).eval()
    cells = [nn.LSTMCell(5, 7), nn.LSTMCell(7, 7)]
    for layer, cell in enumerate(cells):
        cell.load_state_dict(
            {
                name: value
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                for name, value in [(kind, lm.rnn.rnn.get_parameter(f"{kind}_l{layer}"))]
            }
        )
    states = [(torch.zeros(B, 7), torch.zeros(B, 7)) for _ in cells]
    for t in range(T):
        x = lm.embedding.weight[tokens[:, t]]
        for layer, cell in enumerate(cells):
            states[layer] = cell(x, states[layer])
            x = states[layer][0]
        expected = x @ lm.output.weight.t() + lm.output.bias
        torch.testing.assert_close(lm(tokens)[0][:, t], expected)


def test_greedy_decoding_of_a_language_model_is_the_loop(lm: RecurrentLM, tokens: Tensor) -> None:
    text = tokens
    for _ in range(5):
        text = torch.cat((text, lm(text)[0][:, -1:].argmax(-1)), dim=1)
    found = greedy_search(language_model(lm), tokens, eos_id=None, max_new_tokens=5)
    assert found.tokens[:, 0].equal(text[:, T:])


def test_a_tied_output_layer_is_the_embedding(tokens: Tensor) -> None:
    tied = RecurrentLM(V, embed_dim=7, hidden_size=7, tie=True)
    free = RecurrentLM(V, embed_dim=7, hidden_size=7)
    sizes = [sum(p.numel() for p in network.parameters()) for network in (tied, free)]
    assert sizes[1] - sizes[0] == V * 7
    with torch.no_grad():
        tied.embedding.weight += 1
    assert tied.output.weight.equal(tied.embedding.weight)


def test_the_first_loss_is_that_of_a_uniform_guess(tokens: Tensor) -> None:
    """ln V, tied or not: the embeddings start small enough to be an output layer."""
    for tie in (False, True):
        lm = RecurrentLM(1000, embed_dim=128, hidden_size=128, tie=tie)
        logits = lm(torch.randint(1000, (8, 20)))[0]
        loss = F.cross_entropy(logits.flatten(0, 1), torch.randint(1000, (160,)))
        assert loss.item() == pytest.approx(6.908, abs=0.1)


# --- classifiers and taggers ---------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_batch_is_each_sequence_alone(cell: str, bidirectional: bool, padded: Tensor) -> None:
    classifier = reader(RecurrentClassifier, cell, bidirectional=bidirectional)
    tagger = reader(RecurrentTagger, cell, bidirectional=bidirectional)
    classes, tags = classifier(padded), tagger(padded)
    assert classes.shape == (B, C)
    assert tags.shape == (B, T, C)
    for row, length in enumerate(LENGTHS.tolist()):
        sequence = padded[row : row + 1, :length]
        torch.testing.assert_close(classes[row], classifier(sequence)[0])
        torch.testing.assert_close(tags[row, :length], tagger(sequence)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_a_classifier_reads_where_both_directions_end(cell: str, tokens: Tensor) -> None:
    network = reader(RecurrentClassifier, cell)
    outputs, _ = network.rnn(network.embedding(tokens))
    ends = torch.cat((outputs[:, -1, :7], outputs[:, 0, 7:]), dim=1)
    expected = ends @ network.output.weight.t() + network.output.bias
    torch.testing.assert_close(network(tokens), expected)


def test_a_tag_sees_the_words_before_and_with_both_directions_those_behind(
    tokens: Tensor,
) -> None:
    changed = tokens.clone()
    changed[:, 3] = changed[:, 3] % (V - 1) + 1
    for bidirectional, first in ((False, 3), (True, 0)):
        tagger = reader(RecurrentTagger, bidirectional=bidirectional)
        same = (tagger(tokens) == tagger(changed)).all(-1).all(0)
        assert same.tolist() == [True] * first + [False] * (T - first)


def test_a_pad_inside_a_sequence_is_a_token(padded: Tensor) -> None:
    network = reader(RecurrentClassifier)
    inside = padded.clone()
    inside[1, 2] = PAD
    assert not network(inside)[1].allclose(network(padded)[1])


# --- both ----------------------------------------------------------------------------------------

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lm": lambda: RecurrentLM(V, dropout=0.5, **SMALL),
    "classifier": lambda: RecurrentClassifier(V, C, pad_id=PAD, dropout=0.5, **SMALL),
    "tagger": lambda: RecurrentTagger(V, C, pad_id=PAD, dropout=0.5, **SMALL),
}


def logits(network: nn.Module, tokens: Tensor) -> Tensor:
    result = network(tokens)
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("kind", NETWORKS)
def test_dropout_only_in_training_and_all_parameters_learn(kind: str, tokens: Tensor) -> None:
    network = NETWORKS[kind]()
    first = logits(network, tokens)
    assert not first.equal(logits(network, tokens))
    network.eval()
    first = logits(network, tokens)
    assert first.equal(logits(network, tokens))
    (first * torch.randn_like(first)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", NETWORKS)
def test_dropout_falls_on_embeddings_and_before_the_output(kind: str, tokens: Tensor) -> None:
    network = NETWORKS[kind]()
    network.dropout.p = 1.0
    expected = network.output.bias.expand_as(logits(network, tokens))
    assert logits(network, tokens).equal(expected)
    network.rnn.eval()
    network.output, network.embedding.weight = nn.Identity(), nn.Parameter(torch.ones(V, 5))
    seen = []
    network.rnn.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    logits(network, tokens)
    assert seen[0].abs().max() == 0


@pytest.mark.parametrize("kind", ["classifier", "tagger"])
def test_the_embedding_of_padding_stays_zero(kind: str, padded: Tensor) -> None:
    network = NETWORKS[kind]()
    padded[1, 2] = PAD  # even inside a sequence, where it is read
    logits(network, padded).sum().backward()
    assert network.embedding.weight[PAD].abs().max() == 0
    assert network.embedding.weight.grad[PAD].abs().max() == 0


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.tensor([[1, V]]), r"tokens holds id 12, outside the vocabulary of 12"),
        (torch.tensor([[-1, 1]]), r"tokens holds id -1"),
        (torch.tensor([1, 2]), r"tokens \[2\] of torch.int64: give token ids \[B, T\]"),
        (torch.tensor([[1.0]]), r"tokens \[1, 1\] of torch.float32"),
    ],
)
def test_tokens_that_are_none_are_named(kind: str, tokens: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NETWORKS[kind]()(tokens)


@pytest.mark.parametrize("kind", ["classifier", "tagger"])
def test_a_sequence_of_nothing_is_named(kind: str) -> None:
    with pytest.raises(ValueError, match=r"tokens: sequence 1 is nothing but padding \(pad_id=0"):
        NETWORKS[kind]()(torch.tensor([[1, 2], [0, 0]]))
    with pytest.raises(ValueError, match="sequence 0 is nothing but padding"):
        NETWORKS[kind]()(torch.zeros(2, 0, dtype=torch.long))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RecurrentLM(0), "num_tokens=0: give at least 1"),
        (lambda: RecurrentLM(V, embed_dim=0), "embed_dim=0: give at least 1"),
        (lambda: RecurrentLM(V, embed_dim=4, hidden_size=8, tie=True), "tie=True: embed_dim=4"),
        (lambda: RecurrentLM(V, dropout=1.5), "dropout=1.5: give a probability"),
        (lambda: RecurrentClassifier(V, 0, pad_id=0), "out_channels=0: give at least 1"),
        (lambda: RecurrentTagger(V, 0, pad_id=0), "out_channels=0: give at least 1"),
        (lambda: RecurrentTagger(V, C, pad_id=V), "pad_id=12: give an id of the vocabulary"),
        (lambda: RecurrentTagger(V, C, pad_id=-1), "pad_id=-1: give an id of the vocabulary"),
    ],
)
def test_impossible_sizes_are_named(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()

"""N-gram models: probabilities of nltk, sums of 1, states, counts that grow, bad input."""

import itertools
from collections import Counter, defaultdict
from functools import partial

import pytest
import torch
from nltk.lm import KneserNeyInterpolated, Lidstone
from nltk.util import everygrams
from torch import Tensor

from trellis.networks.sequence.ngram import AddKLM, CountedLM, KneserNeyLM
from trellis.sequence import ngram_counts
from trellis.sequence.beam_search import beam_search
from trellis.sequence.decoding import greedy_search, language_model

SENTENCE = "the cat sat on the mat and the dog sat on the cat and the mat sat on the dog "
# It ends as it began, so that nothing was met at the beginning alone; see KneserNeyLM.
TEXT = SENTENCE + SENTENCE[:8]
LETTERS = sorted(set(TEXT))
IDS = torch.tensor([[LETTERS.index(letter) for letter in TEXT]])
V = len(LETTERS) + 1  # nltk counts its token for unknown words

kneser_ney = partial(KneserNeyLM, discount=0.1, uniform=False)
KINDS = [KneserNeyLM, kneser_ney, AddKLM]


def counted(kind, order: int, ids: Tensor = IDS, **options) -> CountedLM:
    network = kind(V, order=order, **options)
    network.count(ids)
    return network


def after(network: CountedLM, context: str) -> Tensor:
    """Probabilities [V] of what follows."""
    logits, _ = network(torch.tensor([[LETTERS.index(letter) for letter in context]]))
    return logits[0, -1].exp()


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        (kneser_ney, partial(KneserNeyInterpolated, discount=0.1)),
        (partial(AddKLM, k=0.3), lambda order: Lidstone(0.3, order)),
    ],
)
def test_every_probability_is_that_of_nltk(kind, reference, order: int) -> None:
    theirs = reference(order=order)
    theirs.fit([list(everygrams(list(TEXT), max_len=order))], LETTERS)
    network = counted(kind, order)
    met = {TEXT[i : i + k] for k in range(1, order) for i in range(len(TEXT) - k + 1)}
    unmet = {"".join(pair) for pair in itertools.product(LETTERS[:4], repeat=order - 1)}
    for context in sorted(met | unmet):
        ours = after(network, context)[:-1].tolist()
        expected = [theirs.score(letter, tuple(context)) for letter in LETTERS]
        assert ours == pytest.approx(expected, abs=1e-6), context
    assert unmet - met or order == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [1, 3])
def test_targets_alone_have_the_probabilities_of_the_whole_vocabulary(kind, order: int) -> None:
    network = counted(kind, order)
    tokens = torch.randint(0, V, (3, 40), generator=torch.Generator().manual_seed(0))
    tokens[0] = IDS[0, :40]  # contexts that were met, as well
    logits, state = network(tokens[:, :20])
    expected = logits.gather(-1, tokens[:, 1:21, None]).squeeze(-1)
    ours, own_state = network.log_prob(tokens[:, :20], tokens[:, 1:21])
    torch.testing.assert_close(ours, expected)
    assert torch.equal(own_state, state)
    later = network.log_prob(tokens[:, 20:-1], tokens[:, 21:], state)[0]
    whole = network.log_prob(tokens[:, :-1], tokens[:, 1:])[0]
    assert torch.equal(later, whole[:, 20:])


def test_discounts_and_probabilities_are_those_of_chen_and_goodman() -> None:
    """Their modified smoothing in loops and dictionaries, on enough text to estimate discounts."""
    torch.manual_seed(0)
    text = [int(token) for token in torch.randint(0, 30, (4000,)) ** 2 // 40]
    size, order = max(text) + 1, 3
    network = KneserNeyLM(size, order=order)
    network.count(torch.tensor([text]))
    grams = [Counter(zip(*(text[i:] for i in range(n)), strict=False)) for n in (1, 2, 3)]
    adjusted = [
        *(Counter(gram[1:] for gram in longer) for longer in grams[1:]),
        grams[-1],
    ]
    discounts = []
    for counts in adjusted:
        n = Counter(counts.values())
        y = n[1] / (n[1] + 2 * n[2]) if n[1] else 0
        estimates = [i - (i + 1) * y * n[i + 1] / n[i] if n[i] else -1 for i in (1, 2, 3)]
        valid = n[1] and all(0 <= d <= i for i, d in enumerate(estimates, 1))
        discounts.append(estimates if valid else [0.5, 1.0, 1.5])
    torch.testing.assert_close(network.discounts(), torch.tensor(discounts, dtype=torch.double))
    assert discounts[0] == [0.5, 1.0, 1.5], "single tokens are too frequent to estimate"
    assert discounts[2] != [0.5, 1.0, 1.5], "and the longest n-grams are not"
    followers: dict = defaultdict(dict)
    for counts in adjusted:
        for gram, count in counts.items():
            followers[gram[:-1]][gram[-1]] = count

    def probability(context: tuple, token: int) -> float:
        rest = probability(context[1:], token) if context else 1 / size
        if not (met := followers[context]):
            return rest
        discount = {c: discounts[len(context)][min(c, 3) - 1] for c in met.values()}
        left = sum(discount[c] for c in met.values())
        own = met[token] - discount[met[token]] if token in met else 0
        return (own + left * rest) / sum(met.values())

    for context in ((0,), (3, 1), (5, 5), (20, 7), (2, 19)):
        logits, _ = network(torch.tensor([context]))
        expected = [probability(context, token) for token in range(size)]
        assert logits[0, -1].exp().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_add_up_to_one(kind, order: int) -> None:
    network = counted(kind, order)
    torch.manual_seed(0)
    logits, _ = network(torch.cat([IDS, torch.randint(0, V, IDS.shape)]))
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(logits.shape[:2]))


def test_single_tokens_are_counted_where_there_is_no_context() -> None:
    share = IDS[0].bincount(minlength=V) / IDS.numel()
    torch.testing.assert_close(after(counted(kneser_ney, 1), "t"), share)
    smoothed = (share * IDS.numel() + 0.5) / (IDS.numel() + 0.5 * V)
    torch.testing.assert_close(after(counted(AddKLM, 1, k=0.5), "t"), smoothed)


@pytest.mark.parametrize("kind", KINDS)
def test_before_anything_is_counted_all_tokens_are_equally_probable(kind) -> None:
    logits, _ = kind(V, order=3)(IDS)
    torch.testing.assert_close(logits.exp(), torch.full_like(logits, 1 / V))


def test_what_was_never_met_has_a_probability_only_with_uniform() -> None:
    assert after(counted(KneserNeyLM, 3), "th")[-1] > 0
    assert after(counted(kneser_ney, 3), "th")[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_in_pieces_is_counted_and_read_as_one(kind, monkeypatch) -> None:
    """Also where each piece is merged at once, not with others that wait."""
    whole = counted(kind, 4)
    monkeypatch.setattr(ngram_counts, "MOST", 1)
    pieces, state = kind(V, order=4), None
    for piece in IDS.split([1, 7, 2, IDS.size(1) - 10], 1):
        state = pieces.count(piece, state)
        assert not pieces.counts._waiting
    for (name, ours), right in zip(
        pieces.state_dict().items(), whole.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, right), name
    logits, after_all = whole(IDS)
    state, parts = None, []
    for piece in IDS.split([3, 1, IDS.size(1) - 4], 1):
        part, state = whole(piece, state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 1), logits)
    assert torch.equal(state, after_all)
    assert torch.equal(state, IDS[:, -3:])


def test_rows_are_texts_of_their_own_and_padding_does_not_count() -> None:
    padded = torch.tensor([[0, 1, 2, -1], [1, 2, 1, 0]])
    whole = counted(AddKLM, 2, padded)
    apart = counted(AddKLM, 2, padded[:1, :3])
    apart.count(padded[1:])
    assert torch.equal(whole(IDS)[0], apart(IDS)[0])
    followers = whole.counts.levels()[1]
    assert followers.ngrams.tolist() == [1, V + 0, V + 2, 2 * V + 1]
    assert followers.counts.tolist() == [1, 1, 2, 1]


def test_weights_of_any_size_are_loaded() -> None:
    network = counted(KneserNeyLM, 4)
    other = counted(KneserNeyLM, 4, IDS.flip(1))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(IDS)[0], network(IDS)[0])
    network.forget()
    assert torch.equal(network(IDS)[0], KneserNeyLM(V, order=4)(IDS)[0])
    with pytest.raises(RuntimeError, match="_levels.3"):
        KneserNeyLM(V, order=3).load_state_dict(other.state_dict())


def test_searches_of_the_library_decode_it() -> None:
    network = counted(KneserNeyLM, 6)
    step = language_model(network)
    prompt = IDS[:, :6].repeat(2, 1)
    [greedy, _] = greedy_search(step, prompt, eos_id=None, max_new_tokens=9).best()
    options = {"num_beams": 4, "eos_id": None, "max_new_tokens": 9}
    found = beam_search(step, prompt, **options)
    alone, _ = network(torch.cat([prompt[:1], found.tokens[:1, 0]], 1))
    steps = alone.log_softmax(-1)[0, 5:-1].gather(1, found.tokens[0, 0, :, None])
    assert float(found.scores[0, 0]) == pytest.approx(float(steps.sum()), abs=1e-4)
    logits, _ = network(torch.cat([prompt[:1], torch.tensor([greedy])], 1))
    assert torch.equal(logits[0, 5:-1].argmax(-1), torch.tensor(greedy))


def test_a_text_of_one_token_is_certain() -> None:
    ones = torch.zeros(1, 20, dtype=torch.long)
    for order in (1, 3):
        network = KneserNeyLM(1, order=order)
        network.count(ones)
        torch.testing.assert_close(network(ones)[0], torch.zeros(1, 20, 1))
        network = KneserNeyLM(2, order=order)
        network.count(ones)
        assert (network(ones)[0].exp()[..., 0] > 0.8).all()


def test_order_and_vocabulary_of_any_size_are_counted() -> None:
    """The 33,278 words of WikiText-2 to the power of 5 do not fit into 64 bits."""
    size = 10**6
    row = [size - 1, 7, size - 2, size - 1, 7, size - 2, size - 1, 7, 3]
    text = torch.tensor([row])
    network = AddKLM(size, order=9, k=1e-9)
    network.count(text)
    logits, _ = network(text[:, :-1])
    assert logits[0, -1].argmax() == 3
    different = [len({*zip(*(row[i:] for i in range(n)), strict=False)}) for n in range(1, 10)]
    assert [len(level.ngrams) for level in network.counts.levels()] == different


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: KneserNeyLM(5, order=0), "order=0: give at least 1"),
        (lambda: KneserNeyLM(0), "num_tokens=0: give at least 1"),
        (lambda: KneserNeyLM(5, discount=1.5), "discount=1.5: give a probability"),
        (lambda: AddKLM(5, k=0), "k=0: give more than 0"),
        (lambda: KneserNeyLM(5).count(torch.tensor([[0, 5]])), "tokens holds id 5"),
        (lambda: KneserNeyLM(5)(torch.tensor([[-1, 2]])), "tokens holds id -1"),
    ],
)
def test_refuses(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()

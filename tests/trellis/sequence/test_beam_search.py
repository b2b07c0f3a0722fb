"""Beam search against enumeration, a naive beam, greedy and the courses' examples."""

import math
from typing import Any

import pytest
import torch
from decoding_cases import (
    BOS,
    EOS,
    SmallNet,
    Words,
    alone,
    assert_same,
    brute_force,
    found,
    naive_beam,
    naive_greedy,
)
from torch import Tensor

from trellis.networks.sequence.gpt import GPT
from trellis.networks.sequence.recurrent import RecurrentLM
from trellis.networks.sequence.recurrent_seq2seq import RecurrentSeq2Seq
from trellis.networks.sequence.transformer import TransformerSeq2Seq
from trellis.sequence.beam_search import beam_search, gnmt_penalty
from trellis.sequence.decoding import greedy_search, language_model, transition_table

PROMPT = torch.tensor([[BOS]])


# --- examples of the courses ---------------------------------------------------------------------


def test_ok_ok() -> None:
    """Course 4: greedy takes "yes" and ends at 0.20, a beam of two finds "ok ok" with 0.28."""
    probabilities = {
        "": {"ok": 0.4, "yes": 0.5, "</s>": 0.1},
        "ok": {"ok": 0.7, "yes": 0.2, "</s>": 0.1},
        "yes": {"ok": 0.3, "yes": 0.4, "</s>": 0.3},
    }
    step = Words({k: {w: math.log(p) for w, p in v.items()} for k, v in probabilities.items()})
    first = greedy_search(step, PROMPT, eos_id=EOS, max_new_tokens=5)
    assert step.text(first.best()[0]) == "yes yes"
    assert first.scores.exp().item() == pytest.approx(0.20)
    best = beam_search(step, PROMPT, eos_id=EOS, max_new_tokens=5, num_beams=2, length_penalty=0.0)
    assert step.text(best.best()[0]) == "ok ok"
    assert best.scores.exp().item() == pytest.approx(0.28)
    assert bool(best.finished)


def test_he_hit_me() -> None:
    """Course 3: two beams; the better first word and the better pair of words lose in the end."""
    step = Words(
        {
            "": {"he": -0.7, "I": -0.9},
            "he": {"hit": -1.0, "saw": -1.2},
            "I": {"was": -0.7, "had": -1.5},
            "he hit": {"me": -0.8, "a": -1.1},
            "I was": {"hit": -1.3, "at": -1.3, "so": -1.4},
        }
    )
    kept = []
    for length in (1, 2, 3):
        beams = beam_search(
            step, PROMPT, eos_id=EOS, max_new_tokens=length, num_beams=2, num_return=2
        )
        kept.append([(step.text(one.tokens), round(one.score, 4)) for one in found(beams)])
    assert kept == [
        [("he", -0.7), ("I", -0.9)],
        [("I was", -1.6), ("he hit", -1.7)],
        [("he hit me", -2.5), ("he hit a", -2.8)],
    ]
    assert beams.normalized[0, 0].item() == pytest.approx(-0.8333, abs=1e-4)


@pytest.fixture
def pies() -> Words:
    """Course 0: three sentences of 6, 4 and 9 words with -4.5, -3.2 and -7.2."""
    sentences = {
        "he hit me with a pie": [-0.4, -1.1, -1.0, -1.0, -0.5, -0.5],
        "he threw a pie": [-0.4, -0.8, -1.0, -1.0],
        "I was hit with a pie that he threw": [-1.2, -1.0, -1.0, -1.0, -1.0, -1.0, -0.5, -0.5, 0],
    }
    tree: dict[str, dict[str, float]] = {}
    for sentence, steps in sentences.items():
        words = sentence.split()
        for index, (word, value) in enumerate(zip(words, steps, strict=True)):
            tree.setdefault(" ".join(words[:index]), {})[word] = value
    return Words(tree)


@pytest.mark.parametrize(
    ("alpha", "count_eos", "best", "score"),
    [
        (0.0, False, "he threw a pie", -3.2),
        (1.0, False, "he hit me with a pie", -0.75),
        (1.0, True, "he threw a pie", -0.64),
    ],
)
def test_length_normalization(
    pies: Words, alpha: float, count_eos: bool, best: str, score: float
) -> None:
    """Raw sums, means over words, and means over words and the end choose differently."""
    beams = beam_search(
        pies, PROMPT, eos_id=EOS, max_new_tokens=12, num_beams=200,
        length_penalty=alpha, count_eos=count_eos, num_return=3,
    )  # fmt: skip
    assert pies.text(beams.best()[0]) == best
    assert beams.normalized[0, 0].item() == pytest.approx(score)
    sums = {pies.text(one.tokens[:-1]): round(one.score, 4) for one in found(beams)}
    assert sums == {
        "he hit me with a pie": -4.5,
        "he threw a pie": -3.2,
        "I was hit with a pie that he threw": -7.2,
    }


# --- against second definitions ------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.5, -0.7])
@pytest.mark.parametrize("count_eos", [True, False])
def test_a_full_beam_is_enumeration(alpha: float, count_eos: bool) -> None:
    for seed in range(4):
        network = SmallNet(num_tokens=4, seed=seed)
        every = brute_force(alone(network.decode), (BOS,), EOS, 3, alpha, count_eos)
        beams = beam_search(
            network.decode, PROMPT, eos_id=EOS, max_new_tokens=3, num_beams=64, num_return=64,
            length_penalty=alpha, count_eos=count_eos,
        )  # fmt: skip
        assert len(every) == 1 + 3 + 9 * 4
        assert_same(found(beams), every)
        assert beams.scores.exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0, -0.5])
@pytest.mark.parametrize("count_eos", [True, False])
def test_a_narrow_beam_is_the_naive_one(alpha: float, count_eos: bool) -> None:
    """The naive beam never stops early and feeds every prefix from its beginning."""
    for seed in range(6):
        num_beams = 2 + seed % 4
        network = SmallNet(num_tokens=5 + seed, seed=seed)
        theirs, _ = naive_beam(
            alone(network.decode), (BOS,), EOS, 7, num_beams, alpha, count_eos
        )  # fmt: skip
        for num_return in (1, num_beams):
            beams = beam_search(
                network.decode, PROMPT, eos_id=EOS, max_new_tokens=7, num_beams=num_beams,
                length_penalty=alpha, count_eos=count_eos, num_return=num_return,
            )  # fmt: skip
            assert_same(found(beams), theirs[:num_return])


@pytest.mark.parametrize("alpha", [0.0, 1.0, 4.0])
def test_one_beam_is_greedy(alpha: float) -> None:
    for seed in range(30):
        network, memory = SmallNet(num_tokens=6, seed=seed), (torch.randn(3, 1, 8),)
        prompt = torch.randint(6, (3, 2))
        options: dict[str, Any] = {"eos_id": EOS, "max_new_tokens": 8}
        one = beam_search(
            network.decode, prompt, None, memory, num_beams=1, length_penalty=alpha, **options
        )
        line = greedy_search(network.decode, prompt, None, memory, **options)
        assert one.tokens.equal(line.tokens)
        assert one.lengths.equal(line.lengths)
        assert one.finished.equal(line.finished)
        torch.testing.assert_close(one.scores, line.scores)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_beams_reach_what_greedy_reaches_unless_they_dropped_it(alpha: float) -> None:
    """And a beam seldom drops it: the exception is the next test."""
    dropped = better = 0
    for seed in range(60):
        network = SmallNet(num_tokens=6, seed=seed)
        row = alone(network.decode)
        line = naive_greedy(row, (BOS,), EOS, 6)
        beams = beam_search(
            network.decode, PROMPT, eos_id=EOS, max_new_tokens=6, num_beams=3, length_penalty=alpha
        )
        (best,) = found(beams)
        goal = line.score / len(line.tokens) ** alpha
        if alpha == 0 or best.finished == line.finished:
            reached = best.normalized >= goal - 1e-5
            better += best.normalized > goal + 1e-5
        else:
            reached = best.finished or best.score >= line.score - 1e-5
        if not reached:
            _, kept = naive_beam(row, (BOS,), EOS, 6, 3, alpha, True)
            assert any(line.tokens[:n] not in kept for n in range(1, len(line.tokens) + 1))
            dropped += 1
    assert dropped <= 3
    assert better >= 10


def test_more_beams_can_find_less() -> None:
    """Greedy's prefix is overtaken by two others that lead nowhere: no defect of the search."""
    nowhere = {"x": math.log(0.5), "y": math.log(0.5)}
    step = Words(
        {
            "": {"a": math.log(0.4), "b": math.log(0.35), "c": math.log(0.25)},
            "a": {"d": math.log(0.4), "e": math.log(0.3), "f": math.log(0.3)},
            "b": {"g": 0.0},
            "c": {"h": 0.0},
            **{prefix: nowhere for prefix in ("b g", "c h", "b g x", "b g y", "c h x", "c h y")},
        }
    )
    sums = [
        beam_search(
            step, PROMPT, eos_id=EOS, max_new_tokens=6, num_beams=k, length_penalty=0.0
        ).scores.exp().item()
        for k in (1, 2, 100)
    ]  # fmt: skip
    assert sums == pytest.approx([0.16, 0.0875, 0.16])


# --- early stopping ------------------------------------------------------------------------------


class Counting:
    """A step that keeps how many rows each call had."""

    def __init__(self, step: Any) -> None:
        self.step, self.rows = step, []

    def __call__(self, tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]:
        self.rows.append(len(tokens))
        return self.step(tokens, state, memory)


def long_winner() -> Words:
    """Means -0.35 of "a", known after two steps, and -0.22 of "b b b b", known after five."""
    half = math.log(0.5)
    return Words(
        {"": {"a": half, "b": half}, "b": {"b": -0.4}, "b b": {"b": 0.0}, "b b b": {"b": 0.0}}
    )


def test_a_longer_hypothesis_that_can_still_win_is_waited_for() -> None:
    """After two steps "b b" has the mean -0.55, below that of "a"."""
    beams = beam_search(long_winner(), PROMPT, eos_id=EOS, max_new_tokens=50, num_beams=2)
    assert beams.lengths.item() == 4
    assert beams.normalized.item() == pytest.approx((math.log(0.5) - 0.4) / 5)


def test_a_penalty_of_length_is_waited_for_too() -> None:
    """Sums times lengths: -2.4 of "a" and its end; "b b" can reach -2.1 next, -2.8 after that."""
    step = Words({"": {"a": -1.2, "b": -0.7}, "b": {"b": 0.0}})
    beams = beam_search(
        step, PROMPT, eos_id=EOS, max_new_tokens=50, num_beams=2, length_penalty=-1.0
    )
    assert step.text(beams.best()[0]) == "b b"
    assert beams.normalized.item() == pytest.approx(-2.1)


def test_a_search_that_is_decided_stops() -> None:
    options: dict[str, Any] = {"eos_id": EOS, "max_new_tokens": 50, "num_beams": 2}
    step = Counting(long_winner())
    beams = beam_search(step, PROMPT, length_penalty=0.0, **options)
    assert beams.lengths.item() == 1
    assert step.rows == [1, 2]
    step = Counting(long_winner())  # the second best is asked for too
    beam_search(step, PROMPT, length_penalty=0.0, num_return=2, **options)
    assert step.rows == [1, 2, 1, 1, 1]


def test_a_tie_goes_to_what_ended_first_and_is_not_waited_for() -> None:
    half = math.log(0.5)
    step = Counting(Words({"": {"b": half, "a": half}, "b": {"b": 0.0}}))
    beams = beam_search(
        step, PROMPT, eos_id=EOS, max_new_tokens=50, num_beams=2, length_penalty=0.0
    )
    assert beams.lengths.item() == 1
    assert step.rows == [1, 2]


def test_a_search_stops_as_soon_as_no_length_can_turn_it() -> None:
    """One has the mean log(0.5) / 2; others lose log(8) a step, shared by 50 at best."""
    table = torch.zeros(11, 11)
    table[BOS, 0] = table[BOS, 3] = 0.5
    table[0, EOS] = 1
    table[3:, 3:] = 1 / 8
    step = Counting(transition_table(table))
    beams = beam_search(step, PROMPT, eos_id=EOS, max_new_tokens=50, num_beams=2)
    assert beams.lengths.item() == 1
    losses = [(math.log(0.5) - math.log(8) * more) / 50 for more in range(50)]
    assert len(step.rows) == 1 + sum(loss > math.log(0.5) / 2 for loss in losses)


def test_rows_that_have_ended_leave_the_network() -> None:
    network = SmallNet(num_tokens=6, seed=5)
    network.output.bias.data[EOS] += 1
    memory = (2 * torch.randn(20, 1, 8),)
    step = Counting(network.decode)
    beams = beam_search(
        step, PROMPT.expand(20, 1), None, memory, eos_id=EOS, max_new_tokens=30, num_beams=4
    )
    assert beams.finished.sum() > 10
    assert step.rows[0] == 20
    assert 20 < max(step.rows) <= 80
    peak = step.rows.index(max(step.rows))
    assert step.rows[peak:] == sorted(step.rows[peak:], reverse=True)
    assert step.rows[-1] < 20


# --- batches, state, memory ----------------------------------------------------------------------


def decoder(kind: str) -> tuple[Any, Any, Any, int]:
    """A step, its first state, its memory for 6 sources of 1 to 6 tokens, and V."""
    torch.manual_seed(0)
    source = torch.randint(3, 12, (6, 6)).tril()
    if kind == "gru":
        network: Any = RecurrentSeq2Seq(12, 9, source_pad_id=0, embed_dim=8, hidden_size=8)
    elif kind == "lstm":
        network = RecurrentSeq2Seq(
            12, 9, source_pad_id=0, cell="lstm", embed_dim=8, hidden_size=8, num_layers=2,
            attention=None,
        )  # fmt: skip
    else:
        network = TransformerSeq2Seq(
            12, 9, source_pad_id=0, target_pad_id=0, embed_dim=16, num_heads=2, num_layers=2,
            feedforward_dim=16,
        )  # fmt: skip
    if kind != "transformer":
        for parameter in network.parameters():
            parameter.data.mul_(6)
    with torch.no_grad():
        memory, state = network.eval().encode(source)
    return network.decode, state, memory, 9


def one_row(tree: Any, index: int) -> Any:
    if isinstance(tree, Tensor):
        return tree[index : index + 1]
    if isinstance(tree, tuple):
        parts = [one_row(part, index) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree


@pytest.mark.parametrize("kind", ["gru", "lstm", "transformer"])
@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_batch_is_its_sentences_one_by_one(kind: str, num_beams: int) -> None:
    """And each is the naive beam, which has no cache."""
    step, state, memory, _ = decoder(kind)
    options: dict[str, Any] = {"eos_id": EOS, "max_new_tokens": 8, "num_beams": num_beams}
    options["num_return"] = num_beams
    together = beam_search(step, torch.full((6, 1), BOS), state, memory, **options)
    assert len({one.tokens for i in range(6) for one in found(together, i)}) > 2 * num_beams
    assert 0 < together.finished.sum() < together.finished.numel()
    for index in range(6):
        first, seen = one_row(state, index), one_row(memory, index)
        single = beam_search(step, PROMPT, first, seen, **options)
        assert_same(found(together, index), found(single))
        row = alone(step, first, seen)
        theirs, _ = naive_beam(row, (BOS,), EOS, 8, num_beams, 1.0, True)
        assert_same(found(together, index), theirs)


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_language_models_go_on_from_a_prompt(kind: str) -> None:
    torch.manual_seed(1)
    network: Any = (
        GPT(7, context=32, embed_dim=16, num_heads=2, num_layers=2)
        if kind == "gpt"
        else RecurrentLM(7, embed_dim=8, hidden_size=8, num_layers=2)
    )
    for parameter in network.eval().parameters():
        parameter.data.mul_(4)
    step, prompt = language_model(network), torch.randint(7, (3, 5))
    beams = beam_search(step, prompt, eos_id=EOS, max_new_tokens=6, num_beams=3, num_return=3)
    for index, line in enumerate(prompt.tolist()):
        theirs, _ = naive_beam(alone(step), tuple(line), EOS, 6, 3, 1.0, True)
        assert_same(found(beams, index), theirs)


# --- edges ---------------------------------------------------------------------------------------


def test_a_beam_may_be_wider_than_the_vocabulary() -> None:
    step = transition_table(torch.tensor([[0.2, 0.3, 0.5]] * 3))
    beams = beam_search(
        step, PROMPT, eos_id=EOS, max_new_tokens=2, num_beams=9, num_return=9, length_penalty=0.0
    )
    rows = [(one.tokens, round(math.exp(one.score), 4)) for one in found(beams)]
    assert rows == [
        ((2,), 0.5),
        ((1, 2), 0.15),
        ((0, 2), 0.1),
        ((1, 1), 0.09),
        ((1, 0), 0.06),
        ((0, 1), 0.06),
        ((0, 0), 0.04),
    ]
    empty = beams.scores == -math.inf
    assert empty.sum() == 2
    assert (beams.tokens[empty] == EOS).all()
    assert (beams.lengths[empty] == 0).all()
    assert not beams.finished[empty].any()


def test_equal_hypotheses_come_in_the_order_of_their_tokens() -> None:
    """And without an end, all are cut off."""
    step = transition_table(torch.full((4, 4), 0.25))
    beams = beam_search(
        step, PROMPT, eos_id=None, max_new_tokens=2, num_beams=6, num_return=6
    )  # fmt: skip
    assert beams.tokens[0].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1]]
    assert not beams.finished.any()
    assert (beams.lengths == 2).all()


@pytest.mark.parametrize("num_return", [1, 2])
@pytest.mark.parametrize("end", [0.1, 0.4])
def test_what_is_cut_off_comes_first_only_if_it_is_likelier(end: float, num_return: int) -> None:
    """0.9 ** 3 of going on against 0.1 of ending; 0.6 ** 3 against 0.4. Means prefer the first."""
    table = torch.tensor([[1 - end, 0.0, end], [1 - end, 0.0, end], [0.0, 0.0, 1.0]])
    beams = beam_search(
        transition_table(table), PROMPT, eos_id=EOS, max_new_tokens=3, num_beams=2,
        num_return=num_return,
    )  # fmt: skip
    rows = [(one.tokens, one.finished) for one in found(beams)]
    expected = [((2,), True), ((0, 0, 0), False)]
    assert rows == (expected[::-1] if end == 0.1 else expected)[:num_return]
    assert beams.lengths.tolist() == [[len(tokens) - ended for tokens, ended in rows]]
    cut = beams.normalized[~beams.finished]
    torch.testing.assert_close(cut, torch.full_like(cut, 1 - end).log())


def test_what_is_impossible_is_never_returned() -> None:
    step = transition_table(torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    beams = beam_search(step, PROMPT, eos_id=EOS, max_new_tokens=4, num_beams=8, num_return=8)
    assert [one.tokens for one in found(beams)] == [(0, 2), (0, 1, 0, 2), (0, 1, 0, 1)]
    assert beams.scores.isfinite().sum() == 3


def test_the_penalty_may_be_a_function() -> None:
    network = SmallNet(num_tokens=5, seed=3)
    options: dict[str, Any] = {"eos_id": EOS, "max_new_tokens": 6, "num_beams": 4, "num_return": 4}
    power = beam_search(network.decode, PROMPT, length_penalty=0.6, **options)
    same = beam_search(network.decode, PROMPT, length_penalty=lambda n: n**0.6, **options)
    assert all(a.equal(b) for a, b in zip(power, same, strict=True))
    google = beam_search(network.decode, PROMPT, length_penalty=gnmt_penalty(0.6), **options)
    counted = google.lengths + google.finished
    torch.testing.assert_close(google.normalized, google.scores / ((5 + counted) / 6) ** 0.6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams=0: give at least 1"),
        ({"num_return": 6}, "num_return=6: give 1 to num_beams=5"),
        ({"num_return": 0}, "num_return=0: give 1 to num_beams=5"),
        ({"max_new_tokens": 0}, "max_new_tokens=0: give at least 1"),
        ({"eos_id": 3}, "eos_id=3: the step has the tokens 0 to 2"),
        ({"eos_id": -1}, "eos_id=-1: the step has"),
        ({"length_penalty": lambda n: n - 1}, "divisors that are not all positive"),
        ({"length_penalty": float("nan")}, "length_penalty=nan"),
    ],
)
def test_impossible_numbers_are_named(options: dict[str, Any], message: str) -> None:
    step = transition_table(torch.full((3, 3), 1 / 3))
    with pytest.raises(ValueError, match=message):
        beam_search(step, PROMPT, **{"eos_id": EOS, "max_new_tokens": 4, **options})


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    table = torch.zeros(3, 3)
    table[0] = bad

    def step(tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]:
        return table[tokens], None

    with pytest.raises(FloatingPointError, match="logits that are NaN"):
        beam_search(step, PROMPT, eos_id=EOS, max_new_tokens=4, num_beams=2)

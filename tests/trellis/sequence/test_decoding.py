"""Greedy decoding and sampling over any step function."""

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
    naive_greedy,
)
from torch import Tensor

from trellis.networks.sequence.gpt import GPT
from trellis.networks.sequence.recurrent import RecurrentLM
from trellis.nn.attention import KeyValues
from trellis.sequence.decoding import (
    block_repeats,
    greedy_search,
    language_model,
    sample,
    select_rows,
    stable_topk,
    transition_table,
)

PROMPT = torch.tensor([[BOS]])
TABLE = torch.tensor([[0.05, 0.15, 0.5, 0.3]] * 4)


# --- greedy --------------------------------------------------------------------------------------


def test_greedy_takes_one_and_loses() -> None:
    """Course 0: "one" has 0.51 of the first word, but "a puppy" is the better sentence."""
    tree = {
        "": {"a": 0.48, "one": 0.51},
        "a": {"puppy": 0.95, "is": 0.01, "</s>": 0.04},
        "one": {"puppy": 0.47, "cute": 0.53},
    }
    step = Words({k: {w: math.log(p) for w, p in v.items()} for k, v in tree.items()})
    line = greedy_search(step, PROMPT, eos_id=EOS, max_new_tokens=5)
    assert step.text(line.best()[0]) == "one cute"
    assert line.scores.exp().item() == pytest.approx(0.51 * 0.53)
    assert line.scores.exp().item() < 0.48 * 0.95


def test_greedy_is_the_naive_loop_one_by_one_without_a_cache() -> None:
    for seed in range(10):
        network, memory = SmallNet(num_tokens=7, seed=seed), torch.randn(8, 1, 8)
        network.output.bias.data[EOS] += 0.3
        prompt = torch.randint(3, 7, (8, 3))
        line = greedy_search(network.decode, prompt, None, (memory,), eos_id=EOS, max_new_tokens=9)
        assert line.tokens.size(2) == int((line.lengths + line.finished).max())
        for index in range(8):
            row = alone(network.decode, None, (memory[index : index + 1],))
            theirs = naive_greedy(row, tuple(prompt[index].tolist()), EOS, 9)
            assert_same(found(line, index), [theirs])
            assert line.best()[index] == [token for token in theirs.tokens if token != EOS]


def test_without_an_end_all_are_cut_off() -> None:
    line = greedy_search(transition_table(TABLE), PROMPT, eos_id=None, max_new_tokens=3)
    assert line.tokens.tolist() == [[[2, 2, 2]]]
    assert line.lengths.item() == 3
    assert not line.finished.item()
    torch.testing.assert_close(line.normalized, torch.tensor([[0.5]]).log())


def test_of_equal_tokens_the_lowest_is_taken() -> None:
    table = torch.tensor([[0.2, 0.4, 0.4]] * 3)
    assert greedy_search(
        transition_table(table), PROMPT, eos_id=None, max_new_tokens=2
    ).best() == [[1, 1]]


def test_rows_that_have_ended_leave_the_batch() -> None:
    """Row i needs i more steps; memory and state shrink with the rows."""
    calls = []

    def step(tokens: Tensor, state: Tensor | None, memory: Tensor) -> tuple[Tensor, Tensor]:
        count = torch.zeros_like(memory) if state is None else state + 1
        assert len(count) == len(memory) == len(tokens)
        calls.append(len(tokens))
        logits = torch.zeros(len(tokens), 1, 4)
        logits[:, 0, EOS] = torch.where(count >= memory, 9.0, -9.0)
        return logits, count

    memory = torch.tensor([3, 0, 2, 2])
    line = greedy_search(step, PROMPT.expand(4, 1), None, memory, eos_id=EOS, max_new_tokens=9)
    assert line.lengths.flatten().tolist() == [3, 0, 2, 2]
    assert calls == [4, 3, 3, 1]
    assert line.tokens.squeeze(1).tolist() == [[0, 0, 0, 2], [2] * 4, [0, 0, 2, 2], [0, 0, 2, 2]]


# --- sampling ------------------------------------------------------------------------------------


def shares(**options: Any) -> Tensor:
    """Shares of the four tokens among many draws from ``TABLE``."""
    draws = sample(
        transition_table(TABLE), PROMPT.expand(40_000, 1), eos_id=None, max_new_tokens=1,
        generator=torch.Generator().manual_seed(0), **options,
    )  # fmt: skip
    return torch.bincount(draws.tokens.flatten(), minlength=4) / 40_000


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.05, 0.15, 0.5, 0.3]),
        ({"temperature": 0.5}, [0.0025, 0.0225, 0.25, 0.09]),
        ({"temperature": 2.0}, [0.05**0.5, 0.15**0.5, 0.5**0.5, 0.3**0.5]),
        ({"temperature": 1e-42}, [0, 0, 1, 0]),
        ({"top_k": 2}, [0, 0, 0.5, 0.3]),
        ({"top_k": 9}, [0.05, 0.15, 0.5, 0.3]),
        ({"top_p": 0.5}, [0, 0, 0.5, 0]),
        ({"top_p": 0.51}, [0, 0, 0.5, 0.3]),
        ({"top_p": 0.94}, [0, 0.15, 0.5, 0.3]),
        ({"top_p": 1e-9}, [0, 0, 1, 0]),
        ({"top_p": 1.0}, [0.05, 0.15, 0.5, 0.3]),
        # Of the three left, 0.53 and 0.32 make 0.84: top-p looks at what top-k has left.
        ({"top_k": 3, "top_p": 0.83}, [0, 0, 0.5, 0.3]),
        ({"top_k": 3, "top_p": 0.86}, [0, 0.15, 0.5, 0.3]),
        ({"min_p": 0.59}, [0, 0, 0.5, 0.3]),
        ({"min_p": 0.61}, [0, 0, 0.5, 0]),
        ({"min_p": 0.0}, [0.05, 0.15, 0.5, 0.3]),
        ({"min_p": 0.29, "top_k": 3}, [0, 0.15, 0.5, 0.3]),
        ({"min_p": 0.37, "temperature": 0.5}, [0, 0, 1, 0]),
        # The temperature comes first: 0.25 of 0.365 are already more than 0.68.
        ({"temperature": 0.5, "top_p": 0.68}, [0, 0, 1, 0]),
    ],
)
def test_tokens_are_drawn_with_their_probabilities(
    options: dict[str, Any], expected: list[float]
) -> None:
    probabilities = torch.tensor(expected) / sum(expected)
    drawn = shares(**options)
    assert (drawn[probabilities == 0] == 0).all()
    assert (drawn - probabilities).abs().max() < 4 * (0.25 / 40_000) ** 0.5


def test_sequences_are_drawn_with_their_probabilities() -> None:
    """And each is scored by it, where it ended or was cut off."""
    network = SmallNet(num_tokens=3, seed=0, sharpness=2.0)
    draws = sample(
        network.decode, PROMPT.expand(30_000, 1), eos_id=EOS, max_new_tokens=2,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    drawn = [tuple(tokens) for tokens in draws.tokens.squeeze(1).tolist()]
    every = brute_force(alone(network.decode), (BOS,), EOS, 2, 1.0, count_eos=True)
    assert {(*one.tokens, EOS)[:2] for one in every} == set(drawn)
    for one in every:
        padded = (*one.tokens, EOS)[:2]
        share = drawn.count(padded) / 30_000
        assert abs(share - math.exp(one.score)) < 4 * (0.25 / 30_000) ** 0.5
        assert_same(found(draws, drawn.index(padded)), [one])


def test_scores_are_the_networks_own_whatever_is_cut_off() -> None:
    cut = sample(
        transition_table(TABLE), PROMPT, eos_id=None, max_new_tokens=5, top_k=1, temperature=0.3
    )
    assert cut.tokens.tolist() == [[[2] * 5]]
    torch.testing.assert_close(cut.scores, 5 * torch.tensor([[0.5]]).log())


def test_all_of_the_probability_is_no_limit() -> None:
    assert shares(top_p=1.0).equal(shares())


def test_a_seed_gives_the_same_again_and_another_seed_does_not() -> None:
    network = SmallNet(num_tokens=9, seed=0, sharpness=1.0)

    def draw(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return sample(
            network.decode, PROMPT, eos_id=None, max_new_tokens=20, generator=generator
        ).tokens

    assert draw(0).equal(draw(0))
    assert not draw(0).equal(draw(1))


# --- language models and their context -----------------------------------------------------------


@pytest.mark.parametrize("prompt_length", [1, 6, 11])
def test_a_text_that_outgrows_the_context_goes_on_from_its_last_tokens(prompt_length: int) -> None:
    torch.manual_seed(0)
    network = GPT(9, context=6, embed_dim=16, num_heads=2, num_layers=2).eval()
    for parameter in network.parameters():
        parameter.data.mul_(5)
    prompt = torch.randint(9, (3, prompt_length))
    line = greedy_search(language_model(network), prompt, eos_id=None, max_new_tokens=12)
    assert len({tuple(tokens) for tokens in line.best()}) > 1
    for index in range(3):
        row = alone(lambda tokens, state, memory: network(tokens[:, -6:]))
        theirs = naive_greedy(row, tuple(prompt[index].tolist()), None, 12)
        assert_same(found(line, index), [theirs])


def test_rows_of_a_full_context_leave_too() -> None:
    torch.manual_seed(3)
    network = GPT(5, context=4, embed_dim=16, num_heads=2, num_layers=2).eval()
    for parameter in network.parameters():
        parameter.data.mul_(4)
    step, prompt = language_model(network), torch.randint(5, (12, 2))
    together = greedy_search(step, prompt, eos_id=EOS, max_new_tokens=10)
    ends = together.lengths.flatten()[together.finished.flatten()]
    assert 0 < len(ends) < 12
    assert ends.max() > 2
    for index in range(12):
        single = greedy_search(step, prompt[index : index + 1], eos_id=EOS, max_new_tokens=10)
        assert_same(found(together, index), found(single))


def test_a_recurrent_network_has_no_context_to_outgrow() -> None:
    torch.manual_seed(0)
    network = RecurrentLM(6, embed_dim=8, hidden_size=8).eval()
    for parameter in network.parameters():
        parameter.data.mul_(4)
    line = greedy_search(language_model(network), PROMPT, eos_id=None, max_new_tokens=30)
    theirs = naive_greedy(alone(language_model(network)), (BOS,), None, 30)
    assert_same(found(line), [theirs])


# --- parts ---------------------------------------------------------------------------------------


def test_largest_is_a_stable_sort() -> None:
    torch.manual_seed(0)
    for values in (2, 5, 1000):
        x = torch.randint(values, (20, 30)).float()
        for k in (1, 4, 29, 30):
            ours, where = stable_topk(x, k)
            for row in range(20):
                order = sorted(range(30), key=lambda column: -float(x[row, column]))[:k]  # noqa: B023
                assert where[row].tolist() == order
                assert ours[row].tolist() == x[row, order].tolist()


def test_rows_of_nested_states() -> None:
    tensor = torch.arange(6).view(3, 2)
    tree = (KeyValues(tensor, -tensor), None, (tensor.float(),), ())
    rows = select_rows(tree, torch.tensor([2, 0, 2]))
    assert isinstance(rows[0], KeyValues)
    assert rows[0].values.tolist() == [[-4, -5], [0, -1], [-4, -5]]
    assert rows[1] is None
    assert rows[2][0].tolist() == [[4.0, 5.0], [0.0, 1.0], [4.0, 5.0]]
    assert rows[3] == ()
    with pytest.raises(TypeError, match="holds a list: give tensors with the rows first"):
        select_rows((tensor, [tensor]), torch.tensor([0]))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_sequence_of_tokens_is_written_twice(size: int) -> None:
    """Each text is the one of a loop that looks back, also where rows end at different times."""
    network = SmallNet(num_tokens=9, seed=3, sharpness=0.5)
    prompt = torch.tensor([[BOS, 3, 4], [BOS, 4, 3], [BOS, 5, 5]])
    found = greedy_search(
        block_repeats(network.decode, size), prompt, eos_id=EOS, max_new_tokens=6
    )
    for row, tokens in zip(prompt.tolist(), found.best(), strict=True):
        text = list(row)
        for _ in range(6):
            logits = network.decode(torch.tensor([text]), None, None)[0][0, -1].clone()
            start = text[len(text) - size + 1 :]
            for end in range(size - 1, len(text)):
                if text[end - size + 1 : end] == start:
                    logits[text[end]] = float("-inf")
            text.append(int(logits.argmax()))
            if text[-1] == EOS:
                text.pop()
                break
        assert tokens == text[3:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": torch.zeros(2, 0, dtype=torch.long)}, r"prompt \[2, 0\]: give token ids"),
        ({"prompt": torch.zeros(0, 1, dtype=torch.long)}, r"prompt \[0, 1\]: give token ids"),
        ({"prompt": torch.zeros(3, dtype=torch.long)}, r"prompt \[3\]: give token ids \[B, T\]"),
        ({"eos_id": 4}, "eos_id=4: the step has the tokens 0 to 3"),
        ({"max_new_tokens": -1}, "max_new_tokens=-1: give at least 1"),
        ({"temperature": 0.0}, "temperature=0.0: give more than 0, or use greedy_search"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0: give at least 1"),
        ({"top_p": 0.0}, "top_p=0.0: give a probability above 0"),
        ({"top_p": 1.2}, "top_p=1.2"),
        ({"min_p": 1.2}, "min_p=1.2: give a share from 0 to 1"),
        ({"min_p": -0.1}, "min_p=-0.1"),
    ],
)
def test_impossible_arguments_are_named(options: dict[str, Any], message: str) -> None:
    given = {"prompt": PROMPT, "eos_id": EOS, "max_new_tokens": 4, **options}
    with pytest.raises(ValueError, match=message):
        sample(transition_table(TABLE), **given)


@pytest.mark.parametrize("decode", [greedy_search, sample])
def test_logits_that_are_no_numbers_are_refused(decode: Any) -> None:
    table = torch.zeros(4, 4)
    table[2, 1] = math.nan

    def step(tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]:
        return table[tokens], None

    with pytest.raises(FloatingPointError, match="logits that are NaN"):
        decode(step, torch.tensor([[0], [2]]), eos_id=None, max_new_tokens=2)

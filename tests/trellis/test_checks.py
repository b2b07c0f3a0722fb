"""Arguments that fit pass, others are named."""

from typing import Literal

import pytest
import torch

from trellis.checks import (
    check_examples,
    check_images,
    check_labels,
    check_permutation,
    check_sequences,
    check_tokens,
    choose_from,
    not_negative,
    num_entries,
    positive,
    probability,
)


@pytest.mark.parametrize("options", [Literal["a", "b"], ("a", "b"), {"a": 1, "b": 2}])
def test_an_option_is_one_of_a_literal_or_a_collection(options: object) -> None:
    assert choose_from("mode", "b", options) == "b"
    with pytest.raises(ValueError, match=r"^mode='c': choose from a, b$"):
        choose_from("mode", "c", options)


def test_options_need_not_be_text() -> None:
    assert choose_from("depth", 34, (18, 34, 50)) == 34
    with pytest.raises(ValueError, match=r"^depth=33: choose from 18, 34, 50$"):
        choose_from("depth", 33, (18, 34, 50))


@pytest.mark.parametrize("value", [-1, -1e-9, float("nan")])
def test_nothing_negative_passes(value: float) -> None:
    assert not_negative("beta", 0) == 0
    with pytest.raises(ValueError, match=r"beta=.*: give at least 0"):
        not_negative("beta", value)


@pytest.mark.parametrize("value", [-1e-9, 1.000001, float("nan")])
def test_probabilities_are_0_to_1(value: float) -> None:
    assert [probability("gamma", end) for end in (0, 0.5, 1)] == [0, 0.5, 1]
    with pytest.raises(ValueError, match=r"gamma=.*: give a probability, 0 to 1"):
        probability("gamma", value)


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan")])
def test_a_limit_is_positive_or_none(value: float) -> None:
    assert [positive("clip", limit) for limit in (None, 1e-9)] == [None, 1e-9]
    with pytest.raises(ValueError, match=r"clip=.*: give more than 0, or leave it out"):
        positive("clip", value)


def test_images_are_large_enough_on_both_sides() -> None:
    check_images(torch.zeros(1, 3, 8, 9), 3, "Net", least=8)
    for wrong in ((1, 3, 8, 7), (1, 3, 7, 8), (1, 1, 8, 8), (3, 8, 8)):
        with pytest.raises(ValueError, match=r"give x \[B, 3, H, W\] with H and W at least 8"):
            check_images(torch.zeros(wrong), 3, "Net", least=8)


def test_a_sequence_is_as_long_as_its_last_token() -> None:
    tokens = torch.tensor([[5, 0, 6, 0], [7, 8, 9, 1], [0, 0, 2, 0]])
    assert check_sequences("source", tokens, pad_id=0).tolist() == [3, 4, 3]
    assert check_sequences("source", tokens.to("meta"), pad_id=0).shape == (3,)
    with pytest.raises(ValueError, match=r"source: sequence 1 is nothing but padding"):
        check_sequences("source", torch.tensor([[1, 0], [0, 0]]), pad_id=0)


def test_a_permutation_has_each_number_once() -> None:
    check_permutation("order", torch.tensor([2, 0, 1]), 3)
    check_permutation("order", torch.empty(3, dtype=torch.long, device="meta"), 3)
    for wrong in ([0, 0, 1], [1, 2, 3], [0, 1]):
        with pytest.raises(ValueError, match="order=.*: give each of 0 to 2 once"):
            check_permutation("order", torch.tensor(wrong), 3)


def test_entries_are_counted() -> None:
    assert num_entries((2, 3, 4)) == 24
    for shape in ((), (3, 0)):
        with pytest.raises(ValueError, match="give that of one example"):
            num_entries(shape)


def test_examples_of_the_shape_pass() -> None:
    check_examples(torch.zeros(5, 2, 3), (2, 3), "Net")
    for wrong in ((5, 3, 2), (2, 3), (5, 2, 3, 1)):
        with pytest.raises(ValueError, match=r"does not fit Net\(shape=\(2, 3\)\): give x \[B, 2"):
            check_examples(torch.zeros(wrong), (2, 3), "Net")


def test_labels_within_the_classes_pass() -> None:
    check_labels(torch.tensor([0, 2, 1]), 3, "Net")
    check_labels(None, 0, "Net")
    check_labels(torch.zeros(0, dtype=torch.long), 3, "Net")


@pytest.mark.parametrize("wrong", [-1, 3])
def test_ids_out_of_range_are_named_where_that_costs_no_wait(wrong: int) -> None:
    ids = torch.tensor([0, wrong, 2])
    with pytest.raises(ValueError, match=rf"label {wrong} is out of range: .* takes 0 to 2"):
        check_labels(ids, 3, "Net")
    with pytest.raises(ValueError, match=rf"text holds id {wrong}, outside the vocabulary of 3"):
        check_tokens("text", ids[None], 3)
    check_labels(ids.to("meta"), 3, "Net")
    check_tokens("text", ids[None].to("meta"), 3)

"""Examples and labels that fit pass, others are named."""

import pytest
import torch

from trellis.nn.examples import check_examples, check_labels, num_entries, one_hot


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


def test_one_hot_is_a_row_of_the_identity() -> None:
    y = torch.tensor([2, 0, 1, 1])
    assert one_hot(y, 4).equal(torch.eye(4)[y])

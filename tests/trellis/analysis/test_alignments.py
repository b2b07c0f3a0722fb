"""Attention as a picture: which weight stands where, under which name."""

import io
import warnings

import numpy as np
import pytest
import torch

from trellis.analysis import alignment_picture

WEIGHTS = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]])


def names(labels) -> list[str]:
    return [label.get_text() for label in labels]


def png(figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def test_rows_are_written_tokens_and_columns_read_ones():
    figure = alignment_picture(WEIGHTS, ["das", "rote", "haus"], ["red", "house"])
    axes = figure.axes[0]
    assert names(axes.get_xticklabels()) == ["das", "rote", "haus"]
    assert names(axes.get_yticklabels()) == ["red", "house"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("source", "target")
    np.testing.assert_allclose(axes.images[0].get_array(), WEIGHTS)
    assert axes.images[0].get_clim() == (0, 1)  # pictures compare
    assert axes.yaxis_inverted()  # the first token is on top
    assert png(figure).startswith(b"\x89PNG")


def test_weights_may_need_gradients_and_be_half_precise():
    weights = WEIGHTS.bfloat16().requires_grad_()
    figure = alignment_picture(weights, list("abc"), list("de"))
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), WEIGHTS, atol=4e-3)


def test_blanks_are_seen_and_dollars_are_no_formula():
    figure = alignment_picture(WEIGHTS, [" ", "\n", "x" * 40], ["$a$", "$"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png(figure)
    axes = figure.axes[0]
    blank, line_end, long = names(axes.get_xticklabels())
    assert (blank, line_end) == ("\N{OPEN BOX}", "\N{RETURN SYMBOL}")
    assert len(long) == 20
    assert long.startswith("xxx")
    assert names(axes.get_yticklabels()) == ["$a$", "$"]


def test_long_sequences_name_every_so_manieth_token_and_stay_small():
    source, target = [str(i) for i in range(150)], [str(i) for i in range(1000)]
    figure = alignment_picture(torch.rand(1000, 150), source, target)
    axes = figure.axes[0]
    assert names(axes.get_xticklabels()) == source[::3]
    assert names(axes.get_yticklabels()) == target[::17]
    assert axes.get_xticks().tolist() == list(range(0, 150, 3))
    width, height = figure.get_size_inches()
    assert max(width, height) <= 17


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 1), (0, 3)])
def test_weights_must_fit_the_tokens(shape):
    target = list("ab")[: shape[0]]
    with pytest.raises(ValueError, match="expected a row for each of .* 3 source tokens"):
        alignment_picture(torch.ones(shape), list("abc"), target)

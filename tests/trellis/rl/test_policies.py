"""Tables of probabilities against counts by hand and by sampling."""

import pytest
import torch

from trellis.rl.policies import draw, epsilon_greedy


def test_epsilon_greedy_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0, 0.0, 2.0], [5.0, 1.0, 1.0, 1.0]])
    expected = torch.tensor([[0.1, 0.4, 0.1, 0.4], [0.7, 0.1, 0.1, 0.1]])
    torch.testing.assert_close(epsilon_greedy(values, 0.4), expected)
    torch.testing.assert_close(epsilon_greedy(values)[1], torch.tensor([1.0, 0, 0, 0]))


def test_ties_within_rounding_are_shared() -> None:
    values = torch.tensor([1.0, 1.0 + 1e-6, 0.0])
    assert epsilon_greedy(values).tolist() == [0.0, 1.0, 0.0]
    assert epsilon_greedy(values, ties=1e-5).tolist() == [0.5, 0.5, 0.0]


def test_draw_has_the_frequencies_of_the_rows() -> None:
    rows = torch.tensor([[0.2, 0.8, 0.0], [0.0, 0.5, 0.5]])
    drawn = draw(rows.expand(20_000, 2, 3), torch.Generator().manual_seed(0))
    assert drawn.shape == (20_000, 2)
    shares = torch.nn.functional.one_hot(drawn, 3).float().mean(0)
    torch.testing.assert_close(shares, rows, atol=0.02, rtol=0)


def test_epsilon_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"epsilon=1\.5: give a probability"):
        epsilon_greedy(torch.zeros(2), 1.5)

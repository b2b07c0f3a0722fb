"""Images read in strips: their order, learning what the first and the last say, errors."""

import pytest
import torch
import torch.nn.functional as F

from trellis.networks.image.strip_rnn import StripRNN


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_strips_are_read_from_the_top(cell: str) -> None:
    network = StripRNN(2, 5, image_size=6, strip_height=2, cell=cell, hidden_channels=3)
    x = torch.randn(4, 2, 6, 6)
    state = network.cell.zero_state(x[:, :, :2])
    for row in (0, 2, 4):
        state = network.cell(x[:, :, row : row + 2], state)
    torch.testing.assert_close(network(x), network.output(state[0].flatten(1)))
    assert not network(x).allclose(network(x.flip(2)), atol=1e-3)


def test_it_learns_whether_the_first_strip_is_the_last() -> None:
    network = StripRNN(1, 2, image_size=3, strip_height=1, hidden_channels=8)
    x = torch.randn(100, 1, 3, 3).sign()
    x[::2, :, 2] = x[::2, :, 0]
    y = (x[:, 0, 0] == x[:, 0, 2]).all(1).long()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    forgetful = x.clone()
    forgetful[:, :, 0] = 0  # what was read first is all that tells
    accuracy = (network(forgetful).argmax(1) == y).float().mean()
    assert accuracy < 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strip_height": 3}, "strip_height=3: give a divisor of image_size=28"),
        ({"strip_height": 0}, "strip_height=0: give at least 1"),
        ({"cell": "elman"}, "cell='elman'"),
    ],
)
def test_impossible_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StripRNN(1, 10, **options)


def test_an_image_of_another_size_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[2, 1, 8, 8\].*\[B, 1, 28, 28\]"):
        StripRNN(1, 10)(torch.zeros(2, 1, 8, 8))

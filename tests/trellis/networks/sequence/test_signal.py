"""Networks of signals: the sizes of their authors, torch's own layers, shapes."""

import pytest
import torch
from torch import nn

from trellis.networks.sequence import SignalCNN, SignalRNN, SignalTCN


@pytest.mark.parametrize(("kind", "count"), [(SignalCNN, 5_210), (SignalRNN, 5_134)])
def test_they_have_as_many_parameters_as_the_authors_say(kind, count: int) -> None:
    """Greydanus 2020: "5210 parameters" and "5134 parameters" are printed by his notebook."""
    assert sum(p.numel() for p in kind(1, 10).parameters()) == count


@pytest.mark.parametrize("length", [8, 9, 17, 40, 41, 63])
def test_any_length_fits(length: int) -> None:
    for kind in (SignalCNN, SignalRNN):
        assert kind(2, 3, length=length)(torch.zeros(5, 2, length)).shape == (5, 3)


@pytest.mark.parametrize(
    ("cell", "layer"), [("gru", nn.GRU), ("lstm", nn.LSTM), ("elman", nn.RNN)]
)
def test_the_recurrent_one_is_torchs_layer_and_a_linear_one(cell: str, layer) -> None:
    torch.manual_seed(0)
    ours = SignalRNN(2, 3, length=7, cell=cell, hidden_size=4, num_layers=2)
    theirs = layer(2, 4, 2, batch_first=True, bidirectional=True)
    theirs.load_state_dict(ours.rnn.rnn.state_dict())
    x = torch.randn(5, 2, 7)
    outputs = theirs(x.transpose(1, 2))[0].reshape(5, -1)
    torch.testing.assert_close(ours(x), ours.output(outputs))


def test_the_convolutional_one_moves_with_its_input() -> None:
    """Eight steps later in a signal are one step later in the features."""
    torch.manual_seed(0)
    network = SignalCNN(1, 10, length=80)
    x = torch.zeros(1, 1, 80)
    x[..., 32:40] = torch.randn(8)
    moved = network.features(x.roll(8, -1))
    torch.testing.assert_close(moved[..., 3:-1], network.features(x)[..., 2:-2])


def test_another_shape_is_refused() -> None:
    for kind in (SignalCNN, SignalRNN):
        with pytest.raises(ValueError, match=kind.__name__):
            kind(1, 10)(torch.zeros(2, 40))
    with pytest.raises(ValueError, match="length=7: give at least 8"):
        SignalCNN(1, 10, length=7)


def test_the_causal_one_reads_the_whole_signal_or_says_that_it_cannot() -> None:
    torch.manual_seed(0)
    network = SignalTCN(2, 3, length=29, channels=8, num_layers=3)
    x = torch.randn(2, 2, 29, requires_grad=True)
    network(x).sum().backward()
    assert (x.grad.abs().sum((0, 1)) > 0).all()
    with pytest.raises(ValueError, match="num_layers=3 of kernel_size=3 see 29 of length=30"):
        SignalTCN(2, 3, length=30, num_layers=3)
    with pytest.raises(ValueError, match="SignalTCN"):
        network(torch.zeros(2, 2, 30))

"""Words in context: what each direction sees, torch's LSTM, and the mean of the layers."""

import pytest
import torch
from torch import Tensor, nn

from trellis.networks.sequence import ELMo
from trellis.sequence.contextual_words import BidirectionalEncoder, ContextualWords, ScalarMixture

LENGTHS = torch.tensor([6, 3, 1])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def letters() -> Tensor:
    inside = torch.arange(6) < LENGTHS[:, None]
    return torch.randint(1, 257, (3, 6, 4)) * inside[:, :, None]


def encoder(num_layers: int = 2) -> BidirectionalEncoder:
    return BidirectionalEncoder(hidden_size=5, num_layers=num_layers, character_channels=3).eval()


def test_no_direction_sees_the_other() -> None:
    read, words = encoder(), letters()
    other = words.clone()
    other[0, 2] = other[0, 2] % 256 + 1
    before, after = read(words, LENGTHS), read(other, LENGTHS)
    same = [(a == b)[0].view(6, 2, 5).all(-1).t().tolist() for a, b in zip(before, after)]  # noqa: B905
    alone = [position != 2 for position in range(6)]
    assert same == [
        [alone, alone],
        *[[[True] * 2 + [False] * 4, [False] * 3 + [True] * 3]] * 2,
    ]


def test_padding_does_not_matter() -> None:
    read, words = encoder(), letters()
    together = read(words, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = read(words[row : row + 1, :length])
        for layer, one in zip(together, alone, strict=True):
            torch.testing.assert_close(layer[row : row + 1, :length], one)


def test_one_layer_is_the_bidirectional_lstm_of_torch() -> None:
    read, words = encoder(num_layers=1), letters()
    peer = nn.LSTM(5, 5, batch_first=True, bidirectional=True)
    for stack, ending in zip(read.directions, ("", "_reverse"), strict=True):
        for name, weight in stack[0].rnn.named_parameters():
            peer.get_parameter(f"{name}{ending}").data.copy_(weight)
    first, last = read(words[:1])
    torch.testing.assert_close(last, peer(first[..., :5])[0])


def test_the_mixture_is_what_the_paper_says() -> None:
    mixture, layers = ScalarMixture(3), torch.randn(3, 2, 4, 5)
    with torch.no_grad():
        mixture.weights.copy_(torch.tensor([0.0, 1.0, -2.0]))
        mixture.gamma.fill_(3.0)
    shares = torch.tensor([1.0, 2.718281828, 0.1353352832])
    expected = 3 * (shares[:, None, None, None] / shares.sum() * layers).sum(0)
    torch.testing.assert_close(mixture([*layers]), expected)
    with pytest.raises(ValueError, match="num_layers=3 and layers=2 must be equal"):
        mixture([*layers[:2]])


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_has_no_dropout_and_does_not_learn(frozen: bool) -> None:
    context = ContextualWords(frozen=frozen, hidden_size=5, dropout=0.5).train()
    words = letters()
    assert torch.equal(context(words, LENGTHS), context(words, LENGTHS)) == frozen
    context(words, LENGTHS).sum().backward()
    learns = {name.split(".")[0] for name, p in context.named_parameters() if p.grad is not None}
    assert learns == ({"mixture"} if frozen else {"mixture", "body"})


def test_targets_have_the_probabilities_of_the_whole_softmax() -> None:
    network, tokens = ELMo(9, cutoffs=[4], hidden_size=5).eval(), torch.randint(9, (3, 6))
    words = letters()
    after, before = network(words)
    found = network.log_prob(words, tokens)
    expected = (
        after.gather(2, tokens[:, 1:, None]).squeeze(2),
        before.gather(2, tokens[:, :-1, None]).squeeze(2),
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(after.exp().sum(-1), torch.ones(3, 5))

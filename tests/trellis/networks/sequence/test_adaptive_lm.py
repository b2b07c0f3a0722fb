"""A language model with an adaptive softmax: texts in pieces, targets alone, bad input."""

import pytest
import torch

from trellis.networks.sequence.adaptive_lm import AdaptiveLM


@pytest.fixture
def network() -> AdaptiveLM:
    torch.manual_seed(0)
    return AdaptiveLM(40, cutoffs=[10, 20], hidden_size=8, num_layers=2, dropout=0.5).eval()


def test_a_text_in_pieces_equals_the_whole_text(network: AdaptiveLM) -> None:
    tokens = torch.randint(0, 40, (3, 12))
    whole, end = network(tokens)
    first, state = network(tokens[:, :5])
    second, last = network(tokens[:, 5:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(last, end)


def test_log_prob_is_that_of_the_targets_among_all_tokens(network: AdaptiveLM) -> None:
    tokens = torch.randint(0, 40, (3, 12))
    logits, end = network(tokens[:, :-1])
    log_prob, state = network.log_prob(tokens[:, :-1], tokens[:, 1:])
    expected = logits.log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(log_prob, expected)
    torch.testing.assert_close(state, end)


def test_ids_outside_the_vocabulary_are_refused(network: AdaptiveLM) -> None:
    inside, outside = torch.zeros(1, 3, dtype=torch.long), torch.full((1, 3), 40)
    with pytest.raises(ValueError, match=r"tokens.*40"):
        network(outside)
    with pytest.raises(ValueError, match=r"targets.*40"):
        network.log_prob(inside, outside)

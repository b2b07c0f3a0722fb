"""Kim's network beside loops over windows; padding that changes nothing."""

import pytest
import torch
from torch import Tensor

from trellis.networks.sequence import SentenceCNN


@pytest.fixture
def network() -> SentenceCNN:
    torch.manual_seed(0)
    network = SentenceCNN(
        20, 3, pad_id=0, embed_dim=5, widths=(2, 4), channels=6, max_norm=0.4
    ).eval()
    for filters in network.filters:
        torch.nn.init.normal_(filters.bias)
    return network


def by_hand(network: SentenceCNN, words: list[int]) -> Tensor:
    """Logits of one sentence, window by window, filter by filter."""
    features = []
    for filters in network.filters:
        h = filters.weight.size(-1)
        zeros = [torch.zeros(5)] * (h - 1)
        rows = zeros + [network.embedding.weight[word] for word in words] + zeros
        for w, b in zip(filters.weight, filters.bias, strict=True):
            windows = range(len(rows) - h + 1)
            values = [b + sum(w[:, j] @ rows[i + j] for j in range(h)) for i in windows]
            features.append(max(max(values), torch.tensor(0.0)))
    z, logits = torch.stack(features), []
    for w, b in zip(network.output.weight, network.output.bias, strict=True):
        shortened = w * min(1.0, 0.4 / float(w.norm()))
        logits.append(shortened @ z + b)
    return torch.stack(logits)


@torch.no_grad()
def test_it_is_the_formula_window_by_window(network: SentenceCNN) -> None:
    assert (network.output.weight.norm(dim=1) > 0.4).any()
    for words in ([7], [3, 9], [1, 2, 3, 4, 5, 6, 19]):
        ours = network(torch.tensor([words]))[0]
        torch.testing.assert_close(ours, by_hand(network, words), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_padding_changes_nothing(network: SentenceCNN) -> None:
    short, long = [4, 5], list(range(1, 12))
    alone = network(torch.tensor([short]))
    together = network(torch.tensor([short + [0] * 9, long]))
    torch.testing.assert_close(together[:1], alone)


def test_it_has_the_size_of_the_paper() -> None:
    """300 numbers a word; 100 filters of 3, 4 and 5 words; a linear layer."""
    network = SentenceCNN(1000, 6, pad_id=0)
    filters = sum(100 * 300 * h + 100 for h in (3, 4, 5))
    assert sum(p.numel() for p in network.parameters()) == 300_000 + filters + 300 * 6 + 6
    assert network.embedding.weight.abs().max() <= 0.25
    assert not network.embedding.weight[0].any()


def test_what_does_not_fit_is_refused(network: SentenceCNN) -> None:
    with pytest.raises(ValueError, match="sequence 1 is nothing but padding"):
        network(torch.tensor([[1], [0]]))
    with pytest.raises(ValueError, match="max_norm=0"):
        SentenceCNN(9, 2, pad_id=0, max_norm=0)
    with pytest.raises(ValueError, match="a width of hidden_channels=0|width"):
        SentenceCNN(9, 2, pad_id=0, widths=(3, 0))

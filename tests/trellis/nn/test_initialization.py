"""Initial weights: scale, shape of the distribution, biases."""

import pytest
import torch
from torch import nn

from trellis.nn.initialization import initialize_, orthogonal_


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_xavier_is_uniform_between_its_bounds() -> None:
    layer = nn.Linear(300, 500)
    initialize_(layer, "xavier")
    bound = (6 / 800) ** 0.5
    assert 0.999 * bound < layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    assert layer.bias.abs().max() == 0


def test_he_is_normal_by_the_fan_in_of_a_filter() -> None:
    network = nn.Sequential(nn.Conv2d(20, 60, 5), nn.ReLU(), nn.Linear(500, 300))
    initialize_(network, "he")
    for layer, fan_in in ((network[0], 500), (network[2], 500)):
        std = (2 / fan_in) ** 0.5
        assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
        assert layer.weight.abs().max() > 3 * std  # a tail that no uniform has
        assert layer.bias.abs().max() == 0


def test_orthogonal_rows_of_a_given_length() -> None:
    layer = nn.Linear(6, 4)
    orthogonal_(layer, 2.0)
    torch.testing.assert_close(layer.weight @ layer.weight.T, 4 * torch.eye(4))
    assert layer.bias.abs().sum() == 0


def test_torch_keeps_what_is_there() -> None:
    layer = nn.Linear(5, 4)
    before = [p.clone() for p in layer.parameters()]
    initialize_(layer, "torch")
    assert all(a.equal(b) for a, b in zip(layer.parameters(), before, strict=True))


def test_only_maps_change() -> None:
    norm = nn.BatchNorm1d(4)
    nn.init.constant_(norm.weight, 3.0)
    initialize_(nn.Sequential(nn.Linear(5, 4, bias=False), norm), "he")
    assert norm.weight.tolist() == [3.0] * 4


def test_an_unknown_scheme_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="initialization='glorot': choose from torch, xavier, he"):
        initialize_(nn.Linear(2, 2), "glorot")

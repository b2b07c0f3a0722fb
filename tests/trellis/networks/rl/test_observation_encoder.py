"""Observations of every kind become features, and those that cannot are refused by name."""

import pytest
import torch
from torch import nn

from trellis.networks.rl.observation_encoder import ObservationEncoder, OneHot, PixelEncoder
from trellis.rl.running_scale import RunningScale


def test_vectors_go_through_hidden_layers() -> None:
    trunk = ObservationEncoder((3,), hidden_channels=(8, 5), activation="relu")
    x = torch.randn(7, 3)
    first, second = (layer for layer in trunk.layers if isinstance(layer, nn.Linear))
    hidden = (x @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(trunk(x), (hidden @ second.weight.T + second.bias).clamp(min=0))
    assert trunk.out_channels == 5
    assert ObservationEncoder((3,), hidden_channels=()).out_channels == 3


def test_states_become_one_hot() -> None:
    trunk = ObservationEncoder((), num_observations=4, hidden_channels=())
    assert trunk(torch.tensor([2, 0])).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    with pytest.raises(
        ValueError, match="observation 4 is out of range: num_observations=4 takes 0 to 3"
    ):
        trunk(torch.tensor([1, 4]))
    with pytest.raises(ValueError, match="observation of torch.float32: give numbers of states"):
        OneHot(3)(torch.zeros(2))


def test_pixels_are_those_of_atari() -> None:
    """The sizes of Mnih et al. 2015: 84 -> 20 -> 9 -> 7 a side, and 1.69 million weights."""
    trunk = ObservationEncoder((4, 84, 84), hidden_channels=(512,), activation="relu")
    assert trunk.layers[0].in_features == 7 * 7 * 64
    assert sum(p.numel() for p in trunk.parameters()) == 1684128
    bytes_ = torch.randint(0, 256, (2, 4, 84, 84), dtype=torch.uint8)
    torch.testing.assert_close(trunk(bytes_), trunk(bytes_.float() / 255))
    assert PixelEncoder(1)(torch.zeros(1, 1, 36, 36)).shape == (1, 64)


class SumOfNodes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(3, 6), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [B, N, 3] -> [B, 6]
        return self.drop(self.linear(x)).sum(1)


def test_any_module_can_be_the_trunk() -> None:
    own = SumOfNodes()
    weight, state = own.linear.weight.clone(), torch.get_rng_state()
    assert ObservationEncoder((5, 3), trunk=own, hidden_channels=()).out_channels == 6
    assert own.training
    assert torch.equal(torch.get_rng_state(), state)  # trying it drew no dropout
    trunk = ObservationEncoder((5, 3), trunk=own, hidden_channels=(4,))
    assert torch.equal(own.linear.weight, weight)
    assert trunk(torch.randn(2, 5, 3)).shape == (2, 4)
    assert trunk.front is own
    flat = ObservationEncoder((5, 3), trunk=nn.Flatten(), hidden_channels=())
    assert flat.out_channels == 15


@pytest.mark.parametrize(
    ("shape", "options", "factor"),
    [
        ((6,), {}, 1),
        ((6,), {"trunk": RunningScale(6)}, 1),
        ((5, 3), {"trunk": nn.Flatten()}, 1),
        ((3, 4, 4), {"trunk": nn.Flatten()}, 255),
        ((4, 4, 3), {"trunk": nn.Sequential(nn.Flatten(), nn.Linear(48, 5))}, 255),
        ((1, 36, 36), {}, 255),
        ((36, 40, 3), {}, 255),
    ],
)
def test_bytes_are_the_floats_that_they_stand_for(shape, options, factor) -> None:
    encoder = ObservationEncoder(shape, hidden_channels=(4,), **options)
    seen = torch.randint(256, (7, *shape), dtype=torch.uint8)
    torch.testing.assert_close(encoder(seen), encoder(seen.float() / factor))
    assert encoder(seen).std() > 0


def test_channels_may_come_last() -> None:
    torch.manual_seed(0)
    first = ObservationEncoder((3, 40, 48), hidden_channels=(4,))
    torch.manual_seed(0)
    last = ObservationEncoder((40, 48, 3), hidden_channels=(4,))
    x = torch.rand(2, 3, 40, 48)
    torch.testing.assert_close(first(x), last(x.permute(0, 2, 3, 1)))


def test_orthogonal_start() -> None:
    torch.manual_seed(0)
    on = ObservationEncoder((6,), hidden_channels=(4,))
    torch.testing.assert_close(on.layers[0].weight @ on.layers[0].weight.T, 2 * torch.eye(4))
    off = ObservationEncoder((6,), hidden_channels=(4,), orthogonal=False)
    assert off.layers[0].bias.abs().sum() > 0


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((5, 3), {}, r"observation_shape=\(5, 3\): only vectors and images .* from \[B, 5, 3\]"),
        ((3, 16, 16), {}, "at least 36 x 36 have a default trunk; give one"),
        ((), {}, r"num_observations=0: give at least 1, the number of states"),
        ((4,), {"num_observations": 3}, r"the number of a state has the shape \(\)"),
        ((4,), {"hidden_channels": (8, 0)}, "a width of hidden_channels=0: give at least 1"),
        ((5, 3), {"trunk": nn.Linear(4, 2)}, r"trunk Linear does not take .* \[2, 5, 3\]"),
        ((5, 3), {"trunk": nn.Linear(3, 2)}, r"into \[2, 5, 2\]: give one that returns"),
    ],
)
def test_shapes_without_a_trunk_that_fits(shape, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        ObservationEncoder(shape, **options)


def test_observations_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"observation \[2, 3\] .*: give observation \[B, 4\]"):
        ObservationEncoder((4,))(torch.zeros(2, 3))

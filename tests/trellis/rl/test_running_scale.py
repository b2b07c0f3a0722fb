"""Statistics piece by piece are those of everything at once."""

import pytest
import torch

from trellis.rl.running_scale import RunningScale


def test_pieces_make_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(97, 3, generator=generator) * torch.tensor([5.0, 0.1, 1.0]) + 7
    scale = RunningScale(3)
    assert torch.equal(scale(x[:9]), x[:9].clamp(-10, 10))
    for part in x.split([1, 40, 7, 49]):
        scale.update(part)
    torch.testing.assert_close(scale.mean, x.mean(0))
    torch.testing.assert_close(scale.var, x.var(0, correction=0))
    assert scale.count == 97
    found = scale(x)
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(0, correction=0), torch.ones(3))


def test_outliers_and_constants_stay_small() -> None:
    scale = RunningScale(1)
    scale.update(torch.full((4, 1), 2.0))
    assert scale(torch.tensor([[2.0], [3.0], [-9.0]])).flatten().tolist() == [0, 10, -10]


def test_looking_changes_nothing_and_all_is_saved() -> None:
    scale, other = RunningScale(2).train(), RunningScale(2)
    scale.update(torch.rand(5, 2))
    before = {name: value.clone() for name, value in scale.state_dict().items()}
    scale(torch.rand(4, 2))
    assert all(torch.equal(value, before[name]) for name, value in scale.state_dict().items())
    other.load_state_dict(before)
    x = torch.rand(3, 2)
    assert torch.equal(scale(x), other(x))


def test_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"x \[2, 3\] does not fit RunningScale"):
        RunningScale(4)(torch.zeros(2, 3))

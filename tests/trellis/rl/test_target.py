"""Networks that follow another."""

import pytest
import torch
from torch import nn

from trellis.rl.running_scale import RunningScale
from trellis.rl.target import frozen_copy, polyak_update_


def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    source = nn.Sequential(RunningScale(2), nn.Linear(2, 3))
    target = frozen_copy(source)
    source[0].update(torch.randn(5, 2))
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.0)
    return target, source


def test_a_copy_is_frozen_and_its_own() -> None:
    target, source = pair()
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert all(parameter.requires_grad for parameter in source.parameters())
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        torch.testing.assert_close(old + 1, new)


@pytest.mark.parametrize("tau", [0.0, 0.25, 1.0])
def test_a_step_towards_the_source(tau: float) -> None:
    target, source = pair()
    # By the formula, a number at a time.
    expected = [
        (1 - tau) * old.clone() + tau * new.detach()
        for old, new in zip(target.parameters(), source.parameters(), strict=True)
    ]
    polyak_update_(target, source, tau)
    for found, wanted in zip(target.parameters(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert torch.equal(target[0].mean, source[0].mean)
    assert target[0].mean is not source[0].mean


def test_tau_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"tau=1.5: give a probability"):
        polyak_update_(*pair(), tau=1.5)

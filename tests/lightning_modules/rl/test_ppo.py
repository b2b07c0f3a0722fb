"""One update of PPO and of A2C against loops over single steps, written from the papers."""

import copy
import inspect
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from learning_cases import Case, run
from rollout_cases import GAMMA, LAM, Keep, advantages
from torch import Tensor, nn

from trellis.lightning_modules.rl.a2c import A2C
from trellis.lightning_modules.rl.ppo import PPO
from trellis.networks.rl.value import ActorCriticNetwork
from trellis.rl.collector import Rollout
from trellis.rl.running_scale import RunningScale

sgd = partial(torch.optim.SGD, lr=1.0)
network = partial(ActorCriticNetwork, hidden_channels=(5,), orthogonal=False)


def ppo_loss(net: nn.Module, old: nn.Module, rollout: Rollout) -> Tensor:
    worth = advantages(old, rollout)
    mean = sum(worth.values()) / len(worth)
    var = sum((a - mean) ** 2 for a in worth.values()) / (len(worth) - 1)
    total = torch.zeros(())
    for (t, n), raw in worth.items():
        seen, action = rollout.observations[t, n][None], rollout.actions[t, n]
        pi, value = net(seen)
        old_pi, old_value = old(seen)
        ratio = (pi.logits[0, action] - old_pi.logits[0, action].detach()).exp()
        advantage = (raw - mean) / var**0.5
        gain = min(ratio * advantage, min(max(ratio, 1 - 0.2), 1 + 0.2) * advantage)
        goal = raw + old_value.item()
        moved = (value - old_value.item()).clamp(-0.3, 0.3) + old_value.item()
        error = max((value - goal).square(), (moved - goal).square()).squeeze()
        entropy = -(pi.probs * pi.logits).sum()
        total = total + (-gain + 0.7 * error / 2 - 0.05 * entropy)
    return total / len(worth)


def a2c_loss(net: nn.Module, old: nn.Module, rollout: Rollout) -> Tensor:
    worth, total = advantages(old, rollout), torch.zeros(())
    for (t, n), advantage in worth.items():
        pi, value = net(rollout.observations[t, n][None])
        goal = advantage + old(rollout.observations[t, n][None])[1].item()
        entropy = -(pi.probs * pi.logits).sum()
        gain = advantage * pi.logits[0, rollout.actions[t, n]]
        total = total + (-gain + 0.7 * (value.squeeze() - goal) ** 2 / 2 - 0.05 * entropy)
    return total / len(worth)


@pytest.mark.parametrize("epochs", [1, 2])
def test_updates_by_loops(epochs: int, tmp_path: Path) -> None:
    """Of the second epoch too, whose ratios are no longer 1."""
    shared: dict[str, Any] = {"gamma": GAMMA, "lam": LAM, "value_coef": 0.7, "entropy_coef": 0.05}
    options = {"num_epochs": epochs, "num_minibatches": 1, "clip": 0.2, "value_clip": 0.3}
    for objective, loss, passes in (
        (partial(PPO, **options, max_grad_norm=1e9, **shared), ppo_loss, epochs),
        (partial(A2C, max_grad_norm=None, **shared), a2c_loss, 1),
    ):
        data = Keep("TestClock-v0", 3, 9, 27, options={"length": 1}, num_val_episodes=1)
        slow = partial(torch.optim.SGD, lr=0.05)
        done = run(
            Case(partial(objective, network=network, optimizer=slow), lambda data=data: data),
            tmp_path,
        )
        assert done.error is None
        (rollout,), (old,) = data.made, data.networks
        assert rollout.terminated.any()
        assert rollout.truncated.any()
        assert not rollout.mask.all()
        net = copy.deepcopy(old)
        for _ in range(passes):
            optimizer = slow(net.parameters())
            optimizer.zero_grad()
            loss(net, old, rollout).backward()
            optimizer.step()
        found = nn.utils.parameters_to_vector(done.objective.network.parameters())
        expected = nn.utils.parameters_to_vector(net.parameters())
        moved = (expected - nn.utils.parameters_to_vector(old.parameters())).detach().abs().max()
        assert moved > 0.01
        torch.testing.assert_close(found, expected, atol=1e-5 * float(moved), rtol=1e-4)


def test_gradients_are_scaled_down_together(tmp_path: Path) -> None:
    data = Keep("TestClock-v0", 3, 9, 27, options={"length": 1}, num_val_episodes=1)
    objective = partial(
        PPO, network=network, optimizer=sgd, num_epochs=1, num_minibatches=1, max_grad_norm=0.01
    )
    done = run(Case(objective, lambda: data), tmp_path)
    before = nn.utils.parameters_to_vector(data.networks[0].parameters())
    after = nn.utils.parameters_to_vector(done.objective.network.parameters())
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_every_step_is_in_one_minibatch_of_each_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[Tensor] = []
    losses = PPO._losses

    def noted(self: PPO, part: Any) -> Any:
        parts.append(part.observations)
        return losses(self, part)

    monkeypatch.setattr(PPO, "_losses", noted)
    data = Keep("TestClock-v0", 3, 9, 27, options={"length": 1}, num_val_episodes=1)
    run(
        Case(partial(PPO, network=network, num_epochs=2, num_minibatches=4), lambda: data),
        tmp_path,
    )
    assert len(parts) == 8
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    (rollout,) = data.made
    expected = rollout.observations[:-1][rollout.mask]
    for epoch in (parts[:4], parts[4:]):
        seen = torch.cat(epoch)
        assert sorted(seen.tolist()) == sorted(expected.tolist())
        assert not torch.equal(seen, expected)
    assert not torch.equal(parts[0], parts[4])


def test_observations_are_scaled_by_what_was_seen_before(tmp_path: Path) -> None:
    scaled = partial(ActorCriticNetwork, hidden_channels=(5,), trunk=RunningScale(3))
    data = Keep("TestClock-v0", 3, 9, 81, options={"length": 1}, num_val_episodes=1)
    with pytest.warns(UserWarning, match="not in the checkpoint"):
        done = run(Case(partial(PPO, network=scaled), lambda: data), tmp_path)
    assert done.error is None
    seen = [rollout.observations[:-1].flatten(0, 1) for rollout in data.made]
    for number, net in enumerate([*data.networks, done.objective.network]):
        for scale in (net.features.front, net.value_features.front):
            assert scale.count == 27 * number
            if number:
                so_far = torch.cat(seen[:number])
                torch.testing.assert_close(scale.mean, so_far.mean(0))
                torch.testing.assert_close(scale.var, so_far.var(0, correction=0))
    saved = torch.load(done.last, weights_only=True)["state_dict"]
    assert saved["network.features.front.count"] == 81


def test_defaults_are_those_of_the_37_details() -> None:
    """Huang et al. 2022, the code of classic control: details 3 and 5 to 11."""
    published = {
        "num_epochs": 4,
        "num_minibatches": 4,
        "gamma": 0.99,
        "lam": 0.95,
        "clip": 0.2,
        "value_clip": 0.2,
        "value_coef": 0.5,
        "entropy_coef": 0.01,
        "max_grad_norm": 0.5,
    }
    defaults = inspect.signature(PPO).parameters
    assert {name: defaults[name].default for name in published} == published


def test_the_change_of_the_policy_by_hand() -> None:
    """Ratios of 2, 1/2 and 1.1: r - 1 - ln r each, which is never negative."""
    ratios = torch.tensor([2.0, 0.5, 1.1])
    old = torch.tensor([-0.7, -0.2, -3.0])
    found = PPO(clip=0.2)._policy_change(old + ratios.log(), old)
    expected = (2 - 1 - math.log(2)) + (0.5 - 1 + math.log(2)) + (1.1 - 1 - math.log(1.1))
    assert float(found["kl"]) == pytest.approx(expected / 3, rel=1e-4)
    assert float(found["clipped"]) == pytest.approx(2 / 3)

"""Transitions of several steps beside a loop over each episode, and beside n-step returns."""

import pytest
import torch

from trellis.rl.n_step import NStepTransitions
from trellis.rl.returns import n_step_returns

T, N, GAMMA = 40, 3, 0.9


def experience() -> dict[str, torch.Tensor]:
    """Steps whose observations are their own numbers; after an end, one that only begins anew."""
    generator = torch.Generator().manual_seed(0)
    number = torch.arange(T * N).view(T, N).float()
    terminated = torch.rand(T, N, generator=generator) < 0.1
    truncated = torch.rand(T, N, generator=generator) < 0.1
    mask = torch.ones(T, N, dtype=torch.bool)
    for t in range(1, T):
        mask[t] = ~((terminated | truncated)[t - 1] & mask[t - 1])
    return {
        "observations": number[..., None],
        "actions": (number % 7).long(),
        "rewards": torch.randn(T, N, generator=generator),
        "next_observations": number[..., None] + 1000,
        "terminated": terminated & mask,
        "truncated": truncated & mask,
        "mask": mask,
    }


def run(waiting: NStepTransitions, first: int = 0, last: int = T) -> list[tuple[float, ...]]:
    """All fields of all transitions that come out, as plain numbers."""
    found = []
    data = experience()
    for t in range(first, last):
        ready = waiting.push(**{name: field[t] for name, field in data.items()})
        found += [tuple(float(x) for x in row) for row in zip(*ready, strict=True)]
    return found


def expected(n: int) -> list[tuple[float, ...]]:
    data, rows = experience(), []
    ended = data["terminated"] | data["truncated"]
    for i in range(N):
        for t in range(T):
            if not data["mask"][t, i]:
                continue
            total, k = 0.0, t
            while k < T:
                total += GAMMA ** (k - t) * float(data["rewards"][k, i])
                if ended[k, i] or k - t + 1 == n:
                    break
                k += 1
            else:
                continue  # the experience ends before n rewards have come
            rows.append(
                (
                    float(data["observations"][t, i]),
                    float(data["actions"][t, i]),
                    total,
                    float(data["next_observations"][k, i]),
                    float(data["terminated"][k, i]),
                    GAMMA ** (k - t + 1),
                )
            )
    return rows


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_each_step_begins_one_transition(n) -> None:
    found = run(NStepTransitions(n, GAMMA))
    assert len(found) == len({row[0] for row in found})
    for a, b in zip(sorted(found), sorted(expected(n)), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)


def test_targets_are_n_step_returns() -> None:
    """With any value of the next observation: reward, discount and end make the target."""
    data = experience()
    values = torch.sin(data["next_observations"][..., 0])
    flags = (data["terminated"], data["truncated"])
    returns = n_step_returns(data["rewards"], *flags, GAMMA, values, 3)
    for observation, _, reward, follows, end, discount in run(NStepTransitions(3, GAMMA)):
        target = reward + discount * (1 - end) * float(torch.tensor(follows).sin())
        assert target == pytest.approx(float(returns.flatten()[int(observation)]), abs=1e-5)


def test_goes_on_where_it_stopped() -> None:
    first, second = NStepTransitions(4, GAMMA), NStepTransitions(4, GAMMA)
    before = run(first, 0, 22)
    second.load_state_dict(first.state_dict())
    after = run(second, 22)
    assert run(first, 22) == after
    assert before + after == run(NStepTransitions(4, GAMMA))
    with pytest.raises(ValueError, match="span n=4 steps or more, these n=2: give n_step"):
        NStepTransitions(2, GAMMA).load_state_dict(first.state_dict())


def test_what_waits_is_a_copy() -> None:
    """An environment may write each observation over the one before."""
    waiting, observation = NStepTransitions(2, GAMMA), torch.zeros(1, 1)
    ones, no = torch.ones(1), torch.zeros(1, dtype=torch.bool)
    for step in range(3):
        observation.fill_(step)
        ready = waiting.push(observation, ones.long(), ones, observation + 1, no, no)
        assert ready.observations.flatten().tolist() == ([step - 1] if step else [])


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="n=0: give at least 1"):
        NStepTransitions(0, GAMMA)
    with pytest.raises(ValueError, match="gamma=1.1: give a probability"):
        NStepTransitions(1, 1.1)

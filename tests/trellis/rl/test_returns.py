"""Returns beside naive loops over one environment's steps, and the ends that must differ."""

import pytest
import torch

from trellis.rl.returns import (
    discounted_returns,
    gae,
    importance_ratio,
    lambda_returns,
    n_step_returns,
)

GAMMA, LAM = 0.9, 0.7


def rollout() -> dict[str, torch.Tensor]:
    """Random steps with ends of both kinds, a step that is both, and two in a row."""
    steps, environments = 12, 5
    generator = torch.Generator().manual_seed(0)

    def numbers() -> torch.Tensor:
        return torch.randn(steps, environments, generator=generator).double()

    terminated = torch.rand(steps, environments, generator=generator) < 0.15
    truncated = torch.rand(steps, environments, generator=generator) < 0.15
    terminated[3, 0] = truncated[3, 0] = True
    truncated[5, 1] = truncated[6, 1] = True
    terminated[-1, 2], truncated[-1, 3] = True, True
    terminated[-1, [3, 4]] = truncated[-1, 4] = False
    return {
        "rewards": numbers(),
        "next_values": numbers(),
        "terminated": terminated,
        "truncated": truncated,
    }


def naive_n_step(data: dict[str, torch.Tensor], t: int, i: int, n: int) -> tuple[float, int]:
    """The n-step return as a sum, and how many rewards it found before an end."""
    total, discount = 0.0, 1.0
    for k in range(n):
        total += discount * float(data["rewards"][t + k, i])
        discount *= GAMMA
        terminated, truncated = data["terminated"][t + k, i], data["truncated"][t + k, i]
        if terminated:
            return total, k + 1
        if truncated or k == n - 1 or t + k == len(data["rewards"]) - 1:
            return total + discount * float(data["next_values"][t + k, i]), k + 1
    raise AssertionError


def naive(data: dict[str, torch.Tensor], of) -> torch.Tensor:
    steps, environments = data["rewards"].shape
    rows = [[of(t, i) for i in range(environments)] for t in range(steps)]
    return torch.tensor(rows, dtype=torch.double)


def naive_lambda(data: dict[str, torch.Tensor], t: int, i: int) -> float:
    """The weighted mean of all n-step returns, by its definition: the rest goes to the last."""
    rest = len(data["rewards"]) - t
    _, last = naive_n_step(data, t, i, rest)
    total = sum(
        (1 - LAM) * LAM ** (n - 1) * naive_n_step(data, t, i, n)[0] for n in range(1, last)
    )
    return total + LAM ** (last - 1) * naive_n_step(data, t, i, last)[0]


def test_discounted_returns_sum_to_the_end() -> None:
    data = rollout()
    expected = naive(data, lambda t, i: naive_n_step(data, t, i, 100)[0])
    torch.testing.assert_close(discounted_returns(**data, gamma=GAMMA), expected)
    without = discounted_returns(
        data["rewards"], data["terminated"], data["truncated"], gamma=GAMMA
    )
    data["next_values"] = torch.zeros_like(data["rewards"])
    torch.testing.assert_close(without, discounted_returns(**data, gamma=GAMMA))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12, 50])
def test_n_step_returns_wait_for_n_rewards(n) -> None:
    data = rollout()
    expected = naive(data, lambda t, i: naive_n_step(data, t, i, n)[0])
    torch.testing.assert_close(n_step_returns(**data, gamma=GAMMA, n=n), expected)


def test_lambda_returns_are_the_mean_of_n_step_returns() -> None:
    data = rollout()
    expected = naive(data, lambda t, i: naive_lambda(data, t, i))
    torch.testing.assert_close(lambda_returns(**data, gamma=GAMMA, lam=LAM), expected)


def test_advantages_are_discounted_errors() -> None:
    """As the paper writes it: a sum of TD errors; the values of two steps need not agree."""
    data = rollout()
    values = torch.randn(12, 5, generator=torch.Generator().manual_seed(1)).double()

    def advantage(t: int, i: int) -> float:
        total, weight = 0.0, 1.0
        for k in range(t, 12):
            follows = 0.0 if data["terminated"][k, i] else float(data["next_values"][k, i])
            error = float(data["rewards"][k, i]) + GAMMA * follows - float(values[k, i])
            total += weight * error
            weight *= GAMMA * LAM
            if data["terminated"][k, i] or data["truncated"][k, i]:
                break
        return total

    found = gae(values=values, **data, gamma=GAMMA, lam=LAM)
    torch.testing.assert_close(found, naive(data, advantage))


def test_limits_of_lambda() -> None:
    data = rollout()
    values = torch.randn(12, 5, generator=torch.Generator().manual_seed(1)).double()
    # Where an episode goes on, the observation that a step led to is what the next begins with.
    goes_on = ~(data["terminated"] | data["truncated"])[:-1]
    data["next_values"][:-1] = torch.where(goes_on, values[1:], data["next_values"][:-1])
    error = data["rewards"] + GAMMA * data["next_values"] * ~data["terminated"] - values
    monte_carlo = discounted_returns(**data, gamma=GAMMA)
    for lam, expected in [(0.0, error), (1.0, monte_carlo - values)]:
        torch.testing.assert_close(gae(values=values, **data, gamma=GAMMA, lam=lam), expected)
    for lam in (0.0, 0.3, 1.0):
        advantages = gae(values=values, **data, gamma=GAMMA, lam=lam)
        returns = lambda_returns(**data, gamma=GAMMA, lam=lam)
        torch.testing.assert_close(advantages + values, returns)
    one_step = n_step_returns(**data, gamma=GAMMA, n=1)
    torch.testing.assert_close(lambda_returns(**data, gamma=GAMMA, lam=0.0), one_step)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("end", ["truncated", "terminated"])
def test_a_time_limit_is_no_end_of_the_world(lam, end) -> None:
    """The return of reward 1 forever is 1 / (1 - gamma), however often it is truncated."""
    rewards = torch.ones(16, 2).double()
    limit = (torch.arange(1, 17) % 4 == 0)[:, None].expand(16, 2)
    never = torch.zeros(16, 2, dtype=torch.bool)
    ends = {"truncated": never, "terminated": never, end: limit}
    value = 0.0
    for _ in range(300):
        constant = torch.full((16, 2), value).double()
        target = gae(rewards, constant, constant, **ends, gamma=GAMMA, lam=lam) + constant
        value += 0.5 * (float(target.mean()) - value)
    true = 1 / (1 - GAMMA)
    if end == "truncated":
        assert value == pytest.approx(true)
    else:  # a value of at most four rewards, for all that follows was declared to be nothing
        assert value < 0.4 * true


# The course's eight episodes: A, 0, B, 0; six times B, 1; once B, 0. Columns are episodes, and the
# first row is A; where an episode begins with B, the row of A is an episode of its own that ended.
def a_and_b() -> dict[str, torch.Tensor]:
    rewards = torch.zeros(2, 8).double()
    rewards[1, 1:7] = 1.0
    terminated = torch.ones(2, 8, dtype=torch.bool)
    terminated[0, 0] = False
    return {
        "rewards": rewards,
        "terminated": terminated,
        "truncated": torch.zeros(2, 8, dtype=torch.bool),
    }


@pytest.mark.parametrize(("lam", "value_of_a"), [(0.0, 0.75), (1.0, 0.0), (0.5, 0.375)])
def test_episodes_of_a_and_b(lam, value_of_a) -> None:
    """Batch TD answers 3/4 for A and Monte Carlo 0; both say 3/4 for B."""
    a = b = 0.0
    for _ in range(200):
        next_values = torch.zeros(2, 8).double()
        next_values[0] = b
        returns = lambda_returns(**a_and_b(), next_values=next_values, gamma=1.0, lam=lam)
        a, b = a + 0.1 * (float(returns[0, 0]) - a), b + 0.1 * (float(returns[1].mean()) - b)
    assert (a, b) == (pytest.approx(value_of_a), pytest.approx(0.75))


def test_along_the_cliff() -> None:
    """The shortest way of the 4 x 12 cliff: 13 steps of -1."""
    end = torch.arange(13)[:, None] == 12
    found = discounted_returns(-torch.ones(13, 1), end, ~end & False, gamma=1.0)
    torch.testing.assert_close(found.flatten(), torch.arange(-13.0, 0.0))


def test_gradients_reach_values_and_rewards() -> None:
    data = {name: tensor[3:7, :2].clone() for name, tensor in rollout().items()}
    flags = (data["terminated"], data["truncated"])
    inputs = (data["rewards"].requires_grad_(), data["next_values"].requires_grad_())
    assert torch.autograd.gradcheck(lambda r, v: lambda_returns(r, v, *flags, GAMMA, LAM), inputs)
    assert torch.autograd.gradcheck(lambda r, v: n_step_returns(r, *flags, GAMMA, v, 2), inputs)


def test_single_steps_and_single_environments() -> None:
    data = {name: tensor[:, 0] for name, tensor in rollout().items()}
    batch = rollout()
    torch.testing.assert_close(
        lambda_returns(**data, gamma=GAMMA, lam=LAM),
        lambda_returns(**batch, gamma=GAMMA, lam=LAM)[:, 0],
    )
    first = {name: tensor[:1] for name, tensor in batch.items()}
    torch.testing.assert_close(
        n_step_returns(**first, gamma=GAMMA, n=3), lambda_returns(**first, gamma=GAMMA, lam=LAM)
    )


def test_importance_ratio() -> None:
    new = torch.tensor([-300.0, -1.0, -2.0]).double().requires_grad_()
    old = torch.tensor([-301.0, -1.0, -1.0]).double().requires_grad_()
    ratio = importance_ratio(new, old)
    assert ratio.tolist() == pytest.approx([2.718281828459045, 1.0, 0.36787944117144233])
    ratio.sum().backward()
    torch.testing.assert_close(new.grad, ratio.detach())
    assert old.grad is None
    with pytest.raises(ValueError, match=r"log_prob \[3\] and old_log_prob \[3, 1\]"):
        importance_ratio(new, old[:, None])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": torch.zeros(0, 5)}, r"rewards \[0, 5\]: give at least one step"),
        ({"next_values": torch.zeros(12)}, r"next_values \[12\] and rewards \[12, 5\]"),
        ({"terminated": torch.zeros(12, 5)}, r"terminated of torch.float32: give bool"),
        ({"next_values": torch.ones(12, 5) > 0}, "next_values of torch.bool: give real numbers"),
        ({"gamma": 1.01}, "gamma=1.01: give a probability"),
        ({"lam": -0.1}, "lam=-0.1"),
    ],
)
def test_bad_input(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        lambda_returns(**{**rollout(), "gamma": GAMMA, "lam": LAM, **change})
    with pytest.raises(ValueError, match="n=0: give at least 1"):
        n_step_returns(**rollout(), gamma=GAMMA, n=0)

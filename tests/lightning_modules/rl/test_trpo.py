"""Steps of TRPO against the Fisher matrix written out, and what its line search promises."""

import copy
import inspect
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from learning_cases import Case, Run, run
from rollout_cases import GAMMA, LAM, Keep, advantages
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

import trellis.lightning_modules.rl.trpo as module
from trellis.lightning_modules.rl.trpo import TRPO
from trellis.networks.rl.value import ActorCriticNetwork
from trellis.rl.collector import Rollout
from trellis.spec import EnvironmentSpec

sgd = partial(torch.optim.SGD, lr=0.01)
linear = partial(ActorCriticNetwork, hidden_channels=())
small = partial(ActorCriticNetwork, hidden_channels=(8,))


def of_policy(net: nn.Module) -> list[nn.Parameter]:
    return [p for name, p in net.named_parameters() if "value" not in name]


def of_value(net: nn.Module) -> list[nn.Parameter]:
    return [p for name, p in net.named_parameters() if "value" in name]


def train(data: Keep, root: Path, callbacks: Any = (), **options: Any) -> Run:
    objective = partial(TRPO, **{"network": small, "optimizer": sgd, **options})
    return run(Case(objective, lambda: data), root, callbacks=callbacks, log_every_n_steps=1)


def clock(**options: Any) -> Keep:
    return Keep("TestClock-v0", 3, 9, 27, options={"length": 1}, num_val_episodes=1, **options)


def poles(kind: type = Keep, rollouts: int = 4) -> Keep:
    return kind("CartPole-v1", 2, 50, 100 * rollouts, num_val_episodes=1)


def worth_of(
    net: nn.Module, rollout: Rollout, gamma: float = GAMMA, lam: float = LAM
) -> dict[tuple[int, int], float]:
    """Standardised advantages by loops."""
    worth = advantages(net, rollout, gamma, lam)
    mean = sum(worth.values()) / len(worth)
    var = sum((a - mean) ** 2 for a in worth.values()) / (len(worth) - 1)
    return {step: (a - mean) / var**0.5 for step, a in worth.items()}


def softmax_score(net: nn.Module, seen: Tensor, action: int) -> np.ndarray:
    log_prob = net.policy(seen[None]).logits.log_softmax(-1)[0, action]
    return parameters_to_vector(torch.autograd.grad(log_prob, of_policy(net))).numpy()


def softmax_step(
    net: nn.Module, rollout: Rollout, damping: float, max_kl: float, states: Any = None
) -> np.ndarray:
    """The mean over states and actions of the score times itself, inverted."""
    net = copy.deepcopy(net).double()
    rollout = rollout._replace(observations=rollout.observations.double())
    worth = worth_of(net, rollout)
    size = parameters_to_vector(of_policy(net)).numel()
    fisher, gradient = damping * np.eye(size), np.zeros(size)
    for step, advantage in worth.items():
        score = softmax_score(net, rollout.observations[step], int(rollout.actions[step]))
        gradient += advantage * score / len(worth)
    states = rollout.observations[:-1][rollout.mask] if states is None else states.double()
    for seen in states:
        for action, prob in enumerate(net.policy(seen[None]).probs[0].tolist()):
            score = softmax_score(net, seen, action)
            fisher += prob * np.outer(score, score) / len(states)
    step = np.linalg.solve(fisher, gradient)
    return step * np.sqrt(2 * max_kl / (step @ fisher @ step))


@pytest.mark.parametrize(("hidden_channels", "share"), [((), 1.0), ((3,), 1.0), ((3,), 0.5)])
def test_a_step_is_the_inverse_fisher_matrix_times_the_gradient(
    hidden_channels: tuple[int, ...],
    share: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right, parts = TRPO._kl_from_itself, []

    def noted(self: TRPO, observations: Tensor) -> Tensor:
        parts.append(observations)
        return right(self, observations)

    monkeypatch.setattr(TRPO, "_kl_from_itself", noted)
    data = clock()
    network = partial(ActorCriticNetwork, hidden_channels=hidden_channels, orthogonal=False)
    done = train(
        data, tmp_path, network=network, gamma=GAMMA, lam=LAM, max_kl=0.02, damping=0.03,
        cg_iterations=50, line_search_steps=0, fisher_share=share,
    )  # fmt: skip
    assert done.error is None
    (rollout,), (old,) = data.made, data.networks
    states = rollout.observations[:-1][rollout.mask]
    assert len(states) < 27
    (part,) = parts or (None,)
    assert (part is None) == (share == 1)
    if part is not None:
        assert len(part) == round(share * len(states)) == len(part.unique(dim=0))
        assert ((part[:, None] == states).all(-1).sum(1) == 1).all()
    expected = softmax_step(old, rollout, damping=0.03, max_kl=0.02, states=part)
    after, before = (parameters_to_vector(of_policy(n)) for n in (done.objective.network, old))
    found = (after - before).detach().numpy()
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_a_gaussian_step_in_closed_form(tmp_path: Path) -> None:
    """Of a mean w x + b and a standard deviation: F is made of moments of x, and 2 for log_std."""
    data = Keep("TestAim-v0", 4, 16, 64, num_val_episodes=1)
    done = train(
        data, tmp_path, network=partial(linear, log_std=-0.7), gamma=GAMMA, lam=LAM, damping=0.05,
        line_search_steps=0,
    )  # fmt: skip
    (rollout,), (old,) = data.made, data.networks
    worth = worth_of(old, rollout)
    sigma, size = float(np.exp(-0.7)), len(worth)
    weight, bias = (p.item() for p in old.policy_head.linear.parameters())
    fisher, gradient = 0.05 * np.eye(3), np.zeros(3)  # log_std, weight, bias
    for (t, n), advantage in worth.items():
        x = rollout.observations[t, n].item()
        z = (rollout.actions[t, n].item() - weight * x - bias) / sigma
        score = np.array([z**2 - 1, z * x / sigma, z / sigma])
        gradient += advantage * score / size
        fisher += np.array([[2 * sigma**2, 0, 0], [0, x * x, x], [0, x, 1]]) / sigma**2 / size
    step = np.linalg.solve(fisher, gradient)
    expected = step * np.sqrt(2 * 0.01 / (step @ fisher @ step))
    found = [a - b for a, b in zip(of_policy(done.objective.network), of_policy(old), strict=True)]
    np.testing.assert_allclose(parameters_to_vector(found).detach(), expected, rtol=1e-3)


def probabilities(net: nn.Module, rollout: Rollout) -> tuple[Tensor, Tensor]:
    """Of all actions in each state, and of the one that was taken."""
    states = rollout.observations[:-1][rollout.mask]
    every = net.policy(states).logits.softmax(-1).detach().double()
    return every, every.gather(1, rollout.actions[rollout.mask][:, None])[:, 0]


class Watch(L.Callback):
    """What was logged after each rollout, and the network it left."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []
        self.after: list[Any] = []

    def on_train_batch_end(self, trainer: Any, objective: Any, *args: Any) -> None:
        metrics = trainer.callback_metrics.items()
        self.values.append({k[6:]: float(v) for k, v in metrics if k.startswith("train/")})
        self.after.append(copy.deepcopy(objective.network))


def test_steps_gain_and_stay_near(tmp_path: Path) -> None:
    """Far enough for the second order to be wrong: some steps have to be shortened."""
    data, watch = poles(rollouts=5), Watch()
    assert train(data, tmp_path, [watch], max_kl=0.3, damping=0.0).error is None
    assert len(data.made) == 5
    divergences = []
    for rollout, old, new, logged in zip(
        data.made, data.networks, watch.after, watch.values, strict=True
    ):
        (p, taken), (q, now) = probabilities(old, rollout), probabilities(new, rollout)
        kl = (p * (p / q).log()).sum(-1).mean().item()
        worth = worth_of_cart(old, rollout)
        gain = ((now / taken) * worth).mean().item() - worth.mean().item()
        entropy = -(p * p.log()).sum(-1).mean().item()
        assert logged["kl"] == pytest.approx(kl, abs=1e-4)
        assert logged["improvement"] == pytest.approx(gain, abs=1e-4)
        assert logged["entropy"] == pytest.approx(entropy, abs=1e-4)
        assert kl <= 0.3 + 1e-5
        assert (gain > 0) == (logged["accepted"] == 1)
        divergences.append(kl)
    assert max(divergences) > 0.1
    assert {"kl", "improvement", "accepted", "entropy", "value_loss"} <= set(watch.values[-1])


def worth_of_cart(net: nn.Module, rollout: Rollout) -> Tensor:
    """In the order of the rollout, with TRPO's own defaults."""
    worth = worth_of(net, rollout, gamma=0.99, lam=0.95)
    return torch.tensor([worth[step] for step in sorted(worth)]).double()


@pytest.mark.parametrize(("factor", "gains"), [(-1.0, False), (3.0, True)])
def test_refused_steps_leave_the_policy_bit_equal(
    factor: float, gains: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrong way gains nothing; three times too far does, but leaves the trust region."""
    right = module.trust_region_step
    monkeypatch.setattr(module, "trust_region_step", lambda *args: factor * right(*args))
    for tries in (1, 0):
        data, watch = poles(rollouts=1), Watch()
        train(data, tmp_path, [watch], line_search_steps=tries)
        (old,), (new,), (logged,) = data.networks, watch.after, watch.values
        stayed = [torch.equal(a, b) for a, b in zip(of_policy(old), of_policy(new), strict=True)]
        if tries:
            assert all(stayed)
            assert logged["accepted"] == logged["kl"] == logged["improvement"] == 0
        else:  # unchecked
            assert not any(stayed)
            assert logged["accepted"] == 1
            assert (logged["improvement"] > 0) == gains
            assert gains == (logged["kl"] > 0.01)
        assert not any(map(torch.equal, of_value(old), of_value(new)))


def test_a_search_shortens_until_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one and a half times the right length it takes two cuts to 0.96 of it."""
    right, seen = module.trust_region_step, []

    def longer(*args: Any) -> Tensor:
        seen.append(right(*args))
        return 1.5 * seen[-1]

    monkeypatch.setattr(module, "trust_region_step", longer)
    for tries, share in ((2, 0.0), (3, 0.8**2), (10, 0.8**2)):
        data = poles(rollouts=1)
        done = train(data, tmp_path, line_search_steps=tries)
        after, before = (
            parameters_to_vector(of_policy(n)) for n in (done.objective.network, data.networks[0])
        )
        whole = 1.5 * seen[-1]
        long = whole.abs() > whole.abs().median()
        found = ((after - before) / whole)[long].mean().item()
        assert found == pytest.approx(share, rel=0.01)


def test_a_step_of_the_policy_moves_no_value(tmp_path: Path) -> None:
    data = poles(rollouts=2)
    done = train(data, tmp_path, optimizer=partial(torch.optim.SGD, lr=0.0))
    old, new = data.networks[0], done.objective.network
    assert all(map(torch.equal, of_value(old), of_value(new)))
    assert not any(map(torch.equal, of_policy(old), of_policy(new)))
    states = data.made[0].observations[0]
    assert torch.equal(old.value(states), new.value(states))


def test_the_value_follows_the_returns_by_loops(tmp_path: Path) -> None:
    data = clock()
    options = {"num_epochs": 2, "num_minibatches": 1, "gamma": GAMMA, "lam": LAM}
    done = train(data, tmp_path, network=linear, **options)
    (rollout,), (old,) = data.made, data.networks
    goals = {
        step: advantage + old.value(rollout.observations[step][None]).item()
        for step, advantage in advantages(old, rollout).items()
    }
    net = copy.deepcopy(old)
    for _ in range(2):
        optimizer = sgd(of_value(net))
        optimizer.zero_grad()
        errors = [net.value(rollout.observations[s][None]) - goal for s, goal in goals.items()]
        (sum(error.square().sum() for error in errors) / 2 / len(errors)).backward()
        optimizer.step()
    for found, expected in zip(of_value(done.objective.network), of_value(net), strict=True):
        torch.testing.assert_close(found, expected)


class Spoilt(Keep):
    """Steps of reset hold other actions, rewards and random noise."""

    def next_batch(self) -> Rollout:
        made = super().next_batch()
        assert not made.mask.all()
        return made._replace(actions=made.actions.where(made.mask, 1 - made.actions))


def test_steps_of_reset_teach_nothing(tmp_path: Path) -> None:
    one, other = (train(poles(kind, rollouts=1), tmp_path) for kind in (Keep, Spoilt))
    assert all(torch.equal(one.weights[name], value) for name, value in other.weights.items())


class Kink(nn.Module):
    """A weight whose first or second derivative is not finite."""

    def __init__(self, order: int) -> None:
        super().__init__()
        self.order, self.weight = order, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + (0 * self.weight).sqrt() if self.order == 1 else x + self.weight.abs() ** 1.5


@pytest.mark.parametrize(
    ("order", "words"),
    [(1, "the gradient in features.front.weight"), (2, "the curvature of the divergence")],
)
@pytest.mark.filterwarnings("ignore:.*not in the checkpoint")
def test_what_is_not_finite_ends_the_run(order: int, words: str, tmp_path: Path) -> None:
    done = train(clock(), tmp_path, network=partial(small, trunk=Kink(order)))
    assert isinstance(done.error, FloatingPointError)
    assert f"step 0: the policy's natural gradient is not finite, and {words}" in str(done.error)
    assert all(weight.isfinite().all() for weight in done.objective.network.parameters())


@pytest.mark.parametrize("tries", [0, 1, 10])
@pytest.mark.parametrize("length", [3e38, 1e30, float("nan")])
def test_a_step_after_which_nothing_is_finite_ends_the_run(
    length: float, tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last rollout too, after which no gradient would tell: the policy stays as it was."""
    right, calls = module.trust_region_step, []

    def far(direction: Tensor, *args: Any) -> Tensor:
        calls.append(1)
        step = right(direction, *args)
        return length * step.sign() if len(calls) == 2 else step

    monkeypatch.setattr(module, "trust_region_step", far)
    data = poles(rollouts=2)
    done = train(data, tmp_path, line_search_steps=tries)
    assert isinstance(done.error, FloatingPointError)
    assert "step 1: " in str(done.error)
    for old, new in zip(
        of_policy(data.networks[1]), of_policy(done.objective.network), strict=True
    ):
        assert torch.equal(old, new)


def test_shared_features_are_refused(tmp_path: Path) -> None:
    error = train(clock(), tmp_path, network=partial(small, shared=True)).error
    assert isinstance(error, ValueError)
    assert "policy and value share features.layers.0.weight and 1 more" in str(error)
    assert "shared=False" in str(error)


@pytest.mark.filterwarnings("ignore:.*not in the checkpoint")
def test_asking_whose_a_parameter_is_changes_nothing() -> None:
    trunk = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    objective = TRPO(
        partial(small, trunk=trunk), spec=EnvironmentSpec("X-v0", (3,), num_actions=2)
    )
    objective.configure_model()
    before = copy.deepcopy(objective.state_dict())
    (optimizer,) = objective.configure_optimizers()
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())
    assert all(part.training for part in objective.network.modules())
    (group,) = optimizer.param_groups
    assert list(map(id, group["params"])) == list(map(id, of_value(objective.network)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_kl": 0.0}, "max_kl=0.0"),
        ({"damping": -0.1}, "damping=-0.1"),
        ({"cg_iterations": 0}, "cg_iterations=0"),
        ({"line_search_steps": -1}, "line_search_steps=-1"),
        ({"fisher_share": 0.0}, "fisher_share=0.0: give more than 0"),
        ({"fisher_share": 1.5}, "fisher_share=1.5"),
        ({"num_minibatches": 0}, "num_minibatches=0"),
        ({"lam": 2.0}, "lam=2.0"),
    ],
)
def test_bad_numbers(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TRPO(**options)


def test_defaults_are_those_of_the_paper() -> None:
    """Schulman et al. 2015, appendix C and table 2; 2016, section 6 (lambda)."""
    published = {
        "gamma": 0.99,
        "lam": 0.95,
        "max_kl": 0.01,
        "damping": 0.1,
        "cg_iterations": 10,
        "line_search_steps": 10,
        "fisher_share": 1.0,
    }
    defaults = inspect.signature(TRPO).parameters
    assert {name: defaults[name].default for name in published} == published
    assert module.BACKTRACK == 0.8


def test_the_share_of_the_states_is_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From all parts of a rollout, others in each, and repeated by the seed."""
    right, parts = TRPO._kl_from_itself, []

    def noted(self: TRPO, observations: Tensor) -> Tensor:
        parts.append(observations)
        return right(self, observations)

    monkeypatch.setattr(TRPO, "_kl_from_itself", noted)
    data = poles(rollouts=3)
    train(data, tmp_path, fisher_share=0.25)
    chosen = []
    for part, rollout in zip(parts, data.made, strict=True):
        states = rollout.observations[:-1][rollout.mask]
        rows = (part[:, None] == states).all(-1).int().argmax(1).tolist()
        assert len(set(rows)) == len(rows) == round(0.25 * len(states))
        chosen.append(rows)
        assert min(rows) < 0.2 * len(states)
        assert max(rows) > 0.8 * len(states)
    assert chosen[0] != chosen[1] != chosen[2]
    assert sorted(chosen[0]) != list(range(len(chosen[0])))

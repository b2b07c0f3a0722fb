"""Trust-region policy optimisation: the longest step that keeps the policy near the old one."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.distributions import kl_divergence

from trellis.checks import at_least_one, not_negative, positive, probability
from trellis.lightning_modules.rl.on_policy import (
    ActorCriticFactory,
    ActorCriticObjective,
    Experience,
)
from trellis.networks.rl.value import ActorCriticNetwork
from trellis.rl.collector import Rollout
from trellis.rl.natural_gradient import (
    conjugate_gradient,
    fisher_vector_product,
    flatten,
    trust_region_step,
)
from trellis.rl.policy_gradient import standardized
from trellis.rl.returns import importance_ratio
from trellis.spec import EnvironmentSpec

BACKTRACK = 0.8  # each try of the line search is this share of the one before


class TRPO(ActorCriticObjective):
    r"""The policy takes one natural-gradient step on each rollout; a value is learned beside it.

    .. math:: \max_\theta \frac1B \sum_i \rho_i(\theta) A_i \quad \text{with} \quad
        \frac1B \sum_i KL(\pi_\text{old}(\cdot \mid s_i) \,\|\, \pi_\theta(\cdot \mid s_i))
        \le \epsilon

    with the ratio :math:`\rho` of the new and old probabilities. The direction is
    :math:`F^{-1} g`, by conjugate gradients, the length what the second-order expansion of the
    divergence allows. A line search shortens the step until the surrogate has grown and the
    divergence is within ``max_kl``; if it never is, the policy stays as it was. The value is
    fitted to the returns in several epochs of minibatches; the optimiser, the scheduler and
    ``max_grad_norm`` are those of the value.

    Batch: a ``Rollout``, whose updates count as one step. Advantages are estimated by the network
    that acted and scaled to mean 0 and standard deviation 1; where an episode is truncated by a
    time limit, or by the end of the rollout, the value of the next observation is bootstrapped.

    Logged and evaluated: as ``AgentObjective``, and ``train/kl`` and ``train/improvement`` of the
    surrogate by the step that was taken, ``train/accepted`` whether one was, the policy's
    ``train/entropy`` before it, ``train/value_loss`` of the last minibatch.

    Args:
        network: from the sizes of an environment to a policy with a value that share no
            parameter.
        optimizer: from the value's parameters to an optimiser.
        max_kl: epsilon, in nats.
        damping: added to the diagonal of F, which limits steps along flat directions.
        cg_iterations: of the conjugate gradients, one product with F each.
        line_search_steps: lengths to try, each 0.8 of the one before; 0 takes the full step
            unchecked, which is the natural policy gradient.
        fisher_share: share of the states, sampled for each rollout, that F is averaged over.
        num_epochs: passes of the value over a rollout.
        num_minibatches: parts of a pass, shuffled for each.
    Raises:
        ValueError: a number out of range, or clipping and accumulation by the trainer; in ``fit``
            a network whose policy and value share parameters.
        FloatingPointError: the policy's step, or the policy after it, is not finite.

    Source: Schulman et al. 2015, section 6 and appendix C; Kakade 2001 (no line search);
    Schulman et al. 2016 (advantages). Deviates: after a time limit the value is bootstrapped.
    """

    partial_losses = True  # the policy's step needs no backward pass

    def __init__(
        self,
        network: ActorCriticFactory = ActorCriticNetwork,
        optimizer: OptimizerCallable = torch.optim.Adam,
        *,
        max_kl: float = 0.01,
        damping: float = 0.1,
        cg_iterations: int = 10,
        line_search_steps: int = 10,
        fisher_share: float = 1.0,
        num_epochs: int = 10,
        num_minibatches: int = 4,
        **options: Any,
    ) -> None:
        super().__init__(network, optimizer, **options)
        self.max_kl = positive("max_kl", max_kl)
        self.fisher_share = positive("fisher_share", probability("fisher_share", fisher_share))
        self.damping = not_negative("damping", damping)
        self.cg_iterations = at_least_one("cg_iterations", cg_iterations)
        not_negative("line_search_steps", line_search_steps)
        self.line_search_steps = line_search_steps
        self.num_epochs = at_least_one("num_epochs", num_epochs)
        self.num_minibatches = at_least_one("num_minibatches", num_minibatches)
        self._policy_parameters: list[nn.Parameter] = []

    def configure_optimizers(self) -> Any:
        self._policy_parameters, of_value = _split_parameters(self.network, self.spec, self.device)
        return self.scheduled([self.optimizer(of_value)])

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        rollout = self.scale_rewards(rollout)
        experience = self.evaluate_rollout(rollout)
        if len(experience.actions) == 0:  # all environments were only reset
            return
        with self.one_step() as [optimizer]:
            values = self._improve_policy(experience)
            values["value_loss"] = self._fit_value(experience, optimizer)
        self.end_step(rollout, **values)

    def _improve_policy(self, experience: Experience) -> dict[str, Tensor]:
        observations, actions = experience.observations, experience.actions
        advantages = standardized(experience.advantages)
        with torch.no_grad():
            old = self.network.policy(observations)

        def measure() -> tuple[Tensor, Tensor]:
            """The surrogate of the current policy, and its divergence from the old one."""
            new = self.network.policy(observations)
            ratio = importance_ratio(new.log_prob(actions), experience.log_prob)
            return (ratio * advantages).mean(), kl_divergence(old, new).mean()

        surrogate, kl = measure()
        if self.fisher_share < 1:
            count = max(1, round(self.fisher_share * len(actions)))
            rows = torch.randperm(len(actions))[:count].to(self.device)
            kl = self._kl_from_itself(observations[rows])
        full_step = self._natural_step(surrogate, kl)
        gain, kl, accepted = self._line_search(full_step, measure, self._mean(surrogate.detach()))
        return {
            "kl": kl,
            "improvement": gain,
            "accepted": accepted,
            "entropy": old.entropy().mean(),
        }

    def _kl_from_itself(self, observations: Tensor) -> Tensor:
        """0, but its second derivative is the Fisher matrix."""
        with torch.no_grad():
            old = self.network.policy(observations)
        return kl_divergence(old, self.network.policy(observations)).mean()

    def _natural_step(self, surrogate: Tensor, kl: Tensor) -> Tensor:
        """The full step of all parameters of the policy, ``[P]``."""
        fisher = fisher_vector_product(kl, self._policy_parameters)
        gradients = torch.autograd.grad(surrogate, self._policy_parameters, retain_graph=True)

        def product(vector: Tensor) -> Tensor:
            return self._mean(fisher(vector)) + self.damping * vector

        direction = conjugate_gradient(product, self._mean(flatten(gradients)), self.cg_iterations)
        step = trust_region_step(direction, product, self.max_kl)
        if not bool(step.isfinite().all()):
            cause = _not_finite(self.network, self._policy_parameters, gradients)
            raise FloatingPointError(
                f"step {self.global_step}: the policy's natural gradient is not finite, and "
                f"{cause}; best.ckpt and last.ckpt hold no such weights. Check the data for NaN, "
                f"or raise damping"
            )
        return step

    @torch.no_grad()
    def _line_search(
        self, full_step: Tensor, measure: Callable[[], tuple[Tensor, Tensor]], before: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take the longest acceptable step; the gain of the surrogate, the divergence, and 1.

        If there is none, the policy stays as it was: 0, 0, 0. No optimiser takes this step, so
        that ``FiniteGuard`` does not see it.

        Raises:
            FloatingPointError: no step leaves the policy finite; it stays as it was.
        """
        old, any_finite = flatten(self._policy_parameters), False
        for tries in range(max(1, self.line_search_steps)):
            new = old + BACKTRACK**tries * full_step
            _assign(self._policy_parameters, new)
            surrogate, kl = (self._mean(value) for value in measure())
            finite = bool(new.isfinite().all() & surrogate.isfinite() & kl.isfinite())
            acceptable = (surrogate > before) & (kl <= self.max_kl)
            if finite and (self.line_search_steps == 0 or bool(acceptable)):
                return surrogate - before, kl, torch.ones_like(kl)
            any_finite |= finite
        _assign(self._policy_parameters, old)
        if not any_finite:
            raise FloatingPointError(
                f"step {self.global_step}: after the policy's step its weights, the surrogate or "
                f"the divergence are not finite; best.ckpt and last.ckpt hold no such weights. "
                f"Lower max_kl, or raise damping"
            )
        return torch.zeros_like(kl), torch.zeros_like(kl), torch.zeros_like(kl)

    def _fit_value(self, experience: Experience, optimizer: Any) -> Tensor:
        loss = experience.returns.new_zeros(())
        parts = min(self.num_minibatches, len(experience.returns))
        for _ in range(self.num_epochs):
            for minibatch in experience.shuffled(parts):
                values = self.network.value(minibatch.observations)
                loss = F.mse_loss(values, minibatch.returns) / 2
                self.step([optimizer], loss)
        return loss

    def _mean(self, value: Tensor) -> Tensor:
        """Over all processes, whose policies have to stay the same."""
        mean: Any = self.trainer.strategy.reduce(value, reduce_op="mean")
        return mean


def _split_parameters(
    network: Any, spec: EnvironmentSpec, device: torch.device
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that the policy depends on, and those that the value does.

    Raises:
        ValueError: one is in both.
    """
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    kind = torch.long if spec.num_observations else next(iter(named.values())).dtype
    example = torch.zeros(2, *spec.observation_shape, dtype=kind, device=device)

    def used(output: Tensor) -> list[str]:
        gradients = torch.autograd.grad(output.sum(), list(named.values()), allow_unused=True)
        return [name for name, each in zip(named, gradients, strict=True) if each is not None]

    training = network.training
    network.eval()  # the example must not enter statistics
    with torch.enable_grad():
        distribution = network.policy(example)
        of_policy = used(distribution.log_prob(distribution.mode))
        of_value = used(network.value(example))
    network.train(training)
    if both := [name for name in of_policy if name in of_value]:
        more = f" and {len(both) - 1} more" if len(both) > 1 else ""
        raise ValueError(
            f"TRPO: policy and value share {both[0]}{more}, so that a step of the policy would "
            f"change the value: give the network shared=False, or take PPO"
        )
    return [named[name] for name in of_policy], [named[name] for name in of_value]


def _assign(parameters: list[nn.Parameter], values: Tensor) -> None:
    parts = values.split([parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.copy_(part.view_as(parameter))


def _not_finite(
    network: nn.Module, parameters: list[nn.Parameter], gradients: tuple[Tensor, ...]
) -> str:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    bad = [
        names[id(parameter)]
        for parameter, gradient in zip(parameters, gradients, strict=True)
        if not bool(gradient.isfinite().all())
    ]
    return f"the gradient in {', '.join(bad[:5])}" if bad else "the curvature of the divergence"

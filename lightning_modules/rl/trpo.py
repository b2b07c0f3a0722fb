"""Trust-region policy optimisation: the longest step that leaves the policy nearly what it was."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.distributions import kl_divergence

from trellis.checks import at_least_one, not_negative, positive, probability
from trellis.lightning_modules.engine.objective import Objective, build_network
from trellis.lightning_modules.rl.agent import (
    Agent,
    choose,
    end_step,
    one_step,
    scheduled,
    sizes,
    step,
)
from trellis.lightning_modules.rl.on_policy import (
    ActorCriticFactory,
    Experience,
    experience,
    scale_rewards,
)
from trellis.networks.rl.value import ActorCriticNetwork
from trellis.rl.natural_gradient import (
    conjugate_gradient,
    fisher_vector_product,
    flatten,
    trust_region_step,
)
from trellis.rl.policy_gradient import standardized
from trellis.rl.returns import importance_ratio
from trellis.spec import EnvironmentSpec

SHORTER = 0.8  # each try of the line search is this share of the last


class TRPO(Agent, Objective):
    r"""A policy takes one step of the natural gradient on each rollout; a value learns beside it.

    .. math:: \max_\theta \frac1B \sum_i \rho_i(\theta) A_i \quad \text{with} \quad
        \frac1B \sum_i KL(\pi_\text{old}(\cdot \mid s_i) \,\|\, \pi_\theta(\cdot \mid s_i))
        \le \epsilon

    with the ratio :math:`\rho` of the probabilities now and then. The step is :math:`F^{-1} g`,
    by conjugate gradients, as long as the divergence to second order allows; it is shortened until
    the mean advantage under the new policy has grown and the divergence itself is within
    ``max_kl``. If it never is, the policy stays what it was. The value follows the returns in
    several epochs of minibatches, and it alone has the optimiser and the scheduler.

    Batch: a ``Rollout``, counted as one step whatever the value takes. Advantages are those of the
    network that acted, with mean 0 and deviation 1; a last step that was broken off by a time
    limit, or by the end of the rollout, counts with the value of what followed.

    Logged: ``train/return``, the mean of the last 100 finished episodes; ``train/kl`` and
    ``train/improvement`` of the step that was taken, ``train/accepted`` whether one was, the
    policy's ``train/entropy`` before it, ``train/value_loss`` of the last minibatch. Evaluation:
    ``val/return`` and ``val/episode_length`` of whole episodes with deterministic actions.

    Args:
        network: from the sizes of an environment to a policy with a value that share no
            parameter.
        optimizer: from the value's parameters to an optimiser.
        lr_scheduler: from the optimiser to a scheduler, stepped once a rollout.
        spec: sizes of the environment; ``None`` asks the data module.
        gamma: discount per step, in [0, 1].
        lam: lambda of the advantages, in [0, 1].
        max_kl: epsilon, in nats.
        damping: added to the diagonal of F, which keeps flat directions from long steps.
        cg_iterations: of the conjugate gradients, a product with F each.
        line_search_steps: lengths to try, each 0.8 of the last; 0 takes the whole step unseen,
            which is the natural policy gradient.
        fisher_share: of the states, drawn anew for each rollout, that F is averaged over.
        num_epochs: passes of the value over a rollout.
        num_minibatches: parts of a pass, drawn anew for each.
    Raises:
        ValueError: a number out of range, or clipping and accumulation by the trainer; in ``fit``
            a network whose policy and value share parameters.
        FloatingPointError: the policy's step is not finite.

    Source: Schulman et al. 2015, section 6 and appendix C; Kakade 2001 (no line search);
    Schulman et al. 2016 (advantages). Deviates: time limits keep the value of what followed.
    """

    network: Any  # with policy and value, which nn.Module does not declare

    def __init__(
        self,
        network: ActorCriticFactory = ActorCriticNetwork,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: EnvironmentSpec | None = None,
        gamma: float = 0.99,
        lam: float = 0.95,
        max_kl: float = 0.01,
        damping: float = 0.1,
        cg_iterations: int = 10,
        line_search_steps: int = 10,
        fisher_share: float = 1.0,
        num_epochs: int = 10,
        num_minibatches: int = 4,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.automatic_optimization = False
        self.gamma, self.lam = probability("gamma", gamma), probability("lam", lam)
        self.max_kl = positive("max_kl", max_kl)
        self.fisher_share = positive("fisher_share", probability("fisher_share", fisher_share))
        self.damping = not_negative("damping", damping)
        self.cg_iterations = at_least_one("cg_iterations", cg_iterations)
        not_negative("line_search_steps", line_search_steps)
        self.line_search_steps = line_search_steps
        self.num_epochs = at_least_one("num_epochs", num_epochs)
        self.num_minibatches = at_least_one("num_minibatches", num_minibatches)
        self.save_hyperparameters()
        self.network_factory = network
        self._of_policy: list[nn.Parameter] = []

    def build(self, spec: EnvironmentSpec) -> None:
        self.network = build_network(
            self.network_factory, sizes(spec), "observation", objective=self
        )

    def configure_optimizers(self) -> Any:
        self._of_policy, of_value = _apart(self.network, self.spec, self.device)
        return scheduled(self, [self.optimizer(of_value)])

    def forward(self, observation: Tensor) -> Any:
        """The distribution over actions and the value of ``observation [B, *shape]``."""
        return self.network(observation)

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for ``observations [N, *shape]``, drawn or the most probable."""
        return choose(self.network.policy(observations), deterministic)

    def training_step(self, rollout: Any, batch_idx: int) -> None:
        rollout = scale_rewards(self.network, rollout)
        seen = experience(self.network, rollout, self.gamma, self.lam)
        if len(seen.actions) == 0:  # all environments began new episodes
            return
        with one_step(self) as [optimizer]:
            values = self._improve_policy(seen)
            values["value_loss"] = self._fit_value(seen, optimizer)
        end_step(self, rollout, **values)

    def _improve_policy(self, seen: Experience) -> dict[str, Tensor]:
        advantages = standardized(seen.advantages)
        with torch.no_grad():
            old = self.network.policy(seen.observations)

        def measure() -> tuple[Tensor, Tensor]:
            """Mean advantage of the policy as it is now, and how far it is from the old one."""
            new = self.network.policy(seen.observations)
            ratio = importance_ratio(new.log_prob(seen.actions), seen.log_prob)
            return (ratio * advantages).mean(), kl_divergence(old, new).mean()

        surrogate, kl = measure()
        if self.fisher_share < 1:
            count = max(1, round(self.fisher_share * len(seen.actions)))
            rows = torch.randperm(len(seen.actions))[:count].to(self.device)
            kl = self._divergence_from_itself(seen.observations[rows])
        change = self._natural_step(surrogate, kl)
        gained, kl, accepted = self._search(change, measure, self._mean(surrogate.detach()))
        return {
            "kl": kl,
            "improvement": gained,
            "accepted": accepted,
            "entropy": old.entropy().mean(),
        }

    def _divergence_from_itself(self, observations: Tensor) -> Tensor:
        with torch.no_grad():
            old = self.network.policy(observations)
        return kl_divergence(old, self.network.policy(observations)).mean()

    def _natural_step(self, surrogate: Tensor, kl: Tensor) -> Tensor:
        """The whole step of all parameters of the policy, ``[P]``."""
        fisher = fisher_vector_product(kl, self._of_policy)
        gradients = torch.autograd.grad(surrogate, self._of_policy, retain_graph=True)

        def product(vector: Tensor) -> Tensor:
            return self._mean(fisher(vector)) + self.damping * vector

        direction = conjugate_gradient(product, self._mean(flatten(gradients)), self.cg_iterations)
        change = trust_region_step(direction, product, self.max_kl)
        if not bool(change.isfinite().all()):
            raise FloatingPointError(
                f"step {self.global_step}: the policy's natural gradient is not finite, and "
                f"{_not_finite(self.network, self._of_policy, gradients)}; best.ckpt and "
                f"last.ckpt hold no such weights. Check the data for NaN, or raise damping"
            )
        return change

    @torch.no_grad()
    def _search(
        self, change: Tensor, measure: Callable[[], tuple[Tensor, Tensor]], before: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take the first share of ``change`` that helps: what was gained, the divergence, 1.

        If none does, the policy is as it was: 0, 0, 0.
        """
        old = flatten(self._of_policy)
        for tries in range(max(1, self.line_search_steps)):
            _assign(self._of_policy, old + SHORTER**tries * change)
            surrogate, kl = (self._mean(value) for value in measure())
            better = (surrogate > before) & (kl <= self.max_kl)
            if self.line_search_steps == 0 or bool(better):
                return surrogate - before, kl, torch.ones_like(kl)
        _assign(self._of_policy, old)
        return torch.zeros_like(kl), torch.zeros_like(kl), torch.zeros_like(kl)

    def _fit_value(self, seen: Experience, optimizer: Any) -> Tensor:
        loss, parts = seen.returns.new_zeros(()), min(self.num_minibatches, len(seen.returns))
        for _ in range(self.num_epochs):
            for part in seen.shuffled(parts):
                loss = F.mse_loss(self.network.value(part.observations), part.returns) / 2
                step(self, optimizer, loss)
        return loss

    def _mean(self, value: Tensor) -> Tensor:
        """Over all processes, whose policies have to stay the same."""
        mean: Any = self.trainer.strategy.reduce(value, reduce_op="mean")
        return mean


def _apart(
    network: Any, spec: EnvironmentSpec, device: torch.device
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that the policy depends on, and those that the value does.

    Raises:
        ValueError: one is in both.
    """
    kind = torch.long if spec.num_observations else torch.float
    example = torch.zeros(2, *spec.observation_shape, dtype=kind, device=device)
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}

    def used(output: Tensor) -> list[str]:
        gradients = torch.autograd.grad(output.sum(), list(named.values()), allow_unused=True)
        return [name for name, each in zip(named, gradients, strict=True) if each is not None]

    was = network.training
    network.eval()  # no statistics of an example
    with torch.enable_grad():
        distribution = network.policy(example)
        of_policy = used(distribution.log_prob(distribution.mode))
        of_value = used(network.value(example))
    network.train(was)
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

"""Flow matching: learning the velocity of straight lines from noise to data."""

from collections.abc import Callable, Mapping

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import at_least_one, choose_from, not_negative
from trellis.generative.coupled_noise import Coupling, couple
from trellis.generative.guidance import Guidance
from trellis.generative.probability_flow import (
    Divergence,
    Solver,
    flow_log_prob,
    integrate,
    random_directions,
    time_grid,
)
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Stage
from trellis.lightning_modules.generative.denoiser_labels import DenoiserFactory, DenoiserLabels
from trellis.lightning_modules.generative.generative_objective import (
    GenerativeObjective,
    likelihood_metrics,
)
from trellis.networks.generative.denoiser import MLPDenoiser
from trellis.spec import TensorSpec


class FlowMatching(GenerativeObjective):
    r"""Regression on the velocity of the line between noise and an example.

    .. math:: L = E\, \lVert v(x_t, t) - (x_1 - x_0) \rVert^2, \quad x_t = (1 - t) x_0 + t x_1

    with noise x0, an example x1 and a uniform time t; as a mean over dimensions. Samples follow
    dx = v dt from noise to t = 1, by ``sample_steps`` steps of ``solver``.

    Evaluation reports L as ``loss``; and, with ``likelihood_steps``, the negative log-likelihood
    ``nll_nats`` by the same equation backwards, summed over dimensions, and ``bits_per_dim`` where
    the values have levels. It is that of the solved equation, with an error that vanishes with
    more steps; with ``divergence=hutchinson`` an unbiased estimate by one random direction.

    Args:
        network: from ``(shape, [num_classes | context_features])`` to the velocity
            ``(x, t, [y])``.
        coupling: of noise with the examples of a batch: ``independent``, or ``optimal``, the
            pairs with the smallest sum of squared distances, whose lines cross less.
        solver: euler, heun or rk4.
        sample_steps: steps of the solver for samples.
        likelihood_steps: and for likelihoods; 0 computes none.
        divergence: ``exact``, at the cost of the number of dimensions, or ``hutchinson``.
        guidance: makes the ``Guidance`` of samples, if the objective is conditional; the network
            then has a class more.
    Raises:
        ValueError: an unknown name, a number out of range, ``conditional`` with data without
            classes, or guidance without ``conditional``.

    Source: Lipman et al. 2023, eq. 23 with sigma_min = 0; Liu et al. 2023; Tong et al. 2024,
    section 3.3 (optimal coupling); Grathwohl et al. 2019 (likelihood).
    """

    real_context = True

    def __init__(
        self,
        network: DenoiserFactory = MLPDenoiser,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        conditional: bool = False,
        coupling: Coupling = "independent",
        solver: Solver = "rk4",
        sample_steps: int = 20,
        likelihood_steps: int = 20,
        divergence: Divergence = "exact",
        guidance: Callable[[], Guidance] | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec, conditional)
        self.labels = DenoiserLabels(conditional, guidance)
        self.network_factory = network
        self.coupling = choose_from("coupling", coupling, Coupling)
        self.solver = choose_from("solver", solver, Solver)
        self.sample_steps = at_least_one("sample_steps", sample_steps)
        self.likelihood_steps = not_negative("likelihood_steps", likelihood_steps)
        self.divergence = choose_from("divergence", divergence, Divergence)

    def build(self, spec: TensorSpec) -> None:
        labels = ("y",) if self.conditional else ()
        self.build_network(self.labels.sizes(self.sizes(spec)), "x", "t", *labels)

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        metrics: dict[str, Metric] = {"loss": BatchMean()}
        return metrics | (likelihood_metrics(spec) if self.likelihood_steps else {})

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The velocity ``[B, *shape]`` at points ``x`` and times ``t [B]``."""
        return self.network(x, t) if y is None else self.network(x, t, y)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error of the velocity, at a random time for each example."""
        x, y = batch
        noise = couple(torch.randn_like(x), x, self.coupling)
        t = torch.rand(len(x), device=x.device, dtype=x.dtype)
        share = t.view(-1, *(1 for _ in x.shape[1:]))
        velocity = self(noise.lerp(x, share), t, self.labels.in_training(y))
        return nn.functional.mse_loss(velocity, x - noise)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        metrics, x = self.evaluated(stage), batch[0]
        metrics["loss"].update(self.loss(batch), len(x))
        if self.likelihood_steps:
            self.count_likelihood(metrics, self.log_prob(*batch), x)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Log-likelihood ``[B]`` in nats of examples, by the equation backwards.

        Raises:
            ValueError: ``likelihood_steps`` is 0.
        """
        directions = random_directions(x) if self.divergence == "hutchinson" else None
        times = time_grid(at_least_one("likelihood_steps", self.likelihood_steps), x.device)
        field = self.labels.field(self, y)
        return flow_log_prob(field, x, times, self.solver, directions)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Log-likelihood of each example in nats, ``[B]``."""
        return self.log_prob(*batch)

    def draw(
        self, num_samples: int, y: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """See ``GenerativeObjective``."""
        shape = num_samples, *self.spec.shape
        noise = torch.randn(shape, generator=generator, device=self.device)
        times = time_grid(self.sample_steps, noise.device)
        return integrate(self.labels.field(self, y, guided=True), noise, times, self.solver)

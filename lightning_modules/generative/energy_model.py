"""Energy models: data get a lower energy than what the model itself samples."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import at_least_one
from trellis.generative.partition import AnnealedImportance, LogPartition, Partition
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Stage
from trellis.lightning_modules.generative.generative_objective import (
    GenerativeObjective,
    likelihood_metrics,
)
from trellis.networks.generative.rbm import RBM
from trellis.processes import of_all_processes, rank_and_world
from trellis.random import isolated_rng
from trellis.spec import TensorSpec


class MachineFactory(Protocol):
    r"""Builds a machine from the shape of an example; called by keyword.

    The network is a ``BoltzmannMachine``, or has like one ``values`` (what the entries are),
    ``units`` (what is trained, see ``Units``), ``states(x) -> [B, units]`` (examples as states of
    these), ``free_energy(x) -> F [B]``, which is :math:`-\ln p(x) - \ln Z` or a bound of it, and
    ``sample(num_samples, num_steps, generator) -> [N, *shape]``.
    """

    def __call__(self, shape: tuple[int, ...]) -> nn.Module: ...


class EnergyModel(GenerativeObjective):
    r"""Contrastive divergence: free energies of data against those of short Gibbs chains.

    .. math:: L = \frac1B \sum_b F(x_b) - \frac1N \sum_n F(\tilde x_n)

    whose gradient is that of the log-likelihood if the chains are long. They begin at the data
    (CD-k), or go on from batch to batch (``persistent``).

    Evaluation reports ``nll_nats``, the mean of F plus ``ln Z``, and ``bits_per_dim`` of bits;
    ``log_partition_low`` and ``_high`` lie three standard errors from ``ln Z``.

    Args:
        network: from ``shape`` to a machine.
        gibbs_steps: k, steps of the chains in a training step; or several, each by the epoch from
            which on it holds, as ``{0: 1, 10: 5}``: the larger the weights, the slower chains mix.
        persistent: chains go on where they were; there are as many as examples in a batch.
        partition: makes what computes ``ln Z``: ``Enumeration`` or ``AnnealedImportance``.
        sample_steps: Gibbs steps for samples, from random states.
    Raises:
        ValueError: a number below 1, ``gibbs_steps`` that leave out epoch 0, or data whose entries
            are not what the network's visible units are.

    Source: Hinton 2002 (CD); Tieleman 2008 (persistent); Salakhutdinov and Murray 2008.
    """

    monitor = "val/nll_nats"
    network: Any  # with units and states, which nn.Module does not declare

    def __init__(
        self,
        network: MachineFactory = RBM,
        optimizer: OptimizerCallable = torch.optim.SGD,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        gibbs_steps: int | Mapping[int, int] = 1,
        persistent: bool = False,
        partition: Callable[[], Partition] = AnnealedImportance,
        sample_steps: int = 1000,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory = network
        self.gibbs_steps = _by_epoch(gibbs_steps)
        self.sample_steps = at_least_one("sample_steps", sample_steps)
        self.persistent, self.partition = persistent, partition()
        self.log_partition: LogPartition | None = None
        self._chains: Tensor | None = None

    def build(self, spec: TensorSpec) -> None:
        self.build_network(self.sizes(spec), "x")
        name, values = type(self.network).__name__, getattr(self.network, "values", None)
        if values is None:
            raise ValueError(f"EnergyModel trains Boltzmann machines, as RBM; {name} is none")
        if (spec.values == "binary") != (values == "binary"):
            raise ValueError(f"EnergyModel: {_MISMATCH[values].format(name, spec.values)}")

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        bounds = {f"log_partition_{end}": BatchMean() for end in ("low", "high")}
        return {**likelihood_metrics(spec), **bounds}

    def forward(self, x: Tensor) -> Tensor:
        """Free energies ``[B]``."""
        return self.network.free_energy(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        states, units = self.network.states(batch[0]), self.network.units
        start = states
        if self.persistent and self._chains is not None:
            start = self._chains.to(states)
        since = max(epoch for epoch in self.gibbs_steps if epoch <= self.current_epoch)
        with torch.no_grad():
            sampled = units.gibbs(start, self.gibbs_steps[since])
        if self.persistent:
            self._chains = sampled
        both = units.free_energy(torch.cat([states, sampled]))  # one product of matrices, not two
        energy, sampled_energy = (part.mean() for part in both.split([len(states), len(sampled)]))
        loss = energy - sampled_energy
        self.log_train(loss=loss, free_energy=energy)
        return loss

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        metrics, x = self.evaluated(stage), batch[0]
        if self.log_partition is None:
            with isolated_rng(0, self.device):
                self.log_partition = self.partition(self.network.units)
        log_z = self.log_partition
        self.count_likelihood(metrics, (-self(x) - log_z.value).float(), x)
        for end in ("low", "high"):
            metrics[f"log_partition_{end}"].update(getattr(log_z, end).float(), len(x))

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Free energy of each example, ``[B]``: -log p but for a constant."""
        return self(batch[0])

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.log_partition = None

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self.log_partition = None

    def draw(
        self, num_samples: int, y: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """See ``GenerativeObjective``."""
        return self.network.sample(num_samples, self.sample_steps, generator)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self._chains is not None:
            checkpoint["trellis"]["chains"] = of_all_processes(self._chains)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if saved := checkpoint["trellis"].get("chains"):
            self._chains = saved[min(rank_and_world()[0], len(saved) - 1)]


_MISMATCH = {
    "binary": "the units of {} are 0 or 1, and this data has values={!r}; give binary data, as "
    "MNIST with pixels=static or BinaryDensities, or choose GaussianRBM",
    "real": "the visible units of {} are Gaussian, and this data has values={!r}; choose RBM",
}


def _by_epoch(gibbs_steps: int | Mapping[int, int]) -> dict[int, int]:
    if isinstance(gibbs_steps, int):
        gibbs_steps = {0: gibbs_steps}
    steps = {int(epoch): number for epoch, number in gibbs_steps.items()}  # JSON has texts as keys
    if min(steps, default=None) != 0:
        raise ValueError(
            f"gibbs_steps={steps}: say how many from epoch 0 on, and from no earlier one"
        )
    return {epoch: at_least_one("gibbs_steps", number) for epoch, number in steps.items()}

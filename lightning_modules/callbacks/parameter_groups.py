"""Which parts of a model learn, how fast, and how much their weights decay."""

from collections.abc import Mapping, Sequence

import lightning as L
from torch import nn

from trellis.checks import not_negative, positive
from trellis.index import did_you_mean
from trellis.lightning_modules.engine.grouped_parameters import is_under, prefixes_of
from trellis.lightning_modules.engine.objective import Objective


class ParameterGroups(L.Callback):
    """Parts of a model that do not learn, or that learn with options of their own.

    With ``--init_from`` this is fine-tuning: a pretrained part stays as it is, or moves slowly.
    A part is the beginning of names of parameters, such as ``network.body``. What is frozen
    computes as in evaluation: without dropout, and its running statistics stay. A schedule scales
    all learning rates alike.

    Args:
        frozen: parts that do not learn.
        learning_rates: part -> its learning rate; the longest one that fits counts, and others
            have that of the optimiser.
        weight_decays: part -> its weight decay, likewise.
    Raises:
        ValueError: a part that the model does not have, nothing that learns, a rate that is not
            positive, a weight decay below 0, or either for an objective with several optimisers.

    Source: Howard and Ruder 2018, section 3.2 (discriminative fine-tuning).
    """

    def __init__(
        self,
        frozen: Sequence[str] = (),
        learning_rates: Mapping[str, float] | None = None,
        weight_decays: Mapping[str, float] | None = None,
    ) -> None:
        self.frozen = list(frozen)
        self.options: dict[str, dict[str, float]] = {}
        for part, rate in (learning_rates or {}).items():
            positive(f"learning_rates[{part}]", rate)
            self.options.setdefault(part, {})["lr"] = rate
        for part, decay in (weight_decays or {}).items():
            not_negative(f"weight_decays[{part}]", decay)
            self.options.setdefault(part, {})["weight_decay"] = decay

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        names = [name for name, _ in pl_module.named_parameters()]
        for part in (*self.frozen, *self.options):
            if not any(is_under(name, part) for name in names):
                hint = did_you_mean(part, prefixes_of(names), cutoff=0.3)
                name = type(pl_module).__name__
                raise ValueError(f"ParameterGroups: {name} has no parameters under {part}{hint}")
        for name, parameter in pl_module.named_parameters():
            if any(is_under(name, part) for part in self.frozen):
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in pl_module.parameters()):
            raise ValueError("ParameterGroups: all parameters are frozen, nothing would learn")
        if self.options:
            self._set_options(pl_module)

    def _set_options(self, module: L.LightningModule) -> None:
        if not isinstance(module, Objective) or not module.automatic_optimization:
            raise ValueError(
                f"ParameterGroups: {type(module).__name__} makes its own optimisers: leave "
                f"learning_rates and weight_decays out"
            )
        module.group_options = self.options

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for name, part in pl_module.named_modules():
            if isinstance(part, nn.Module) and any(is_under(name, each) for each in self.frozen):
                part.training = False

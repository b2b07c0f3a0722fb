"""One trial of a search: runs of ``trellis fit`` that are watched, and stopped where they lag."""

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import lightning as L
import yaml

from trellis.index import did_you_mean
from trellis.lightning_modules.commands.run import TrellisCLI, quieten

# A trial shows no pictures; what its metrics need is kept.
SHOWS = "trellis.lightning_modules.callbacks."
SCORES = "trellis.lightning_modules.callbacks.sample_metrics"


class Parsed(TrellisCLI):
    """A command line that is read and checked, and of which nothing is made."""

    def instantiate_classes(self) -> None:
        """Nothing."""

    def dumped(self) -> str:
        """The whole config, with all defaults."""
        return self.parser.dump(self.config, skip_unset=False)

    def resolved(self) -> dict[str, Any]:
        """The same as a mapping."""
        return yaml.safe_load(self.dumped())

    def objective(self) -> type:
        """The class of the objective."""
        module, _, name = self.config.model.class_path.rpartition(".")
        return getattr(import_module(module), name)


class NoSuchMetric(ValueError):
    """The metric of a search is not logged."""


class Watch(L.Callback):
    """The best value of a metric over the validations of a run, and when to stop it.

    Values are reported at validations 1, 2, 3, 4, 6, 8, 12, 16, 24, ..., each the best so far: a
    database is slow to write to, and late validations differ little.

    Args:
        metric: as it is logged.
        mode: ``min`` or ``max``.
        lags: told of the number of a validation and the best value so far; whether to stop.
    """

    def __init__(self, metric: str, mode: str, lags: Callable[[int, float], bool]) -> None:
        self.metric, self.lags, self.stopped, self.validations = metric, lags, False, 0
        self.choose = min if mode == "min" else max
        self.best = math.inf if mode == "min" else -math.inf

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or self.stopped:
            return
        logged = trainer.callback_metrics
        if self.metric not in logged:
            named = sorted(name for name in logged if not name.startswith("train/"))
            near = did_you_mean(self.metric, named)
            raise NoSuchMetric(
                f"metric {self.metric}: the run logs {', '.join(named) or 'none'}{near}"
            )
        value = float(logged[self.metric])
        self.validations += 1
        if not math.isnan(value):
            self.best = self.choose(self.best, value)
        if _is_rung(self.validations) and self.lags(self.validations, self.best):
            self.stopped = trainer.should_stop = True


def _is_rung(number: int) -> bool:
    """1, 2, 3, 4, 6, 8, 12, 16, 24, ...: powers of two, and half-way between them."""
    power = 1 << (number.bit_length() - 1)
    return number in (power, power + power // 2)


def best_of(words: Sequence[str], watch: Watch) -> float:
    """Train once; the best value of the metric that is watched.

    Args:
        words: of ``trellis fit``.
        watch: sees the validations.
    Raises:
        ValueError: the run never validates.
    """
    quieten(all_news=True)
    cli: Any = TrellisCLI([*words], run=False)
    kept = [each for each in cli.trainer.callbacks if not _only_shows(each)]
    cli.trainer.callbacks = [*kept, watch]
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    if not watch.validations:
        raise ValueError(f"metric {watch.metric}: the run has ended without a validation")
    if math.isinf(watch.best):
        raise FloatingPointError(f"{watch.metric} was NaN in each of its validations")
    return watch.best


def _only_shows(callback: L.Callback) -> bool:
    module = type(callback).__module__
    return module.startswith(SHOWS) and module != SCORES

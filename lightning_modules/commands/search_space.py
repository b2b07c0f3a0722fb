"""What a search may try: read from a YAML file, checked at the door, said in W&B's words too.

.. code-block:: yaml

    metric: val/accuracy  # the objective's own if left out
    mode: max
    parameters:
      model.optimizer.lr: {log_uniform: [1e-4, 1e-1]}
      model.network.dropout: {uniform: [0.0, 0.8]}
      model.network.hidden_channels: {int: [16, 128]}
      model.optimizer.weight_decay: {choices: [0, 5e-4, 5e-3]}
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trellis.index import did_you_mean

# Kind -> W&B's name for it.
KINDS = {
    "log_uniform": "log_uniform_values",
    "uniform": "uniform",
    "int": "int_uniform",
    "choices": "categorical",
}
ENTRIES = ("metric", "mode", "parameters")


@dataclass(frozen=True)
class Hyperparameter:
    """One option of ``trellis fit`` and what it may be.

    Args:
        name: as typed without its dashes, such as ``model.optimizer.lr``.
        kind: ``log_uniform``, ``uniform``, ``int`` or ``choices``.
        values: two ends, both included, or the choices.
    """

    name: str
    kind: str
    values: tuple[Any, ...]

    def suggest(self, trial: Any) -> Any:
        """A value for one of Optuna's trials."""
        if self.kind == "choices":
            # Optuna's own are plain; a list, such as widths of layers, goes as text.
            texts = [json.dumps(value) for value in self.values]
            return self.plain(trial.suggest_categorical(self.name, texts))
        low, high = self.values
        if self.kind == "int":
            return trial.suggest_int(self.name, low, high)
        return trial.suggest_float(self.name, low, high, log=self.kind == "log_uniform")

    def samples(self) -> list[Any]:
        """The choices, or the ends and, between them, what is no whole number."""
        if self.kind in ("choices", "int"):
            return [*self.values]
        low, high = self.values
        return [low, low + 0.3172 * (high - low), high]

    def plain(self, kept: Any) -> Any:
        """The value that Optuna keeps as ``kept``."""
        return json.loads(kept) if self.kind == "choices" else kept

    def for_wandb(self) -> dict[str, Any]:
        """The same in a W&B sweep."""
        distribution = {"distribution": KINDS[self.kind]}
        if self.kind == "choices":
            return {**distribution, "values": [*self.values]}
        return {**distribution, "min": self.values[0], "max": self.values[1]}


@dataclass(frozen=True)
class Space:
    """All that a search may try.

    Args:
        parameters: classes before their options.
        metric: to be best; ``None`` takes what the objective monitors.
        mode: ``min``, ``max``, or ``None`` with the objective's own metric.
    """

    parameters: tuple[Hyperparameter, ...]
    metric: str | None = None
    mode: str | None = None

    def chosen(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The setting that Optuna keeps as ``params``."""
        known = [each for each in self.parameters if each.name in params]
        return {each.name: each.plain(params[each.name]) for each in known}

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Values for one of Optuna's trials."""
        return {each.name: each.suggest(trial) for each in self.parameters}

    def probes(self) -> Iterator[dict[str, Any]]:
        """Few settings among which each end and each choice occurs, and a number between."""
        all_samples = {each.name: each.samples() for each in self.parameters}
        for number in range(max(map(len, all_samples.values()))):
            yield {
                name: samples[min(number, len(samples) - 1)]
                for name, samples in all_samples.items()
            }

    def check_names(self, config: Mapping[str, Any]) -> None:
        """Refuse options that a run does not have.

        Args:
            config: of a run, with all defaults.
        Raises:
            ValueError: names the nearest option.
        """
        known = set(option_names(config))
        for each in self.parameters:
            if each.name not in known:
                near = did_you_mean(each.name, known, cutoff=0.5)
                raise ValueError(f"parameters: no run has an option {each.name}{near}")


def words(setting: Mapping[str, Any]) -> list[str]:
    """A setting as options of ``trellis fit``.

    >>> words({"model.network": "GAT", "data.fold": 3, "model.network.hidden_channels": [8, 8]})
    ['--model.network=GAT', '--data.fold=3', '--model.network.hidden_channels=[8, 8]']
    """
    return [
        f"--{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in setting.items()
    ]


def shown(value: Any) -> str:
    """A value in a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def option_names(config: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Every option of a run, as it is typed.

    >>> [*option_names({"model": {"class_path": "A", "init_args": {"lr": 1}}, "seed": 0})]
    ['model', 'model.lr', 'seed']
    """
    for name, value in config.items():
        if name in ("class_path", "config"):
            continue
        dotted = before.rstrip(".") if name == "init_args" else f"{before}{name}"
        if name != "init_args":
            yield dotted
        if isinstance(value, Mapping):
            yield from option_names(value, f"{dotted}.")


def read_space(path: Path) -> Space:
    """A space from its file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown entry or kind, with the nearest; ends or choices that are none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--space {path}: there is no such file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"--space {path} is no valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: give a mapping with parameters, and metric and mode if needed")
    for entry in content:
        _one_of(f"{path}: entry", entry, ENTRIES)
    parameters = content.get("parameters")
    if not isinstance(parameters, dict) or not parameters:
        raise ValueError(f"{path}: parameters: give at least one, as {_EXAMPLE}")
    mode = content.get("mode")
    if mode is not None:
        _one_of(f"{path}: mode", mode, ("min", "max"))
    read = [_parameter(f"{path}: {name}", name, given) for name, given in parameters.items()]
    in_order = sorted(read, key=lambda each: each.name.count("."))
    return Space(tuple(in_order), content.get("metric"), mode)


_EXAMPLE = "model.optimizer.lr: {log_uniform: [1e-4, 1e-1]}"


def _parameter(where: str, name: str, given: Any) -> Hyperparameter:
    if not isinstance(given, dict) or len(given) != 1:
        raise ValueError(f"{where}: give one of {', '.join(KINDS)}, as {_EXAMPLE}")
    ((kind, values),) = given.items()
    _one_of(where, kind, KINDS)
    if not isinstance(values, list) or not values:
        raise ValueError(f"{where}: {kind}: give a list")
    values = [_number(value) for value in values]
    if kind != "choices":
        _check_ends(f"{where}: {kind}: {values}", kind, values)
    return Hyperparameter(str(name).replace(".init_args.", "."), kind, tuple(values))


def _one_of(what: str, word: Any, known: Iterable[str]) -> None:
    if word not in known:
        hint = did_you_mean(str(word), known)
        raise ValueError(f"{what} {word!r}{hint or '; give one of ' + ', '.join(known)}")


def _check_ends(what: str, kind: str, values: list[Any]) -> None:
    types = int if kind == "int" else (int, float)
    if len(values) != 2 or not all(type(v) is not bool and isinstance(v, types) for v in values):
        raise ValueError(f"{what}: give two {'whole ' if kind == 'int' else ''}numbers")
    low, high = values
    if not low < high:
        raise ValueError(f"{what}: the first must be smaller")
    if kind == "log_uniform" and low <= 0:
        raise ValueError(f"{what}: give numbers above 0, whose logarithm is drawn evenly")


def _number(value: Any) -> Any:
    """YAML reads 1e-4, without a dot, as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value

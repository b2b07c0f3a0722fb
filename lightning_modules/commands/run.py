"""``trellis fit | validate | test | predict``: the Lightning CLI, with short answers."""

import csv
import json
import logging
import re
import warnings
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from trellis.index import did_you_mean, public_names
from trellis.lightning_modules.commands.ledger import configs_dir
from trellis.lightning_modules.commands.parser import Parser
from trellis.lightning_modules.engine.checkpoint import read
from trellis.lightning_modules.engine.jsonargparse_private import trellis_names_first
from trellis.lightning_modules.engine.lightning_private import TypedBeatsCheckpointCLI
from trellis.lightning_modules.engine.run_config import resumed_run
from trellis.lightning_modules.engine.trainer import Trainer


def main(words: list[str]) -> None:
    """Run one of Lightning's four commands.

    ``trellis test CHECKPOINT`` is short for ``trellis test --ckpt_path CHECKPOINT``.

    Args:
        words: the command line after ``trellis``.
    Raises:
        ValueError: there is no checkpoint to evaluate.
    """
    quieten()
    if words[1:] and not words[1].startswith("-"):
        words = [words[0], "--ckpt_path", *words[1:]]
    asks = {"--help", "-h", "--print_config"} & {word.partition("=")[0] for word in words}
    if words[0] != "fit" and not asks and not _given(words, "--ckpt_path"):
        raise ValueError(
            f"trellis {words[0]} evaluates a checkpoint: give --ckpt_path, such as "
            f"runs/NAME/VERSION/checkpoints/best.ckpt"
        )
    TrellisCLI(words)


class TrellisCLI(TypedBeatsCheckpointCLI):
    """``LightningCLI`` where a checkpoint is the first config and what is typed beats it.

    Lightning lets the checkpoint win silently, and cannot start from a checkpoint alone.
    """

    def __init__(self, args: list[str] | dict[str, Any], run: bool = True) -> None:
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            trainer_class=Trainer,
            parser_class=Parser,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={
                name: {"prog": f"trellis {name}"}
                for name in ("fit", "validate", "test", "predict")
            }
            if run
            else {},
            seed_everything_default=0,
            args=args,
            run=run,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        if isinstance(args, list):
            self._run_name = _run_name(args)
            args = _with_checkpoint(_with_known_configs(args))
        else:
            self._run_name = None
        _import_named(args)
        with trellis_names_first():
            parse = parser.parse_args if isinstance(args, list) else parser.parse_object
            self.config = parse(args)

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand] if self.subcommand else self.config
        if config.trainer.run_name == "run":
            config.trainer.run_name = self._run_name or _short_names(config)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            # jsonargparse puts what a data module says among all that it might have been instead.
            told = re.search(r"Union subtypes\nSubtypes: .*\nErrors:\n  - (.+)\n", str(error))
            if told is None:
                raise
            raise ValueError(told[1]) from error

    def after_fit(self) -> None:
        trainer: Any = self.trainer
        if not trainer.is_global_zero or trainer.fast_dev_run:
            return
        run, best = trainer.run_folder.path, trainer.checkpoint_callback
        path = getattr(best, "best_model_path", "") or getattr(best, "last_model_path", "")
        print(f"run: {run}")
        if path:
            print(f"next: trellis test --ckpt_path {path}")

    def after_predict(self) -> None:
        trainer: Any = self.trainer
        batches = trainer.predict_loop.predictions
        if batches and trainer.is_global_zero and not trainer.fast_dev_run:
            print(
                f"predictions: {_write_predictions(batches, self.model, trainer.run_folder.path)}"
            )


class SaveConfig(SaveConfigCallback):
    """The whole resolved config as ``config.yaml`` in the run folder of a fit."""

    def save_config(self, trainer: Any, pl_module: L.LightningModule, stage: str) -> None:
        text = self.parser.dump(self.config, skip_none=False)
        trainer.cli_config = yaml.safe_load(text)
        if stage == "fit" and not trainer.fast_dev_run:
            (trainer.run_folder.path / "config.yaml").write_text(text)


def _write_predictions(batches: list[Any], model: Any, folder: Path) -> Path:
    """A line for each text, or a row for each example as CSV under the names of the classes.

    Rows of sequences are as long as these are.
    """
    if all(isinstance(batch, list) for batch in batches):
        lines = [" ".join(text.splitlines()) for batch in batches for text in batch]
        (folder / "predictions.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
        return folder / "predictions.txt"
    if all(isinstance(batch, dict) for batch in batches):
        columns = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return _write_table(columns, rows, folder)
    if not all(isinstance(batch, torch.Tensor) and batch.ndim == 2 for batch in batches):
        torch.save(batches, folder / "predictions.pt")
        return folder / "predictions.pt"
    rows = [row for batch in batches for row in batch.tolist()]
    width = max(map(len, rows), default=0)
    classes = getattr(getattr(model, "spec", None), "classes", ())
    return _write_table(classes if len(classes) == width else range(width), rows, folder)


def _write_table(names: Iterable[Any], rows: Iterable[Iterable[Any]], folder: Path) -> Path:
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)
    return folder / "predictions.csv"


def quieten() -> None:
    """Drop Lightning's advertisements and one deprecation inside it that users cannot act on."""
    for name in (
        "lightning.pytorch",
        "lightning.pytorch.trainer.connectors.callback_connector",
        "lightning.pytorch.utilities.rank_zero",
        "lightning_utilities.core.rank_zero",
    ):
        logging.getLogger(name).addFilter(_is_news)  # one function: a second time adds nothing
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # Data in memory is indexed by trellis's own loader: workers would only slow it down.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def _is_news(record: logging.LogRecord) -> bool:
    noise = ("Tip:", "GPU available", "TPU available", "callbacks returned in")
    return not any(word in record.getMessage() for word in noise)


def _import_named(args: list[str] | dict[str, Any]) -> None:
    """Import what the short names of a command line and its configs may mean, and nothing else."""
    texts = [json.dumps(args)] if isinstance(args, dict) else list(args)
    if isinstance(args, list):
        paths = (*_given(args, "--config"), *_given(args, "-c"))
        texts += [Path(path).read_text(encoding="utf-8") for path in paths if _is_file(path)]
    known = public_names()
    for word in sorted({word for text in texts for word in re.findall(r"\w+", text)}):
        if word in known:
            import_module(known[word].rpartition(".")[0])


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except OSError:  # a config given as text may be too long for a name
        return False


def _with_known_configs(words: list[str]) -> list[str]:
    """The command line with configs that come with trellis found from any folder.

    Raises:
        FileNotFoundError: a config is neither a file nor one of trellis's; names the nearest.
    """
    flags, known = ("--config", "-c"), []
    for before, word in zip(["", *words], words, strict=False):
        flag, equals, value = word.partition("=")
        if before in flags:
            known.append(_known_config(word))
        elif equals and flag in flags:
            known += [flag, _known_config(value)]
        else:
            known.append(word)
    return known


def _known_config(word: str) -> str:
    path = Path(word)
    if _is_file(word):
        try:
            yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no valid YAML: {error}") from None
        return word
    if path.suffix not in (".yaml", ".yml"):
        return word
    root = configs_dir()
    for name in (word, word.removeprefix("configs/")):
        if (root / name).is_file():
            return str(root / name)
    known = {f"configs/{p.relative_to(root).as_posix()}": None for p in root.glob("*/*.yaml")}
    hint = did_you_mean(word, known, cutoff=0.4) or "; see trellis list configs"
    raise FileNotFoundError(f"there is no config {word}{hint}")


def _with_checkpoint(words: list[str]) -> list[str]:
    """The command line with the config inside the checkpoint put before everything typed."""
    paths = _given(words, "--ckpt_path")
    if not paths or paths[-1] in ("best", "last", "null"):
        return words
    checkpoint = read(paths[-1], weights=False)
    sections = {"model": "hyper_parameters", "data": "datamodule_hyper_parameters"}
    config = {
        name: _section(checkpoint[key])
        for name, key in sections.items()
        if "_class_path" in checkpoint.get(key, {})
    }
    if words[0] == "fit":
        config |= resumed_run(checkpoint)
    return [words[0], "--config", json.dumps(config), *words[1:]]


def _section(hparams: dict[str, Any]) -> dict[str, Any]:
    init_args = {k: v for k, v in hparams.items() if k not in ("_instantiator", "_class_path")}
    return {"class_path": hparams["_class_path"], "init_args": init_args}


def _given(words: list[str], flag: str) -> list[str]:
    """Values of a flag on the command line: those after a space, then those after an ``=``."""
    values = [b for a, b in zip(words, words[1:], strict=False) if a == flag]
    return values + [word.split("=", 1)[1] for word in words if word.startswith(f"{flag}=")]


def _run_name(words: list[str]) -> str | None:
    """Name of the last config file, or of the run that a checkpoint lies in."""
    for flag, depth in (("--config", None), ("-c", None), ("--ckpt_path", 2), ("--init_from", 2)):
        for value in reversed(_given(words, flag)):
            path = Path(value)
            if depth is None and path.suffix in (".yaml", ".yml", ".json"):
                return path.stem
            if depth is not None and len(path.absolute().parents) > depth:
                return path.absolute().parents[depth].name
    return None


def _short_names(config: Any) -> str:
    parts = [config[name]["class_path"].rsplit(".", 1)[-1] for name in ("model", "data")]
    return "_".join(part.lower() for part in parts)

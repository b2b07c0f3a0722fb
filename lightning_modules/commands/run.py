"""``trellis fit | validate | test | predict``: the Lightning CLI, with short answers."""

import logging
import re
import warnings
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from trellis.hyperparameters import INSTANTIATOR
from trellis.lightning_modules.commands.command_line import (
    contents,
    given,
    import_named,
    run_name,
    with_checkpoint,
    with_known_configs,
)
from trellis.lightning_modules.commands.extras import missing_extra
from trellis.lightning_modules.commands.loggers import give_mlflow_a_database
from trellis.lightning_modules.commands.own_modules import import_own
from trellis.lightning_modules.commands.parser import Parser
from trellis.lightning_modules.commands.predictions import write_predictions
from trellis.lightning_modules.engine.jsonargparse_private import (
    plain_factories,
    trellis_names_first,
)
from trellis.lightning_modules.engine.lightning_private import TypedBeatsCheckpointCLI
from trellis.lightning_modules.engine.trainer import Trainer

COMMANDS = ("fit", "validate", "test", "predict")


def main(words: list[str]) -> None:
    """Run one of Lightning's four commands.

    ``trellis test CHECKPOINT`` is short for ``trellis test --ckpt_path CHECKPOINT``.

    Raises:
        ValueError: there is no checkpoint to evaluate.
    """
    quieten()
    if words[1:] and not words[1].startswith("-"):
        words = [words[0], "--ckpt_path", *words[1:]]
    asks = {"--help", "-h", "--print_config"} & {word.partition("=")[0] for word in words}
    if words[0] != "fit" and not asks and not given(words, "--ckpt_path"):
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
                "prog": "trellis",
                **{name: {"prog": f"trellis {name}"} for name in (COMMANDS if run else ())},
            },
            seed_everything_default=0,
            args=args,
            run=run,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        if isinstance(args, list):
            args = with_known_configs(args)
            self._run_name = run_name(args)
            import_own(args, contents(args))  # before the checkpoint: only what was typed
            args = with_checkpoint(args)
        else:
            self._run_name = None
        import_named(args)
        with trellis_names_first():
            parse = parser.parse_args if isinstance(args, list) else parser.parse_object
            self.config = parse(args)

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand] if self.subcommand else self.config
        if not hasattr(config.trainer, "run_name"):
            raise ValueError(f"trainer: {config.trainer!r} is no mapping of its options")
        if config.trainer.run_name == "run":
            config.trainer.run_name = self._run_name or _short_names(config)
        give_mlflow_a_database(config.trainer.logger, config.trainer.default_root_dir)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            # jsonargparse puts what a data module says among all that it might have been instead.
            told = re.search(r"Union subtypes\nSubtypes: .*\nErrors:\n  - (.+)\n", str(error))
            text = told[1] if told else str(error)
            if text.startswith("Problem with given class_path '"):
                text = _not_made(text, error)
            raise ValueError(text) from error
        for made in (self.model, self.datamodule):
            plain_factories(made)

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
            folder, ids = trainer.run_folder.path, trainer.prediction_ids
            print(f"predictions: {write_predictions(batches, self.model, folder, ids)}")


class SaveConfig(SaveConfigCallback):
    """The whole resolved config as ``config.yaml`` in the run folder of a fit."""

    def save_config(self, trainer: Any, pl_module: L.LightningModule, stage: str) -> None:
        text = self.parser.dump(self.config, skip_unset=False)
        trainer.cli_config = yaml.safe_load(text)
        for name, module in (("model", pl_module), ("data", trainer.datamodule)):
            _remember(module, trainer.cli_config.get(name))
        if stage == "fit" and not trainer.fast_dev_run:
            (trainer.run_folder.path / "config.yaml").write_text(text)


def _remember(module: Any, section: Any) -> None:
    """Let checkpoints hold how the command line made a module that does not save it by itself.

    Args:
        module: a ``LightningModule`` or ``LightningDataModule``, anybody's; ``None``, where
            new examples take the place of the data.
        section: its part of the config.
    """
    if module is None or not isinstance(section, dict) or "_class_path" in module.hparams:
        return
    names = {"_class_path": section["class_path"], "_instantiator": INSTANTIATOR}
    module.hparams.update({**(section.get("init_args") or {}), **module.hparams, **names})


def quieten(all_news: bool = False) -> None:
    """Drop Lightning's advertisements and one deprecation inside it that users cannot act on.

    Args:
        all_news: drop all that is no warning, where one command makes many runs.
    """
    for name in ("lightning.pytorch", "lightning.fabric") if all_news else ():
        logging.getLogger(name).setLevel(logging.WARNING)
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
    # Caches of keys and values are views, and nothing changes them in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")


def _is_news(record: logging.LogRecord) -> bool:
    noise = ("Tip:", "GPU available", "TPU available", "callbacks returned in")
    return not any(word in record.getMessage() for word in noise)


def _not_made(text: str, error: BaseException) -> str:
    """Why an object of the config could not be made: what its constructor itself raised."""
    name = text.split("'")[1].rpartition(".")[2]
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    told = " ".join(str(error).split()) or type(error).__name__
    return f"{name} cannot be made: {missing_extra(told) or told}"


def _short_names(config: Any) -> str:
    parts = [config[name]["class_path"].rsplit(".", 1)[-1] for name in ("model", "data")]
    return "_".join(part.lower() for part in parts)

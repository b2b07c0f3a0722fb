"""``trellis search``: hyper-parameters tried one after the other, by Optuna."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from trellis.files import atomic_write_text
from trellis.lightning_modules.commands.precheck import check_words
from trellis.lightning_modules.commands.search_space import Space, read_space, shown, words

# Files of a search's folder.
STUDY, SPACE, ABOUT = "study.db", "space.yaml", "search.json"
# A trial writes its metrics, and nothing else.
QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
         "--trainer.enable_checkpointing=false")  # fmt: skip
STARTUP = 5  # trials before any is stopped, and drawn at random
WARMUP = 4  # validations before a trial may be stopped
FAILED = "error"  # why a trial has no value; one that was killed has no such entry


def main(line: list[str]) -> None:
    """Begin a search or go on with one; print the table and write the best config.

    Raises:
        ImportError: Optuna is missing.
        ValueError: a space that no run fits, or trials that all failed.
    """
    args, options = _parser().parse_known_args(line[1:])
    if args.resume is not None:
        _refuse_beside_resume(args, options)
        search = Search(Path(args.resume))
    elif args.config is None or args.space is None:
        raise ValueError("give a CONFIG and --space FILE, or --resume FOLDER to go on with one")
    else:
        check_words(["fit", *options])
        space, given = read_space(Path(args.space)), [f"--config={args.config}", *options]
        if args.sweep is None:
            _optuna()  # the checks take seconds
        about = _checked(space, given, args.seeds)
        if args.sweep is not None:
            atomic_write_text(Path(args.sweep), _sweep(space, about))
            print(f"next: wandb sweep {args.sweep}")
            return
        search = Search.begin(Path(args.space), about)
    try:
        search.run(args.trials, prune=not args.no_pruning)
    except (KeyboardInterrupt, SystemExit):
        sys.stderr.write(f"to go on: trellis search --resume {search.folder}\n")
        raise
    search.report()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trellis search",
        description=__doc__,
        epilog="Further options are those of trellis fit, for every trial.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("config", nargs="?", help="what is trained: a config, as for trellis fit")
    add("--space", metavar="FILE", help="what may be tried, in YAML; see docs/hyperparameters.md")
    add("--trials", type=int, default=20, help="how many there are to be in the end (20)")
    add("--seeds", type=int, default=1, help="runs of each trial, whose mean counts (1)")
    add("--no-pruning", action="store_true", help="do not stop trials that lag behind")
    add("--resume", metavar="FOLDER", help="go on with the search of this folder")
    add("--sweep", metavar="FILE", help="write the space as a W&B sweep, and try nothing")
    return parser


def _refuse_beside_resume(args: argparse.Namespace, options: Sequence[str]) -> None:
    given = [args.config, args.space and "--space", args.sweep and "--sweep", *options]
    if given := [word for word in given if word]:
        raise ValueError(f"--resume goes on with the search as it was begun: leave {given[0]} out")
    if not (Path(args.resume) / ABOUT).is_file():
        raise FileNotFoundError(f"--resume {args.resume}: there is no search in this folder")


def _checked(space: Space, given: list[str], seeds: int) -> dict[str, Any]:
    """All that is kept of a search, once it is known that runs take what it will try.

    Raises:
        ValueError: an unknown option, a value that it does not take, or no metric.
    """
    if seeds < 1:
        raise ValueError(f"--seeds={seeds}: give at least 1")
    from trellis.lightning_modules.commands.run import quieten
    from trellis.lightning_modules.commands.search_trial import Parsed

    quieten(all_news=True)
    parsed: Any = Parsed(given, run=False)
    space.check_names(parsed.resolved())
    for setting in space.probes():
        Parsed([*given, *words(setting)], run=False)
    model = parsed.objective()
    own = getattr(model, "monitor", None)
    metric = space.metric or own
    if metric is None:
        raise ValueError(f"space: {model.__name__} monitors nothing: add metric and mode")
    mode = space.mode or (model.monitor_mode if metric == own else None)
    if mode is None:
        raise ValueError(f"space: metric: {metric}: add mode: min or mode: max")
    first = parsed.config.seed_everything
    return {
        "words": given, "metric": metric, "mode": mode, "seeds": seeds,
        "seed": first if type(first) is int else 0, "name": parsed.config.trainer.run_name,
        "root": str(parsed.config.trainer.default_root_dir),
    }  # fmt: skip


def _sweep(space: Space, about: dict[str, Any]) -> str:
    """The same search for ``wandb sweep``."""
    goal = {"min": "minimize", "max": "maximize"}[about["mode"]]
    sweep = {
        "program": "trellis",
        "command": ["${env}", "trellis", "fit", *about["words"],
                    "--trainer.logger=WandbLogger", "${args}"],
        "method": "bayes",
        "metric": {"name": about["metric"], "goal": goal},
        "parameters": {each.name: each.for_wandb() for each in space.parameters},
        "early_terminate": {"type": "hyperband", "min_iter": WARMUP},
    }  # fmt: skip
    return yaml.safe_dump(sweep, sort_keys=False)


class Search:
    """A search in its folder: space, trials and all that is needed to go on.

    Args:
        folder: of one that was begun.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        self.space = read_space(folder / SPACE)
        optuna = _optuna()
        self.study = optuna.create_study(
            storage=f"sqlite:///{folder / STUDY}",
            study_name="search",
            direction="minimize" if self.about["mode"] == "min" else "maximize",
            load_if_exists=True,
        )

    @classmethod
    def begin(cls, space: Path, about: dict[str, Any]) -> "Search":
        """A new search in the next folder of its name."""
        from trellis.lightning_modules.engine.run_folder import RunFolder

        folder = RunFolder(about["root"], f"{about['name']}_search").path
        atomic_write_text(folder / SPACE, space.read_text(encoding="utf-8"))
        atomic_write_text(folder / ABOUT, json.dumps(about))
        return cls(folder)

    def run(self, trials: int, prune: bool = True) -> None:
        """Try settings until so many have been tried.

        Each is drawn from what was tried before and from its number alone, so that a search that
        was killed goes on as if it had not been; the trial under way is tried again.

        Args:
            trials: those of earlier calls included.
            prune: stop those that lag behind the median of the others.
        Raises:
            ValueError: the first three trials failed.
        """
        optuna = _optuna()
        for killed in self.study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            self.study.tell(killed.number, state=optuna.trial.TrialState.FAIL)
        self.study.pruner = (
            optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARMUP)
            if prune
            else optuna.pruners.NopPruner()
        )
        while (number := len(self.tried())) < trials:
            self.study.sampler = optuna.samplers.TPESampler(
                seed=self.about["seed"] + number, n_startup_trials=STARTUP
            )
            self._try(number, trials)

    def tried(self) -> list[Any]:
        """Optuna's trials that came to an end, failed ones among them."""
        trials, ended = self.study.get_trials(deepcopy=False), ("COMPLETE", "PRUNED")
        return [t for t in trials if FAILED in t.user_attrs or t.state.name in ended]

    def _try(self, number: int, trials: int) -> None:
        from trellis.lightning_modules.commands.search_trial import NoSuchMetric, Watch

        optuna, start = _optuna(), time.monotonic()
        trial = self.study.ask()
        setting = self.space.suggest(trial)
        values, state, error = [], "PRUNED", None
        for seed in range(self.about["seeds"]):
            watch = Watch(self.about["metric"], self.about["mode"], _lags(trial, seed))
            try:
                values.append(self._run(setting, seed, watch))
            except NoSuchMetric:  # in no other trial either
                raise
            except (ValueError, RuntimeError, FloatingPointError, MemoryError) as caught:
                error = " ".join(str(caught).split()) or type(caught).__name__
                break
            if watch.stopped:
                break
        else:
            state = "COMPLETE"
        trial.set_user_attr("seconds", round(time.monotonic() - start, 2))
        if error is not None:
            state = "FAIL"
            trial.set_user_attr(FAILED, error)
        value = sum(values) / len(values) if state == "COMPLETE" else None
        self.study.tell(trial, value, optuna.trial.TrialState[state])
        self._tell(f"trial {number + 1}/{trials}", setting, value, error or state)

    def _run(self, setting: dict[str, Any], seed: int, watch: Any) -> float:
        from trellis.lightning_modules.commands.search_trial import best_of

        return best_of(
            [
                *QUIET,
                *self.about["words"],
                *words(setting),
                f"--seed_everything={self.about['seed'] + seed}",
                f"--trainer.default_root_dir={self.folder}",
                "--trainer.run_name=trials",
            ],
            watch,
        )

    def _tell(self, which: str, setting: dict[str, Any], value: float | None, state: str) -> None:
        failed = [trial for trial in self.tried() if FAILED in trial.user_attrs]
        if len(failed) == len(self.tried()) >= 3:
            raise ValueError(f"the first three trials failed, the last one thus: {state}")
        told = state if value is None else f"{self.about['metric']} {value:.4g}"
        told = "stopped, as it lagged behind" if told == "PRUNED" else told
        given = (f"{name}={shown(value)}" for name, value in setting.items())
        sys.stderr.write(f"{which}: {told} ({', '.join(given)})\n")

    def report(self) -> None:
        """Print the table, and write it, the picture and the best config."""
        from trellis.lightning_modules.commands.search_report import report

        report(self)


def _lags(trial: Any, seed: int) -> Any:
    """Whether a run is to stop; only the first of several seeds is compared."""

    def lags(validation: int, best: float) -> bool:
        if seed > 0:
            return False
        trial.report(best, validation)
        return trial.should_prune()

    return lags


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ImportError(
            "trellis search needs Optuna: pip install 'torch-trellis[search]'", name="optuna"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna

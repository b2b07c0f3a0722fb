"""``trellis check``: the health of a model before it is trained, in less than a minute."""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from trellis.lightning_modules.commands.precheck import check_words

QUIET = (
    "--trainer.logger=false", "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false", "--trainer.enable_checkpointing=false",
    "--trainer.limit_val_batches=0", "--trainer.num_sanity_val_steps=0",
    "--trainer.val_check_interval=1.0", "--trainer.max_epochs=-1",
    "--trainer.max_steps=10000",  # schedules need the length of a run; each stops by itself
)  # fmt: skip
STEPS = 200  # on one batch
TRIES = 60  # learning rates


def main(line: list[str]) -> None:
    """Print the card; the exit code is 1 if a line of it says FAIL.

    Raises:
        ValueError: a config that no run takes.
    """
    parser = argparse.ArgumentParser(
        prog="trellis check",
        description=__doc__,
        epilog="Further options are those of trellis fit.",
        allow_abbrev=False,
    )
    parser.add_argument("config", help="what is to be trained: a config, as for trellis fit")
    parser.add_argument(
        "--picture", metavar="FILE", help="draw the learning rates that were tried"
    )
    args, options = parser.parse_known_args(line[1:])
    check_words(["fit", *options])
    start, failed = time.perf_counter(), False
    card = Card([f"--config={args.config}", *options])
    for finding in card.findings():
        failed |= finding.verdict == "FAIL"
        print(f"{finding.verdict:<4}  {finding.what:<17} {finding.seen}", flush=True)
    if args.picture and card.rates is not None:
        _draw(card.rates, Path(args.picture))
    sys.stderr.write(f"checked in {time.perf_counter() - start:.0f} s\n")
    if failed:
        raise SystemExit(1)


class Card:
    """What short runs of a command line show.

    Args:
        words: of ``trellis fit``.
        make: from words to an object with ``trainer``, ``model`` and ``datamodule``; ``None``
            reads them as the command line does.
    """

    def __init__(
        self, words: Sequence[str], make: Callable[[Sequence[str]], Any] | None = None
    ) -> None:
        self.words, self._make = words, make or _made
        self.rates: Any = None  # a RateRange, once it has run

    def findings(self) -> Iterator[Any]:
        """One line after the other, as soon as they are known."""
        from trellis.lightning_modules.commands.check_runs import (
            GradientCheck,
            RateRange,
            TinyBatch,
        )
        from trellis.lightning_modules.commands.check_steps import FirstSteps

        gradients, first = GradientCheck(), FirstSteps()
        learns_alone = self._run([gradients, first])
        yield from first.findings()
        yield from gradients.findings()
        if not learns_alone:  # an agent, or networks against each other: no loss that must fall
            return
        tiny = TinyBatch(STEPS)
        self._run([tiny], overfit_batches=1)
        yield from tiny.findings()
        self.rates = RateRange(TRIES)
        self._run([self.rates])
        yield from self.rates.findings()

    def _run(self, callbacks: list[Any], **options: Any) -> bool:
        """One short run; whether Lightning makes the steps of its optimiser."""
        with (
            tempfile.TemporaryDirectory() as folder,
            redirect_stdout(StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # each of these runs is short on purpose
            given = [f"--trainer.{name}={value}" for name, value in options.items()]
            root = f"--trainer.default_root_dir={folder}"
            run = self._make([*self.words, *QUIET, *given, root])
            engine = [c for c in run.trainer.callbacks if ".engine." in type(c).__module__]
            run.trainer.callbacks = [*callbacks, *engine]
            run.trainer.fit(run.model, datamodule=run.datamodule)
        return bool(run.model.automatic_optimization)


def _made(words: Sequence[str]) -> Any:
    from trellis.lightning_modules.commands.run import TrellisCLI, quieten

    quieten(all_news=True)
    return TrellisCLI([*words], run=False)


def _draw(rates: Any, path: Path) -> None:
    from trellis.analysis.pictures import PALETTE, empty_figure

    figure = empty_figure(5.0, 3.4)
    axes = figure.subplots()
    axes.plot(rates.rates[: len(rates.losses)], rates.smoothed(), color=PALETTE[0])
    axes.axvline(rates.own, color=PALETTE[1], linestyle=":", label="of the config")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    axes.legend(frameon=False)
    figure.savefig(path)
    print(path)

"""``trellis reproduce``: run a published result again and print it beside ours."""

import argparse
import csv
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trellis.index import did_you_mean
from trellis.lightning_modules.commands.jobs import Jobs
from trellis.lightning_modules.commands.journal import Journal
from trellis.lightning_modules.commands.ledger import (
    Number,
    Row,
    commit,
    configs_dir,
    ledger,
    record,
    shown,
    source_digest,
    summary,
)

RUNS = Path("runs/reproduce")
FACTS = "facts.json"  # in the folder of a run


def main(words: list[str]) -> None:
    """Run the rows that are named, or as many as fit into the minutes."""
    args = _parser().parse_args(words[1:])
    rows = ledger()
    if args.all:
        chosen = _fitting(rows, args.minutes)
    elif args.name in rows:
        chosen = [rows[args.name]]
    else:
        hint = did_you_mean(args.name or "", rows) or f"; choose from {', '.join(rows)}, or --all"
        raise ValueError(f"no row {args.name!r} in the ledger{hint}")
    journals, held = [], True
    with Jobs(args.jobs, measured_alone) as jobs:
        for row in chosen:
            result, journal = reproduce(row, args.seeds or row.seeds, jobs)
            journals.append(journal)
            held &= row.confirms(result["mean"])
            if args.record:
                record(result)
            # Not at the end: whoever stops a long --all has the rows that are done.
            print(json.dumps(result) if args.json else _sentence(row, result), flush=True)
    for journal in journals:
        journal.close()
    if not held:
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trellis reproduce", description=__doc__)
    parser.add_argument("name", nargs="?", help="row of configs/ledger.yaml")
    parser.add_argument("--all", action="store_true", help="every row that fits into --minutes")
    parser.add_argument("--minutes", type=float, default=20, help="time for --all (20)")
    parser.add_argument("--seeds", type=int, help="runs to average; the row's number by default")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs of a row side by side, a thread each (1)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    parser.add_argument("--record", action="store_true", help="keep it in configs/measured.json")
    return parser


def _fitting(rows: dict[str, Row], minutes: float) -> list[Row]:
    chosen, left = [], minutes
    for row in sorted(rows.values(), key=lambda row: row.minutes):
        if row.minutes <= left:
            chosen.append(row)
            left -= row.minutes
    return chosen


def reproduce(row: Row, seeds: int, jobs: Jobs | None = None) -> tuple[dict[str, Any], Journal]:
    """Run ``row`` and compare; what an interrupted call has measured is not measured again.

    Args:
        row: of the ledger.
        seeds: runs to average, seeds 0 to ``seeds - 1``.
        jobs: processes for runs side by side; without any, or with one, a run follows the other
            in this process.
    Returns:
        name, config, metric, published, mean, std, values, seeds, minutes, verdict, commit (the
        standard deviation of one run is ``None``), parameters, and the seconds for 100 samples of
        what draws any; and the journal, to be closed once nothing can interrupt the call any more.
    """
    start, code = time.monotonic(), commit()
    journal = Journal(RUNS / f"{row.name}.json", _key(row))
    if journal.done or journal.seconds:
        sys.stderr.write(f"{row.name}: going on after {journal.seconds / 60:.1f} minutes\n")
    try:
        if jobs is not None and jobs.number > 1:
            _side_by_side(row, seeds, journal, jobs)
        folds = row.protocol == "folds"
        values = _folds(row, seeds, journal) if folds else _runs(row, seeds, journal)
    finally:
        journal.spend(time.monotonic() - start)
    mean = _over_runs(values, statistics.fmean)
    result = {
        "name": row.name,
        "config": row.config,
        "metric": row.metric,
        "published": row.published,
        "mean": mean,
        "std": _over_runs(values, statistics.stdev) if len(values) > 1 else None,
        "values": values,
        "seeds": seeds,
        "minutes": round(journal.seconds / 60, 2),
        "verdict": row.verdict(mean),
        "commit": code,
        **_last_facts(row),
    }
    return result, journal


def _key(row: Row) -> str:
    """Of a journal: the code, the config, and what of the row decides what is measured."""
    parts = {
        "source": source_digest(),
        "torch": version("torch"),
        "metric": row.metric,
        "scale": row.scale,
        "protocol": row.protocol,
        "options": row.options,
        "init_from": (row.init_from, row.init_map),
        "config": (configs_dir() / row.config).read_text(encoding="utf-8"),
    }
    return json.dumps(parts)


def _side_by_side(row: Row, seeds: int, journal: Journal, jobs: Jobs) -> None:
    """Put the runs that are missing into the journal."""
    runs = [Run(row, seed, seeds, fold) for seed in range(seeds) for fold in _fold_numbers(row)]
    missing = [run for run in runs if run.name not in journal.done]

    def done(task: tuple[Run, Path | None], value: Any) -> None:
        journal.finish(task[0].name, value)
        _progress(task[0], value)

    jobs.run(
        [(run, _checkpoint(run, journal)) for run in missing],
        made=lambda task, folder: journal.begin(task[0].name, folder),
        done=done,
    )


def _fold_numbers(row: Row) -> Sequence[int | None]:
    return range(row.folds) if row.protocol in ("folds", "held_out_folds") else (None,)


def _runs(row: Row, seeds: int, journal: Journal) -> list[Number]:
    folds = _fold_numbers(row)
    return [_measure(row, seed, seeds, fold, journal) for seed in range(seeds) for fold in folds]


def _folds(row: Row, seeds: int, journal: Journal) -> list[Number]:
    """The protocol of Xu et al. 2019: one epoch for all folds, the best of their mean curve."""
    values: list[Number] = []
    for seed in range(seeds):
        curves = [_measure(row, seed, seeds, fold, journal) for fold in _fold_numbers(row)]
        means = [statistics.fmean(epoch) for epoch in zip(*curves, strict=True)]
        best = means.index(max(means))
        values += [curve[best] for curve in curves]
    return values


@dataclass(frozen=True)
class Run:
    """One run of a row: a seed, or a seed on a fold.

    Args:
        row: of the ledger.
        seed: of everything random.
        seeds: how many the row has.
        fold: of the data, where the protocol has folds.
    """

    row: Row
    seed: int
    seeds: int
    fold: int | None

    @property
    def name(self) -> str:
        """As the journal has it."""
        seed = f"seed {self.seed}"
        return seed if self.fold is None else f"{seed}, fold {self.fold}"

    @property
    def whole_curve(self) -> bool:
        """Whether each epoch has a value, not only the best."""
        return self.row.protocol in ("curve", "folds")

    def __str__(self) -> str:
        return f"{self.row.name}, {self.name}"


def _checkpoint(run: Run, journal: Journal) -> Path | None:
    # The epochs before an interruption are in another run's metrics.csv: a curve starts anew.
    return None if run.whole_curve else journal.checkpoint(run.name)


def _measure(row: Row, seed: int, seeds: int, fold: int | None, journal: Journal) -> Any:
    """The metric of one run: a number, or one for each epoch."""
    run = Run(row, seed, seeds, fold)
    if run.name in journal.done:
        return journal.done[run.name]
    # Of many short runs a line each is enough; a long one shows that it moves.
    value = _value(
        run,
        _checkpoint(run, journal),
        lambda folder: journal.begin(run.name, folder),
        progress_bar=row.minutes >= row.seeds,
    )
    journal.finish(run.name, value)
    _progress(run, value)
    return value


def measured_alone(task: tuple[Run, Path | None], begin: Callable[[Path], None]) -> Any:
    """What a worker process does of ``_measure``.

    Args:
        task: the run, and the checkpoint to go on from.
        begin: told where the run writes.
    """
    return _value(*task, begin, progress_bar=False)


def _value(
    run: Run, last: Path | None, begin: Callable[[Path], None], *, progress_bar: bool
) -> Any:
    row = run.row
    bar = f"--trainer.enable_progress_bar={str(progress_bar).lower()}"
    cli = _cli(row, run.seed, bar, *_fold_option(run.fold))
    begin(cli.trainer.run_dir)
    start: dict[str, Any] = {"ckpt_path": last}
    if last is None and row.init_from:
        start = {"init_from": _pretrained(row), "init_map": row.init_map}
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, **start)
    if run.whole_curve:
        return [row.scale * point for point in _curve(cli, row.metric)]
    (result,) = cli.trainer.test(
        cli.model, datamodule=cli.datamodule, ckpt_path="best", verbose=False
    )
    values = [row.scale * result[metric] for metric in row.metrics]
    facts = json.dumps(_facts(cli.model))
    (Path(cli.trainer.run_dir) / FACTS).write_text(facts, encoding="utf-8")
    return values if len(values) > 1 else values[0]


def _facts(model: Any) -> dict[str, float]:
    """What a table tells of a model beside its metric."""
    from trellis.lightning_modules.generative.generative_objective import given_real_targets
    from trellis.lightning_modules.generative.sampling import can_sample, draw_samples

    facts: dict[str, float] = {"parameters": sum(p.numel() for p in model.parameters())}
    if can_sample(model) and not given_real_targets(model):
        start = time.perf_counter()
        draw_samples(model, 100, seed=0)
        facts["seconds_for_100_samples"] = round(time.perf_counter() - start, 3)
    return facts


def _last_facts(row: Row) -> dict[str, float]:
    """Of the newest run, where there are any: not of a whole curve."""
    found = RUNS.glob(f"{row.name}/**/{FACTS}")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return json.loads(newest.read_text(encoding="utf-8")) if newest else {}


def _fold_option(fold: int | None) -> list[str]:
    return [] if fold is None else [f"--data.fold={fold}"]


def _cli(row: Row, seed: int, *options: str) -> Any:
    # Lightning's import takes seconds, and a wrong name needs none of it.
    from trellis.lightning_modules.commands.run import TrellisCLI, quieten

    quieten(all_news=True)
    words = [
        "--config",
        str(configs_dir() / row.config),
        f"--seed_everything={seed}",
        f"--trainer.default_root_dir={RUNS}",
        f"--trainer.run_name={row.name}",
        "--trainer.enable_model_summary=false",
        *(word.replace("{init_from}", str(_pretrained(row))) for word in row.options),
        *options,
    ]
    return TrellisCLI(words, run=False)


def _pretrained(row: Row) -> Path | None:
    """The checkpoint that the runs of a row start from."""
    if row.init_from is None:
        return None
    found = RUNS.glob(f"{row.init_from}/*/checkpoints/last.ckpt")
    if not (newest := max(found, key=lambda path: path.stat().st_mtime, default=None)):
        raise ValueError(
            f"{row.name} starts from what {row.init_from} has learnt, and {RUNS / row.init_from} "
            f"has no checkpoint: trellis reproduce {row.init_from} comes first"
        )
    return newest


def _curve(cli: Any, metric: str) -> list[float]:
    for logger in cli.trainer.loggers:
        logger.save()
    with open(cli.trainer.run_dir / "metrics.csv", newline="") as file:
        return [float(row[metric]) for row in csv.DictReader(file) if row.get(metric)]


def _over_runs(values: list[Number], statistic: Any) -> Number:
    if values and isinstance(values[0], list):
        return [statistic(column) for column in zip(*values, strict=True)]
    return statistic(values)


def _progress(run: Run, value: Any) -> None:
    where = f"seed {run.seed + 1}/{run.seeds}"
    where += "" if run.fold is None else f", fold {run.fold + 1}/{run.row.folds}"
    best = max(value) if run.row.protocol == "folds" else value
    sys.stderr.write(f"{run.row.name}: {where}: {run.row.metric} {shown(best)}\n")


def _sentence(row: Row, result: dict[str, Any]) -> str:
    return (
        f"{row.name}: {row.metric} {summary(result)}; {row.expected()} ({row.source}): "
        f"{result['verdict']}. "
        f"{result['minutes']:.1f} minutes, commit {result['commit']}"
    )

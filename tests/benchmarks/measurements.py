"""What benchmarks report, and the sections of BENCHMARKS.md that are made of it."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles

import torch

from trellis.files import atomic_write_text
from trellis.lightning_modules.commands.ledger import commit

TITLE = """# Benchmarks

Written by `make bench` (CPU) and `make bench-gpu`, each in one run, whose sides take turns. A
number is the median of a side's turns, rounds or steps, with its quartiles; "once" is a single
measurement. Ratios above 1 say that trellis is faster.
"""


@dataclass(frozen=True)
class Measurement:
    """Some sides of one comparison.

    Args:
        what: was done.
        unit: of the numbers; of those per something, more is better, else less.
        sides: numbers of each by its name, ours first.
    """

    what: str
    unit: str
    sides: Mapping[str, Sequence[float]]

    def rows(self) -> list[str]:
        """A line of the table for each side."""
        ours = median(next(iter(self.sides.values())))
        lines = []
        for number, (side, values) in enumerate(self.sides.items()):
            theirs = median(values)
            ratio = ours / theirs if "/" in self.unit else theirs / ours
            cells = [
                "" if number else self.what,
                side,
                f"{_shown(theirs)} {self.unit}",
                _spread(values),
                f"{ratio:.2f}" if number else "",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        return lines


REPORTED: list[Measurement] = []


def report(what: str, unit: str, sides: Mapping[str, Sequence[float]]) -> None:
    """Keep a measurement for the table; see ``Measurement``."""
    REPORTED.append(Measurement(what, unit, sides))


def table(measurements: Iterable[Measurement]) -> str:
    """Of all measurements, in Markdown."""
    head = [
        "| what | side | median | quartiles | trellis is … times as fast |",
        "|---|---|---|---|---|",
    ]
    return "\n".join(head + [row for each in measurements for row in each.rows()])


def write_section(path: Path, name: str, text: str) -> None:
    """Put ``text`` between the marks of a section, which is added where there is none."""
    whole = path.read_text(encoding="utf-8") if path.is_file() else TITLE
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in whole:
        whole = f"{whole.rstrip()}\n\n{begin}\n{end}\n"
    head, _, rest = whole.partition(begin)
    tail = rest.partition(end)[2]
    atomic_write_text(path, f"{head}{begin}\n{text.strip()}\n{end}{tail}")


def machine() -> str:
    """Processor, threads, versions and commit, in a line each."""
    names = ("lightning", "torch-geometric", "stable-baselines3", "gymnasium", "zuko", "nflows",
             "normflows", "pythae", "gensim")  # fmt: skip
    versions = [f"torch {torch.__version__}"]
    for name in names:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"without {name}")
    return (
        f"- {_processor()}, {torch.get_num_threads()} thread(s) unless a row says otherwise\n"
        f"- Python {platform.python_version()}, {', '.join(versions)}\n"
        f"- commit {commit()}, {date.today().isoformat()}"
    )


def _processor() -> str:
    path, cores = Path("/proc/cpuinfo"), torch.multiprocessing.cpu_count()
    lines = path.read_text().splitlines() if path.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()}, {cores} cores"


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return "once"
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"{_shown(low)} – {_shown(high)}"


def _shown(value: float) -> str:
    """Four digits, or all before the point.

    >>> _shown(12345.6), _shown(0.0123456)
    ('12,346', '0.01235')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"

"""``pytest tests/benchmarks -m "" --benchmarks-to FILE`` writes what was measured into a file."""

import os
import time
from pathlib import Path

import pytest
from measurements import REPORTED, machine, table, write_section

_REPORTS: list[pytest.TestReport] = []
_MACHINE: list[str] = []
_START = time.monotonic()
_LOAD = os.getloadavg() if hasattr(os, "getloadavg") else (0.0,)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--benchmarks-to", metavar="FILE", help="a file with a section for the CPU")


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.getoption("--benchmarks-to", default=None):
        _MACHINE.append(machine())  # before a test changes the number of threads


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        _REPORTS.append(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--benchmarks-to", default=None)
    if not path or not _REPORTS:
        return
    minutes = (time.monotonic() - _START) / 60
    lines = [
        "## CPU\n",
        *_MACHINE,
        f"- {len(_REPORTS)} benchmarks, {minutes:.1f} minutes; load before: {_LOAD[0]:.1f}",
        "",
        table(REPORTED),
        *_not_passed(),
    ]
    write_section(Path(path), "cpu", "\n".join(lines))


def _not_passed() -> list[str]:
    """What was asked for and not reached, or not run."""
    bad = [each for each in _REPORTS if each.outcome != "passed"]
    if not bad:
        return ["", "All reached what their tests ask for."]
    lines = ["", "Not reached or not run:", ""]
    for each in bad:
        name = each.nodeid.rpartition("/")[2]
        lines.append(f"- `{name}`: {each.outcome}: {_why(each)}")
    return lines


def _why(each: pytest.TestReport) -> str:
    if isinstance(each.longrepr, tuple):  # file, line, and why it was skipped
        return each.longrepr[2]
    crash = getattr(each.longrepr, "reprcrash", None)
    return " ".join(str(crash.message if crash else each.longrepr).split())[:200]

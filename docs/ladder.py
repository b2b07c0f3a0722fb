"""The page that ranks densities of different kinds on the same data in the same unit.

Its rows are those of the ledger with a likelihood of data that several kinds of model learn.
"""

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import yaml

from trellis.lightning_modules.commands.ledger import Row, configs_dir, ledger, measured

HEADER = (
    "row", "model", "nats", "bits per dimension", "estimator", "parameters", "minutes",
    "seconds for 100 samples",
)  # fmt: skip
# Pixels are bits, or bytes with uniform noise. Their two kinds have different units.
BITS, BYTES = ("binary", "static", "dynamic"), ("dequantized", "logit")
# Data of other names are sections of their own.
MNIST = "MNIST, binary", "MNIST, bytes with noise"
DIMENSIONS = {MNIST[0]: 784, "BinaryDensities, nltcs": 16, "BinaryDensities, dna": 180}


class Rung(NamedTuple):
    """One row of the page.

    Args:
        data: its section.
        nats: mean negative log-likelihood, ``None`` where only bits per dimension are known.
        cells: the columns of ``HEADER``.
    """

    data: str
    nats: float
    cells: tuple[str, ...]


def ladder_page() -> str:
    """The page, in reStructuredText."""
    lines = [
        *(":hide-toc:", "", "Likelihoods", "===========", ""),
        "Each model's negative log-likelihood of the test data, best first; less is better. An",
        "``exact`` one is computed, a ``bound`` is at least as high as the exact one, an estimate",
        "says by what. Each row is measured again by ``trellis reproduce ROW``; parameters and",
        "times are those of that run. Its published value, if there is one, is among the",
        ":doc:`results`.",
        "",
    ]
    found = rungs()
    for data in sorted({rung.data for rung in found}):
        lines += [data, "-" * len(data), ""]
        lines += _table(rung.cells for rung in found if rung.data == data)
    return "\n".join(lines)


def rungs() -> list[Rung]:
    """Measured rows, best first."""
    found = (
        rung
        for row in ledger().values()
        if row.config.startswith("generative/") and row.name in measured()
        for rung in _rungs(row, measured()[row.name])
    )
    return sorted(found, key=lambda rung: rung.nats)


def _rungs(row: Row, result: Mapping[str, Any]) -> Iterable[Rung]:
    config = _config(row.config)
    model, data = config["model"]["init_args"], _data(config["data"])
    means = result["mean"] if isinstance(result["mean"], list) else [result["mean"]]
    for metric, mean in zip(row.metrics, means, strict=True):
        name = metric.removeprefix("test/")
        if not data or not any(word in name for word in ("nll", "elbo", "bits")):
            continue
        nats, bits = (math.nan, mean) if "bits" in name else (mean, math.nan)
        if size := DIMENSIONS.get(data):
            bits = nats / size / math.log(2)
        network = _class(model.get("network", ""))
        cells = (
            f"``{row.name}``",
            f"{network}, ``{_class(config['model'])}``",
            "" if math.isnan(nats) else f"{nats:.2f}",
            "" if math.isnan(bits) else f"{bits:.3f}",
            _estimator(name, config["model"]["class_path"], model),
            f"{result['parameters']:,}" if "parameters" in result else "",
            f"{result['minutes']:.1f}",
            str(result.get("seconds_for_100_samples", "")),
        )
        yield Rung(data, bits if math.isnan(nats) else nats, cells)


def _estimator(metric: str, objective: str, model: Mapping[str, Any]) -> str:
    """How the number was found."""
    if "bound" in metric or "elbo" in metric:
        return "bound"
    if "_is" in metric:
        samples = metric.rpartition("_is")[2].removesuffix("_nats")
        return f"importance sampling, {samples} samples"
    if objective in ("FlowMatching", "Diffusion"):
        return "probability flow"
    return _class(model.get("partition", "exact"))


def _class(value: Any) -> str:
    """The name of a class, with or without its arguments."""
    path = value["class_path"] if isinstance(value, Mapping) else value
    return str(path).rpartition(".")[2]


def _data(data: Mapping[str, Any]) -> str:
    """The section of a data set; empty where the numbers are no likelihoods."""
    name, options = data["class_path"].rpartition(".")[2], data.get("init_args", {})
    pixels = options.get("pixels", "")
    if name == "MNIST":
        return MNIST[pixels in BYTES] if pixels in (*BITS, *BYTES) else ""
    return f"{name}, {options.get('kind') or options.get('name') or pixels}"


def _table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", "   :class: results", ""]
    for line in (HEADER, *rows):
        lines += [f"   {'* -' if n == 0 else '  -'} {cell}" for n, cell in enumerate(line)]
    return [*lines, ""]


@cache
def _config(name: str) -> dict[str, Any]:
    return yaml.safe_load((configs_dir() / name).read_text(encoding="utf-8"))

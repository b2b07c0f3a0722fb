"""The model card of an exported folder: a README with the Hub's header."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from trellis.hyperparameters import importable_name
from trellis.index import summary
from trellis.lightning_modules.engine.objective import Objective

# Objective -> what the Hub calls its task; others are given none.
TASKS = {
    "SequenceClassification": "text-classification",
    "Tagging": "token-classification",
    "CausalLM": "text-generation",
    "CountingLM": "text-generation",
    "MaskedLM": "fill-mask",
    "SequenceToSequence": "translation",
    "GraphClassification": "graph-ml",
    "NodeClassification": "graph-ml",
    "GAN": "unconditional-image-generation",
}


@dataclass(frozen=True)
class Run:
    """What is known of the run that a model comes from.

    Args:
        name: of the run.
        data: name of the class of its data.
        config: its whole config, as YAML; empty if no command started it.
        metrics: last value of each metric of an evaluation.
        ledger: rows of the results table, as lines of Markdown; empty if none is of this run.
    """

    name: str
    data: str = ""
    config: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    ledger: Sequence[str] = ()


def model_card(objective: Objective, network: Any, config: Mapping[str, Any], run: Run) -> str:
    """Text of the card.

    Args:
        objective: that was exported.
        network: that was exported.
        config: of ``config.json``: ``inputs``, ``outputs`` and ``files``.
        run: that it comes from.
    """
    parts = [
        f"---\n{yaml.safe_dump(_header(objective, run), sort_keys=False)}---",
        f"# {run.name}",
        _about(objective, network, run),
        "## Use",
        _use(config),
        "## Inputs and outputs",
        _interface(config),
    ]
    if run.metrics:
        rows = [f"| `{name}` | {value:.6g} |" for name, value in run.metrics.items()]
        parts += [
            "## Last evaluation of the run",
            "\n".join(["| metric | value |", "|---|---|", *rows]),
        ]
    if run.ledger:
        parts += ["## In the ledger of trellis", "\n".join(run.ledger)]
    if run.config:
        parts += ["## Config", f"```yaml\n{run.config.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _header(objective: Objective, run: Run) -> dict[str, Any]:
    """What the Hub reads."""
    name = type(objective).__name__
    task = TASKS.get(name)
    header: dict[str, Any] = {"library_name": "trellis", "tags": ["trellis", name]}
    if task is not None:
        header["pipeline_tag"] = task
    if run.metrics and run.data:
        metrics = [{"type": n, "name": n, "value": value} for n, value in run.metrics.items()]
        result = {
            "task": {"type": task or "other", "name": name},
            "dataset": {"type": run.data.lower(), "name": run.data},
            "metrics": metrics,
        }
        header["model-index"] = [{"name": run.name, "results": [result]}]
    return header


def _about(objective: Objective, network: Any, run: Run) -> str:
    name = type(network).__name__
    path = importable_name(type(network)) or name
    what = summary(name) if path.startswith("trellis.") else ""
    count = sum(p.numel() for p in network.parameters())
    data = f" on `{run.data}`" if run.data else ""
    return (
        f"`{name}`{f': {what}' if what else '.'}\n{count:,} parameters, trained by "
        f"`{type(objective).__name__}`{data} with trellis."
    )


def _use(config: Mapping[str, Any]) -> str:
    files = config["files"]
    names = [each["name"] for each in config["inputs"]]
    lines = ["```python", "import trellis", "", 'objective = trellis.from_pretrained("FOLDER")']
    if "model.pt2" in files:
        lines += [
            "", "# without trellis", "import torch", "",
            f'output = torch.export.load("model.pt2").module()({", ".join(names)})',
        ]  # fmt: skip
    if "model.onnx" in files:
        values = ", ".join(f'"{name}": {name}' for name in names)
        lines += [
            "", "import onnxruntime", "",
            'session = onnxruntime.InferenceSession("model.onnx")',
            f"output = session.run(None, {{{values}}})  # NumPy arrays",
        ]  # fmt: skip
    return "\n".join([*lines, "```"])


def _interface(config: Mapping[str, Any]) -> str:
    shapes = [", ".join(map(str, each["shape"])) or "a number" for each in config["inputs"]]
    rows = [
        f"| `{each['name']}` | {each['dtype']} | {shape} |"
        for each, shape in zip(config["inputs"], shapes, strict=True)
    ]
    outputs = ", ".join(f"`{name}`" for name in config["outputs"])
    table = "\n".join(["| input | type | shape |", "|---|---|---|", *rows])
    return f"{table}\n\nOutputs, in this order: {outputs}. Axes with a name may have any size."

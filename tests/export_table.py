"""Exports every network in each form, and writes docs/export.md of it.

Usage: python tests/export_table.py [FILE]
"""

import inspect
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "trellis" / "networks"))
import torch
from device_cases import CASES, listed_networks
from footnotes import Footnotes
from torch import Tensor

from trellis.files import atomic_write_text
from trellis.index import family_names
from trellis.lightning_modules.export.interface import AXES, Input, PlainNetwork
from trellis.lightning_modules.export.programs import (
    TOLERANCE,
    difference,
    export_program,
    save_onnx,
)
from trellis.lightning_modules.export.weights import WEIGHTS, read_weights, save_weights

PAGE = Path(__file__).parents[1] / "docs" / "export.md"
HEAD = """# What networks are exported to

`trellis export CHECKPOINT --to FOLDER` writes a `torch.export` program, an ONNX model, and
`safetensors` with `config.json` and a model card in the layout of the Hugging Face Hub
(`pip install "torch-trellis[export]"`). The programs take batches and lengths of any size.
`trellis.from_pretrained(FOLDER)` reads the weights back; `trellis.HubModel` has the Hub's
`save_pretrained`, `from_pretrained` and `push_to_hub`. `--formats transformers` writes a GPT or a
BERT for Hugging Face's `transformers` instead: {doc}`guides/pretrained`.

Written by `python tests/export_table.py`, which exports each network and runs what it wrote on
larger inputs, in a process that cannot import trellis (ONNX in onnxruntime); `make test-all`
checks that it is still so. "Equal" is to 1e-5, absolute for outputs below 1, else relative. What
is random in a network is left out: a variational autoencoder gives its code and its
reconstruction, a distribution its parameters. Reasons are below.
"""
COLUMNS = ("torch.export", "ONNX", "safetensors")
EQUAL = "equal to 1e-5"

# Runs in a process without trellis: folders with inputs.pt -> outputs of both programs.
STRANGER = """
import sys, warnings
sys.modules["trellis"] = None
warnings.simplefilter("ignore")
from pathlib import Path
import onnxruntime, torch
for folder in map(Path, sys.argv[1:]):
    names, values = torch.load(folder / "inputs.pt")
    if (folder / "model.pt2").exists():
        output = torch.export.load(folder / "model.pt2").module()(*values)
        output = list(output) if isinstance(output, (tuple, list)) else [output]
        torch.save([each.detach() for each in output], folder / "program.pt")
    if (folder / "model.onnx").exists():
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
        taken = {each.name for each in session.get_inputs()}
        given = {n: torch.as_tensor(v).numpy() for n, v in zip(names, values) if n in taken}
        output = session.run(None, given)
        torch.save([torch.from_numpy(each) for each in output], folder / "onnx.pt")
try:
    import trellis
except ImportError:
    print("no trellis here")
"""


def case_inputs(network: torch.nn.Module, values: Iterable[Any]) -> list[Input]:
    """The inputs of a case with their names and open axes."""
    values = tuple(values)
    names = list(inspect.signature(network.forward).parameters)[: len(values)]
    kinds = [f"{n} of a node" if n == "x" and "edge_index" in names else n for n in names]
    return [
        Input(name, value, AXES.get(kind, {0: "batch"}))
        for name, kind, value in zip(names, kinds, values, strict=True)
    ]


def larger(each: Input) -> Input:
    """One more along each open axis."""
    value = each.value
    if not isinstance(value, Tensor):
        return each
    for axis in each.axes:
        value = torch.cat((value, value.narrow(axis, 0, 1)), axis)
    if each.name == "batch":  # of a graph: its nodes stand together
        value = value.sort().values
    return Input(each.name, value, each.axes)


def write(name: str, folder: Path) -> dict[str, str]:
    """Write a network in each form; the reasons of those that failed, and safetensors' cell."""
    build, values = CASES[name]
    torch.manual_seed(0)
    network = PlainNetwork(build()).eval()
    inputs = case_inputs(network.network, values)
    given = [larger(each) for each in inputs]
    folder.mkdir(parents=True)
    torch.save(([e.name for e in given], [e.value for e in given]), folder / "inputs.pt")
    reasons = {}
    try:
        torch.export.save(export_program(network, inputs), folder / "model.pt2")
    except ValueError as error:
        reasons["torch.export"] = str(error)
    try:
        save_onnx(network, folder / "model.onnx", inputs)
    except ValueError as error:
        reasons["ONNX"] = str(error)
    save_weights(network, folder)
    torch.manual_seed(1)
    other = PlainNetwork(build()).eval()
    other.load_state_dict(read_weights(folder / WEIGHTS))
    with torch.no_grad():
        found = list(other.named(*(each.value for each in given)).values())
    return {**reasons, "safetensors": _cell(difference(network, found, given))}


def run_as_stranger(folders: list[Path]) -> None:
    """Run the programs in these folders in a process that cannot import trellis."""
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, *map(str, folders)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "no trellis here"


def compare(name: str, folder: Path) -> dict[str, str]:
    """The cells of the programs that the stranger ran."""
    build, _ = CASES[name]
    torch.manual_seed(0)
    network = PlainNetwork(build()).eval()
    names, values = torch.load(folder / "inputs.pt")
    given = [Input(n, v, {}) for n, v in zip(names, values, strict=True)]
    files = {"torch.export": "program.pt", "ONNX": "onnx.pt"}
    return {
        column: _cell(difference(network, torch.load(folder / file), given))
        for column, file in files.items()
        if (folder / file).exists()
    }


def _cell(distance: float) -> str:
    return EQUAL if distance <= TOLERANCE else f"differs by {distance:.1g}"


def cells_of(names: Iterable[str], root: Path) -> dict[str, dict[str, str]]:
    """What is found of each network."""
    folders = {name: root / name.replace("/", "-") for name in names}
    cells = {name: write(name, folder) for name, folder in folders.items()}
    run_as_stranger(list(folders.values()))
    return {name: cells[name] | compare(name, folder) for name, folder in folders.items()}


def page(cells: dict[str, dict[str, str]]) -> str:
    """The text of the page.

    Args:
        cells: network, or network/variant -> column -> what was found.
    """
    families = {n: path.split(".")[2] for n, path in family_names("trellis.networks").items()}
    order = sorted(cells, key=lambda name: (families[name.partition("/")[0]], name))
    notes = Footnotes(EQUAL)
    rows = [f"| family | network | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name in order:
        shown = [notes.cell(cells[name][column]) for column in COLUMNS]
        rows.append(f"| {families[name.partition('/')[0]]} | {name} | {' | '.join(shown)} |")
    return "\n".join([HEAD, *rows, "", *notes.lines()]).strip() + "\n"


def found() -> str:
    """The page as it is to be."""
    assert set(listed_networks()) == {name.partition("/")[0] for name in CASES}
    with tempfile.TemporaryDirectory() as folder:
        return page(cells_of(CASES, Path(folder)))


if __name__ == "__main__":
    atomic_write_text(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE, found())

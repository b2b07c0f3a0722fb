"""A folder in the layout of the Hugging Face Hub, written whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trellis.index import did_you_mean
from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.export.card import Run, model_card
from trellis.lightning_modules.export.interface import (
    Input,
    PlainNetwork,
    Sizes,
    example_inputs,
    exported_network,
)
from trellis.lightning_modules.export.programs import (
    TOLERANCE,
    difference,
    export_program,
    run_onnx,
    run_program,
    save_onnx,
)
from trellis.lightning_modules.export.transformers_files import write_transformers
from trellis.lightning_modules.export.weights import WEIGHTS, save_config, save_weights
from trellis.sequence.word_vectors import write_word_vectors

PROGRAM, ONNX = "model.pt2", "model.onnx"
FORMATS = {"safetensors": WEIGHTS, "program": PROGRAM, "onnx": ONNX}
TRANSFORMERS = "transformers"  # a folder of its own, since its files have the same names
WORD2VEC, VECTORS = "word2vec", "vectors.txt"  # of objectives that learn vectors of words
# Other sizes than those it was traced with: larger, and a single example.
CHECKED = (Sizes(3, 6), Sizes(1, 5))


def export(
    objective: Objective,
    to: str | Path,
    *,
    formats: Sequence[str] = tuple(FORMATS),
    opset: int | None = None,
    run: Run | None = None,
) -> Path:
    """Write an objective for others: its weights, its network as programs, and a model card.

    ``model.safetensors`` and ``config.json`` are what ``trellis.from_pretrained`` reads;
    ``model.pt2`` (``torch.export``) and ``model.onnx`` run without trellis, for batches and
    lengths of any size. Each is compared with the network on other sizes before the folder
    appears.

    Args:
        objective: trained, such as ``trellis.load`` returns.
        to: the folder, which must not hold anything yet.
        formats: of ``safetensors``, ``program`` and ``onnx``; of vectors of words ``word2vec``,
            too, the text format that others read; or ``transformers`` alone, for what
            ``from_pretrained`` of that library reads: see ``write_transformers``.
        opset: version of ONNX's operators; ``None`` takes torch's choice.
        run: that it comes from, for the card.
    Returns:
        The folder.
    Raises:
        ImportError: the extra ``export`` is missing.
        ValueError: the folder is not empty, an unknown format, a network that cannot be exported
            to one of them, or one whose outputs would differ.
    """
    for name in formats:
        if name not in (known := [*FORMATS, WORD2VEC, TRANSFORMERS]):
            hint = did_you_mean(name, known) or f"; give some of {', '.join(known)}"
            raise ValueError(f"format {name!r} is unknown{hint}")
    if TRANSFORMERS in formats:
        if len(formats) > 1:
            raise ValueError(
                f"formats={','.join(formats)}: give {TRANSFORMERS} a folder of its own"
            )
        with new_folder(to) as folder:
            write_transformers(objective, folder)
        return Path(to)
    was_training = objective.training
    objective.eval()
    network = PlainNetwork(exported_network(objective)).eval()
    try:
        with new_folder(to) as folder:
            inputs = example_inputs(objective, network.network)
            differences = _write(objective, network, inputs, folder, formats, opset)
            with torch.no_grad():
                outputs = list(network.named(*(each.value for each in inputs)))
            about: dict[str, Any] = {
                "inputs": [each.described() for each in inputs],
                "outputs": outputs,
                "files": differences,
            }
            save_config(objective, folder, about)
            card = model_card(
                objective, network.network, about, run or Run(type(objective).__name__)
            )
            (folder / "README.md").write_text(card, encoding="utf-8")
    finally:
        objective.train(was_training)
    return Path(to)


def _write(
    objective: Objective,
    network: PlainNetwork,
    inputs: Sequence[Input],
    folder: Path,
    formats: Sequence[str],
    opset: int | None,
) -> dict[str, float]:
    """Write the formats; the largest difference of each program from the network."""
    found: dict[str, float] = {}
    if "safetensors" in formats:
        save_weights(objective, folder)
        found[WEIGHTS] = 0.0
    if WORD2VEC in formats:
        if not callable(words := getattr(objective, "word_vectors", None)):
            raise ValueError(f"word2vec: {type(objective).__name__} has no vectors of words")
        write_word_vectors(folder / VECTORS, *words())
    if "program" in formats:
        torch.export.save(export_program(network, inputs), folder / PROGRAM)
    if "onnx" in formats:
        save_onnx(network, folder / ONNX, inputs, opset)
    for name, run in ((PROGRAM, run_program), (ONNX, run_onnx)):
        if not (folder / name).is_file():
            continue
        tries = [example_inputs(objective, network.network, sizes, 1) for sizes in CHECKED]
        found[name] = max(
            difference(network, run(folder / name, each), each) for each in (inputs, *tries)
        )
        if not found[name] <= TOLERANCE:
            raise ValueError(
                f"{name} computes something else than {type(network.network).__name__} (by "
                f"{found[name]:.2g}), so it is not written: leave its format out"
            )
    return found


@contextmanager
def new_folder(to: str | Path) -> Iterator[Path]:
    """A folder that gets the name ``to`` once the block has ended without an error.

    Args:
        to: no folder yet, or an empty one.
    Raises:
        ValueError: there is something already.
    """
    target = Path(to).absolute()
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise ValueError(f"{to} already exists: give another folder, or move it")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        folder = temporary / target.name  # with the mode of any new folder
        folder.mkdir()
        yield folder
        os.replace(folder, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

"""A network as a program of ``torch.export`` and as an ONNX model, each compared with itself."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from trellis.lightning_modules.export.interface import Input, PlainNetwork
from trellis.torch_private import numbers_from_zero

TOLERANCE = 1e-5  # between the network and what it was exported to, absolute and relative
WRITTEN_OPSET = 18  # the oldest that torch writes by itself; it converts to those before


def export_program(network: PlainNetwork, inputs: Sequence[Input]) -> ExportedProgram:
    """The network in the operations of torch, for batches and lengths of any size.

    Args:
        network: in evaluation mode.
        inputs: examples, whose named axes stay open.
    Raises:
        ValueError: torch cannot trace it, or only for these very sizes; says why.
    """
    values = tuple(each.value for each in inputs)
    shapes = tuple(
        dict.fromkeys(each.axes, Dim.DYNAMIC) if isinstance(each.value, Tensor) else Dim.DYNAMIC
        for each in inputs
    )
    # Graphs are counted by a number that is no size of a tensor: it may be 1.
    counted = any(not isinstance(value, Tensor) for value in values)
    reason = ""
    for strict in (False, True):  # the second also sees through Python's own functions, as len(x)
        try:
            with _quiet(), numbers_from_zero() if counted else nullcontext():
                program = torch.export.export(
                    network, values, dynamic_shapes=(shapes,), strict=strict
                )
            _require_known_operators(program)
            return program
        except Exception as error:  # whatever tracing a network may raise
            reason = reason or str(error).strip().splitlines()[0]
    raise ValueError(f"torch.export cannot trace {type(network.network).__name__}: {reason}")


def _require_known_operators(program: ExportedProgram) -> None:
    """Refuse operators that a process without trellis does not have."""
    for node in program.graph.nodes:
        if str(node.target).startswith("trellis."):
            raise ValueError(f"{node.target} is an operator that other processes lack")


def save_onnx(
    network: PlainNetwork, path: Path, inputs: Sequence[Input], opset: int | None = None
) -> None:
    """Write an ONNX model; weights of more than 2 GB go to a file beside it.

    Args:
        network: in evaluation mode.
        path: of the file.
        inputs: examples, whose named axes stay open.
        opset: version of ONNX's operators; ``None`` takes torch's choice.
    Raises:
        ImportError: the extra ``export`` is missing.
        ValueError: torch cannot convert it, or not to this opset; names the lowest that works.
    """
    import onnxruntime  # noqa: F401  # missing, it would be missed only after the work

    model = _converted(network, inputs, opset)
    if opset not in (None, _opset(model)):
        raise ValueError(_other_opset(network, inputs, opset or 0))
    model.save(str(path))


def _converted(network: PlainNetwork, inputs: Sequence[Input], opset: int | None) -> Any:
    program = export_program(network, inputs)  # a new one: the conversion changes it
    with torch.no_grad():
        outputs = list(network.named(*(each.value for each in inputs)))
    own = {torch.ops.aten.adaptive_max_pool2d.default: _adaptive_max_pool2d}
    try:
        with _quiet():
            return torch.onnx.export(
                program.run_decompositions(own),
                (),
                dynamo=True,
                verbose=False,
                input_names=[each.name for each in inputs],
                output_names=outputs,
                opset_version=opset,
                dynamic_shapes=[dict(each.axes) or None for each in inputs],
            )
    except ImportError:
        raise
    except Exception as error:  # torch wraps the reason in pages of advice
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        told = str(reason).strip().splitlines()[0]
        if "SymInt" in told:
            told = "a loop in it depends on the size of an input that is left open"
        name, release = type(network.network).__name__, torch.__version__.partition("+")[0]
        raise ValueError(f"torch {release} cannot convert {name} to ONNX: {told}") from None


def _other_opset(network: PlainNetwork, inputs: Sequence[Input], opset: int) -> str:
    """What is wrong with an opset that torch did not write."""
    lowest = None
    for each in range(WRITTEN_OPSET, opset, -1):
        if _opset(_converted(network, inputs, each)) != each:
            break
        lowest = each
    if lowest is None:
        return f"opset={opset}: torch does not write it; leave it out"
    name = type(network.network).__name__
    return f"opset={opset}: too old for operators of {name}; {lowest} is the lowest that works"


def _opset(model: Any) -> int:
    return int(model.model.opset_imports[""])


def _adaptive_max_pool2d(x: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
    """In operators that ONNX has, for images of a fixed size; the positions are not computed."""
    for axis, bins in zip((2, 3), size, strict=True):
        length = x.size(axis)
        parts = [
            x.narrow(axis, i * length // bins, -(-(i + 1) * length // bins) - i * length // bins)
            for i in range(bins)
        ]
        x = torch.cat([part.amax(axis, keepdim=True) for part in parts], dim=axis)
    return x, torch.zeros_like(x, dtype=torch.long)


def difference(network: PlainNetwork, found: Sequence[Tensor], inputs: Sequence[Input]) -> float:
    """Largest distance of the outputs found from those of the network, relative above 1.

    Args:
        network: in evaluation mode.
        found: outputs of what it was exported to.
        inputs: that both were given.
    """
    with torch.inference_mode():
        expected = network.named(*(each.value for each in inputs)).values()
    pairs = list(zip(found, expected, strict=True))
    if any(ours.shape != right.shape for ours, right in pairs):
        return float("inf")
    distances = [((ours - right).abs() / right.abs().clamp(min=1)) for ours, right in pairs]
    return max(float(each.max()) if each.numel() else 0.0 for each in distances)


def run_program(path: Path, inputs: Sequence[Input]) -> list[Tensor]:
    """Outputs of the program in a file."""
    with _quiet(), torch.inference_mode():
        output = torch.export.load(path).module()(*(each.value for each in inputs))
    return list(output) if isinstance(output, (tuple, list)) else [output]


def run_onnx(path: Path, inputs: Sequence[Input]) -> list[Tensor]:
    """Outputs of the ONNX model in a file, by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = {each.name for each in session.get_inputs()}  # one without an effect is left out
    values = {each.name: torch.as_tensor(each.value).numpy() for each in inputs}
    found = session.run(None, {name: value for name, value in values.items() if name in taken})
    return [torch.from_numpy(each) for each in found]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch and its converter say about their own work."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    before = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, before, strict=True):
            each.setLevel(level)

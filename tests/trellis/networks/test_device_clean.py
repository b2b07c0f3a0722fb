"""Every network that ``trellis list networks`` lists runs on a device that holds no values.

A meta tensor has a shape, but no values: whatever reads one, or makes a tensor on the CPU on its
way, fails there. What passes needs no synchronisation on a GPU and no recompilation on a TPU.
"""

import warnings
from typing import Any

import pytest
import torch
from device_cases import CASES, Tensors, listed_networks
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

# Where the mathematics reads a value: network -> the reason, as its docstring says.
READS_VALUES = {
    "GAT": "how many edges are left without the graph's own self-loops",
    "GraphTransformer": "how many nodes the largest graph has",
    "SAGPoolNetwork": "which nodes stay",
    **dict.fromkeys(("KneserNeyLM", "AddKLM"), "how many tokens followed a context"),
}

# Where sizes that depend on values keep torch from a graph of the whole network.
NO_GRAPH = {
    "GraphTransformer": "PyG pads graphs to the largest one, and torch asks for its size",
    "SAGPoolNetwork": "PyG asks for the number of graphs whose nodes it has chosen",
}


class OneDevice(TorchDispatchMode):
    """An error for each tensor that is made on another device."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for x in leaves(output):
            assert x.device.type == self.device, f"{function} makes a tensor on {x.device}"
        return output


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[Any, ...]]:
    torch.manual_seed(0)
    build, inputs = CASES[request.param]
    return Tensors(build()), inputs


def moved(inputs: tuple[Any, ...], device: str) -> tuple[Any, ...]:
    return tuple(x.to(device) if isinstance(x, Tensor) else x for x in inputs)


def leaves(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    parts = output if isinstance(output, (tuple, list)) else ()
    return [leaf for part in parts for leaf in leaves(part)]


def test_every_listed_network_has_a_case() -> None:
    missing = set(listed_networks()) - {name.partition("/")[0] for name in CASES}
    assert not missing, f"give {', '.join(sorted(missing))} a case in device_cases.py"


@pytest.mark.parametrize("training", [True, pytest.param(False, marks=pytest.mark.long)])
def test_runs_on_the_meta_device(case, training) -> None:
    network, inputs = case
    shapes = [x.shape for x in leaves(network.train(training)(*inputs))]
    network.to("meta")
    if (name := type(network.network).__name__) in READS_VALUES:
        with pytest.raises((NotImplementedError, RuntimeError), match=r"nonzero|item\(\)"):
            network(*moved(inputs, "meta"))
        pytest.skip(f"{name} reads {READS_VALUES[name]}")
    with OneDevice("meta"):
        outputs = leaves(network(*moved(inputs, "meta")))
    assert [x.shape for x in outputs] == shapes
    if training and any(x.requires_grad for x in outputs):
        sum(x.sum() for x in outputs if x.requires_grad).backward()


@pytest.mark.long
def test_is_one_graph_when_compiled(case) -> None:
    network, inputs = case
    if (name := type(network.network).__name__) in NO_GRAPH:
        pytest.skip(f"{name}: {NO_GRAPH[name]}")
    network.eval()
    torch.manual_seed(1)
    expected = leaves(network(*inputs))
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    for ours, right in zip(leaves(compiled(*inputs)), expected, strict=True):
        torch.testing.assert_close(ours, right)


@pytest.mark.long
def test_can_be_exported(case) -> None:
    network, inputs = case
    if (name := type(network.network).__name__) in NO_GRAPH:
        pytest.skip(f"{name}: {NO_GRAPH[name]}")
    network.eval()
    torch.manual_seed(1)
    expected = leaves(network(*inputs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network, inputs)
    torch.manual_seed(1)
    for ours, right in zip(leaves(program.module()(*inputs)), expected, strict=True):
        torch.testing.assert_close(ours, right)

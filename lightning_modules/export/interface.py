"""What an exported network takes and returns: plain tensors with names, made from the spec."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent

from trellis.lightning_modules.engine.objective import Objective
from trellis.rl.distribution import SquashedGaussian
from trellis.sequence.spelling import NUM_BYTES
from trellis.signature import takes
from trellis.spec import (
    KnowledgeGraphSpec,
    LabelledTokenSpec,
    QuestionSpec,
    RatedPairSpec,
    TensorPairSpec,
    TokenPairSpec,
    TokenSpec,
)


class Sizes(NamedTuple):
    """How large example inputs are: graphs have ``batch`` graphs of ``length`` nodes each."""

    batch: int = 2
    length: int = 4


TRACED = Sizes()


@dataclass(frozen=True)
class Input:
    """One input of a network.

    Args:
        name: of the argument of ``forward``.
        value: an example.
        axes: names of the axes that may have any size.
    """

    name: str
    value: Tensor | int
    axes: Mapping[int, str]

    def described(self) -> dict[str, Any]:
        """Name, type and shape, in which an axis of any size is a name."""
        if not isinstance(self.value, Tensor):
            return {"name": self.name, "dtype": "int64", "shape": []}
        shape = [self.axes.get(axis, size) for axis, size in enumerate(self.value.shape)]
        dtype = str(self.value.dtype).removeprefix("torch.")
        return {"name": self.name, "dtype": dtype, "shape": shape}


class PlainNetwork(nn.Module):
    """A network that takes and returns tensors alone, and draws no random numbers.

    A distribution becomes its parameters, a variational autoencoder its code and its
    reconstruction; of a language model the state that it goes on with is left out.

    Args:
        network: any.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.has_state = takes(network.forward, "state")

    def forward(self, *inputs: Any) -> Any:
        """The tensor, or a tuple of those that ``named`` gives."""
        tensors = tuple(self.named(*inputs).values())
        return tensors[0] if len(tensors) == 1 else tensors

    def named(self, *inputs: Any) -> dict[str, Tensor]:
        """The outputs by name."""
        network: Any = self.network
        if hasattr(network, "reconstruct"):
            mean, log_scale = network.encode(*inputs)
            parameters = network.reconstruct(*inputs)
            return {"parameters": parameters, "mean": mean, "log_scale": log_scale}
        output = network(*inputs)
        return _named(output[0] if self.has_state else output, "output")


def _named(output: Any, name: str) -> dict[str, Tensor]:
    if output is None:  # a part that this network does not have
        return {}
    if isinstance(output, Tensor):
        return {name: output}
    if isinstance(output, Categorical):
        return {"logits": output.logits}
    if isinstance(output, SquashedGaussian):
        return {"action": output.mode, "mean": output.loc, "log_std": output.log_std}
    if isinstance(output, Independent):
        return {"mean": output.base_dist.mean, "std": output.base_dist.stddev}
    if not isinstance(output, (tuple, list)):
        raise ValueError(f"a network that returns a {type(output).__name__} cannot be exported")
    parts = enumerate(output)
    return {key: x for i, part in parts for key, x in _named(part, f"{name}_{i}").items()}


def exported_network(objective: Objective) -> nn.Module:
    """The network that an objective is used with: ``network``, ``policy`` or ``generator``.

    Raises:
        ValueError: it has none of these, or an encoder before it.
    """
    for name in ("features", "codes"):
        if isinstance(getattr(objective, name, None), nn.Module):
            raise ValueError(
                f"the network of this {type(objective).__name__} takes what its {name} encode, "
                f"and one program of both is not made: export the autoencoder's checkpoint"
            )
    for name in ("network", "policy", "generator"):
        if isinstance(network := getattr(objective, name, None), nn.Module):
            return network
    raise ValueError(
        f"{type(objective).__name__} has no network, policy or generator: there is nothing to "
        f"export"
    )


def example_inputs(
    objective: Objective, network: nn.Module, sizes: Sizes = TRACED, seed: int = 0
) -> list[Input]:
    """Inputs of ``network`` such as the data of ``objective`` has.

    Args:
        objective: with its spec.
        network: of the objective.
        sizes: of the examples.
        seed: of the random numbers.
    Raises:
        ValueError: an input that only the user's own data can give.
    """
    generator = torch.Generator().manual_seed(seed)
    taken = inspect.signature(network.forward).parameters
    wanted = [
        name
        for name, p in taken.items()
        if p.default is p.empty or _given(name, objective, network)
    ]
    found = []
    for name in wanted:
        kind = f"{name} of a node" if name == "x" and "edge_index" in wanted else name
        if (make := _EXAMPLES.get(kind)) is None:
            raise ValueError(
                f"{type(network).__name__}.forward takes {name}, of which the data's spec says "
                f"nothing: it cannot be exported"
            )
        value = make(_Request(objective.spec, network, sizes, generator))
        found.append(Input(name, value, AXES.get(kind, {0: "batch"})))
    return found


def _given(name: str, objective: Objective, network: nn.Module) -> bool:
    """Whether an objective gives an argument that has a default, and the network reads it."""
    if name == "edge_attr":
        return bool(getattr(network, "edge_channels", 0))
    if name == "y":
        return bool(getattr(objective, "conditional", False))
    if name in ("edge_index", "edge_type"):
        return isinstance(objective.spec, KnowledgeGraphSpec)
    return name == "num_graphs" or (name == "segments" and isinstance(objective.spec, TokenSpec))


# Of inputs that have more than examples in a batch; "x of a node" is x beside an edge_index.
AXES: dict[str, dict[int, str]] = {
    "x of a node": {0: "nodes"},
    "edge_index": {1: "edges"},
    "edge_type": {0: "edges"},
    "edge_attr": {0: "edges"},
    "links": {1: "links"},
    "candidates": {0: "candidates"},
    "batch": {0: "nodes"},
    "num_graphs": {},
    "tokens": {0: "batch", 1: "length"},
    "context": {0: "batch", 1: "length"},
    "segments": {0: "batch", 1: "length"},
    "characters": {0: "batch", 1: "length", 2: "letters"},
    "source": {0: "batch", 1: "source_length"},
    "target": {0: "batch", 1: "target_length"},
}


class _Request(NamedTuple):
    spec: Any
    network: Any
    sizes: Sizes
    generator: torch.Generator


def _vectors(asked: _Request, *shape: int) -> Tensor:
    return torch.randn(asked.sizes.batch, *shape, generator=asked.generator)


def _integers(asked: _Request, below: int, *shape: int) -> Tensor:
    return torch.randint(below, (asked.sizes.batch, *shape), generator=asked.generator)


def _examples(asked: _Request) -> Tensor:
    spec = asked.spec.input if isinstance(asked.spec, TensorPairSpec) else asked.spec
    x = torch.rand(asked.sizes.batch, *spec.shape, generator=asked.generator)
    return x.round() if spec.values == "binary" else x


def _targets(asked: _Request) -> Tensor:
    count = asked.spec.out_channels
    return _vectors(asked, count) if asked.spec.targets == "real" else _integers(asked, count)


def _node_features(asked: _Request) -> Tensor:
    nodes = asked.sizes.batch * asked.sizes.length
    return torch.randn(nodes, asked.spec.in_channels, generator=asked.generator)


def _ring(asked: _Request) -> Tensor:
    """Edges in both directions between neighbours, and of the first node with itself."""
    own = getattr(asked.spec, "num_entities", asked.sizes.batch * asked.sizes.length)
    nodes = torch.arange(own)
    ring = torch.stack((nodes, nodes.roll(1)))
    return torch.cat((ring, ring.flip(0), torch.zeros(2, 1, dtype=torch.long)), dim=1)


def _edge_features(asked: _Request) -> Tensor:
    edges = _ring(asked).size(1)
    return torch.randn(edges, asked.spec.edge_channels, generator=asked.generator)


def _sentences(asked: _Request, spec: TokenSpec) -> Tensor:
    """Tokens, with padding at the end of the first row where there is such a thing."""
    longest = getattr(asked.network, "context", getattr(asked.network, "max_length", None))
    length = min(asked.sizes.length, longest or asked.sizes.length)
    known = torch.tensor([i for i in range(spec.num_tokens) if i != spec.pad_id])
    tokens = known[_integers(asked, len(known), length)]
    if spec.pad_id is not None and length > 1:
        tokens[0, -1] = spec.pad_id
    return tokens


def _tokens(asked: _Request) -> Tensor:
    spec = asked.spec
    of_parts = isinstance(spec, LabelledTokenSpec | QuestionSpec | RatedPairSpec)
    return _sentences(asked, spec.tokens if of_parts else spec)


def _side(name: str) -> Callable[[_Request], Tensor]:
    def make(asked: _Request) -> Tensor:
        assert isinstance(asked.spec, TokenPairSpec)
        return _sentences(asked, getattr(asked.spec, name))

    return make


def _observations(asked: _Request) -> Tensor:
    if asked.spec.num_observations:
        return _integers(asked, asked.spec.num_observations)
    return torch.rand(asked.sizes.batch, *asked.spec.observation_shape, generator=asked.generator)


_EXAMPLES: dict[str, Callable[[_Request], Tensor | int]] = {
    "x": _examples,
    "x of a node": _node_features,
    "edge_index": _ring,
    "batch": lambda asked: torch.arange(asked.sizes.batch).repeat_interleave(asked.sizes.length),
    "num_graphs": lambda asked: asked.sizes.batch,
    "entity": lambda asked: _integers(asked, asked.spec.num_entities),
    "relation": lambda asked: _integers(asked, 2 * asked.spec.num_relations),
    "candidates": lambda asked: _integers(asked, asked.spec.num_entities),
    "edge_type": lambda asked: torch.arange(_ring(asked).size(1)) % (2 * asked.spec.num_relations),
    "edge_attr": _edge_features,
    "tokens": _tokens,
    "segments": lambda asked: _integers(asked, 2, _tokens(asked).size(1)),
    "characters": lambda asked: _integers(asked, NUM_BYTES, _tokens(asked).size(1), 5),
    "source": _side("source"),
    "target": _side("target"),
    "center": lambda asked: _integers(asked, asked.spec.num_tokens),
    "context": lambda asked: _integers(asked, asked.spec.num_tokens, asked.sizes.length),
    "observation": _observations,
    "y": _targets,
    "t": lambda asked: torch.rand(asked.sizes.batch, generator=asked.generator),
    "z": lambda asked: _vectors(asked, asked.network.latent_dim),
}

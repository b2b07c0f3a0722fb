"""Networks are built on torch's meta device without memory: so sizes are known beforehand."""

import inspect
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

from trellis.index import family_names
from trellis.networks.generative import MADE, NSF
from trellis.networks.rl import ActorCriticNetwork, QNetwork

# Of the arguments that have no default; each network takes those that it has.
ARGUMENTS: dict[str, Any] = {
    "in_channels": 3, "out_channels": 2, "shape": (1, 16, 16), "num_parameters": 1,
    "observation_shape": (4,), "num_observations": 5, "num_actions": 2, "action_dim": 2,
    "action_low": (-1.0, 0.0), "action_high": (1.0, 3.0), "num_tokens": 7, "pad_id": 0,
    "source_tokens": 7, "target_tokens": 7, "source_pad_id": 0, "target_pad_id": 0,
    "channels": 3, "num_entities": 5, "num_relations": 2,
    "cutoffs": (3, 5),
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "Flow": {"transform": nn.Identity()},
    "ActorCriticNetwork": {"num_actions": 2},
    "LabelPropagation": {"in_channels": 2},
    "GINE": {"edge_channels": 2},
    "SubwordEmbedding": {"words": [*"abcdef", "cat"]},
}
PUBLIC: dict[str, Any] = {
    name: getattr(import_module(path.rpartition(".")[0]), name)
    for name, path in family_names("trellis.networks").items()
}
NETWORKS = [
    name for name, each in PUBLIC.items() if inspect.isclass(each) and issubclass(each, nn.Module)
]
OPTIONS = {
    "several orders": partial(MADE, (4,), order="random", num_masks=2, direct=True),
    "conditional flow": partial(NSF, (4,), num_classes=3),
    "pixels": partial(QNetwork, (4, 84, 84), 2, dueling=True),
    "states": partial(ActorCriticNetwork, (), 2, num_observations=5),
    "real actions": partial(ActorCriticNetwork, (4,), action_dim=2),
}


def smallest(name: str) -> partial[nn.Module]:
    """The network with nothing given but what it needs."""
    parameters = inspect.signature(PUBLIC[name]).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind != p.VAR_KEYWORD]
    own = OWN.get(name, {})
    return partial(PUBLIC[name], **{each: ARGUMENTS.get(each) for each in needed} | own)


@pytest.mark.parametrize("name", [*NETWORKS, *OPTIONS])
def test_built_on_the_meta_device(name: str) -> None:
    build = OPTIONS.get(name) or smallest(name)
    with torch.device("meta"):
        shadow = build()
    built = build()
    found = {name: value.shape for name, value in shadow.state_dict().items()}
    assert found == {name: value.shape for name, value in built.state_dict().items()}
    assert {value.device.type for value in shadow.state_dict().values()} <= {"meta"}

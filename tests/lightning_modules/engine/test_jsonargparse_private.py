"""Private names of jsonargparse still mean what ``jsonargparse_private`` takes them for."""

import copy
import pickle
from collections.abc import Callable
from functools import partial

import torch_geometric.nn
from jsonargparse import ArgumentParser
from torch import nn

from trellis.lightning_modules.engine.jsonargparse_private import (
    option_names,
    plain_factories,
    subclass_paths,
    trellis_names_first,
)
from trellis.networks.graph import GAT, GCN

CHANGED = "jsonargparse changed a private function that trellis patches: "


def parser() -> ArgumentParser:
    made = ArgumentParser(exit_on_error=False)
    made.add_subclass_arguments(nn.Module, "network", skip={"in_channels", "out_channels"})
    return made


def test_a_short_name_means_ours_where_another_library_has_it_too() -> None:
    assert torch_geometric.nn.GCN is not GCN
    with trellis_names_first():
        config = parser().parse_args(["--network=GCN"])
    assert config.network.class_path == "trellis.networks.graph.GCN", (
        f"{CHANGED}get_all_subclass_paths"
    )


def test_another_class_keeps_only_what_was_chosen() -> None:
    with trellis_names_first():
        config = parser().parse_args(
            ["--network=GCN", "--network.hidden_channels=5", "--network=GAT"]
        )
    assert config.network.init_args.hidden_channels == 5
    default = partial(GAT, 4, 2)().dropout
    assert config.network.init_args.dropout == default, (
        f"{CHANGED}discard_init_args_on_class_path_change"
    )


def test_the_patch_ends_with_its_block() -> None:
    from jsonargparse import _typehints

    before = _typehints.get_all_subclass_paths, _typehints.discard_init_args_on_class_path_change
    with trellis_names_first():
        pass
    after = _typehints.get_all_subclass_paths, _typehints.discard_init_args_on_class_path_change
    assert before == after


def test_factories_can_be_copied_and_pickled() -> None:
    class Owner:
        def __init__(self, make: Callable[[int], nn.Module]) -> None:
            self.make, self.more = make, (make, 3)

    made = ArgumentParser(exit_on_error=False)
    made.add_argument("--make", type=Callable[[int], nn.Module])
    config = made.parse_args(["--make=torch.nn.Linear", "--make.out_features=2"])
    owner = Owner(made.instantiate(config).make)
    plain_factories(owner)
    copied = copy.deepcopy(owner)
    assert pickle.loads(pickle.dumps(owner.make))(3).weight.shape == (2, 3)
    assert copied.more[0](5).weight.shape == (2, 5), f"{CHANGED}its partial of a class"


def test_options_and_subclasses_are_found() -> None:
    assert "--network" in option_names(parser()), f"{CHANGED}ArgumentParser._actions"
    assert "trellis.networks.graph.GCN" in subclass_paths(nn.Module)

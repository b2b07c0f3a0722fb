"""Hyper-parameters in plain types: what goes in, what a checkpoint can hold."""

import io
from enum import Enum
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trellis.hyperparameters import PlainHyperparameters, class_path, importable_name, to_plain
from trellis.spec import LabelledTokenSpec, TokenSpec


class Colour(Enum):
    RED = 1


class Word(str):
    __slots__ = ()


CASES = {
    "none": (None, None),
    "bool": (True, True),
    "class": (nn.ReLU, {"class_path": "torch.nn.modules.activation.ReLU"}),
    "partial": (
        partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        {"class_path": "torch.optim.sgd.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}},
    ),
    "partial with a class inside": (
        partial(nn.TransformerEncoder, encoder_layer=nn.ReLU),
        {
            "class_path": "torch.nn.modules.transformer.TransformerEncoder",
            "init_args": {"encoder_layer": {"class_path": "torch.nn.modules.activation.ReLU"}},
        },
    ),
    "function": (F.cross_entropy, "torch.nn.functional.cross_entropy"),
    "dataclass": (
        LabelledTokenSpec(TokenSpec(5, pad_id=0), 2, ("a", "b")),
        {
            "tokens": {
                "num_tokens": 5,
                "pad_id": 0,
                **dict.fromkeys(("bos_id", "eos_id", "unknown_id", "mask_id")),
                "tokenizer": "",
            },
            "out_channels": 2,
            "classes": ["a", "b"],
            "characters": False,
        },
    ),
    "tuple in mapping": ({"k": (1, 2.5)}, {"k": [1, 2.5]}),
    "path": (Path("a") / "b", "a/b"),
    "enum": (Colour.RED, "RED"),
    "numpy float": (np.float64(0.5), 0.5),
    "numpy single": (np.float32(0.5), 0.5),
    "numpy integer": (np.int64(3), 3),
    "numpy bool": (np.bool_(False), False),
    "numpy string": (np.str_("x"), "x"),
    "kind of string": (Word("x"), "x"),
}


@pytest.mark.parametrize("name", CASES)
def test_plain_form(name):
    value, expected = CASES[name]
    plain = to_plain(value)
    assert plain == expected
    assert type(plain) is type(expected)
    file = io.BytesIO()
    torch.save(plain, file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (nn.ReLU(), "an object of type ReLU"),
        (torch.ones(1), "an object of type Tensor"),
        (lambda x: x, "cannot be imported by name"),
        (partial(nn.Linear, 3), "positional arguments"),
        (partial(F.dropout, p=0.1), "a partial of a function"),
        ({"deep": [nn.ReLU()]}, "an object of type ReLU"),
    ],
)
def test_no_plain_form(value, message):
    with pytest.raises(ValueError, match=message):
        to_plain(value)


def test_class_path_imports_the_same_object():
    assert class_path(nn.ReLU) == "torch.nn.modules.activation.ReLU"

    class Local:
        pass

    Imposter = type("ReLU", (), {"__module__": "torch.nn.modules.activation"})
    for wrong in (Local, Imposter):
        assert importable_name(wrong) is None
        with pytest.raises(ValueError, match="name"):
            class_path(wrong)


class _Parent:
    """What Lightning does: keep the arguments of ``__init__``."""

    def __init__(self) -> None:
        self.hparams = {}

    def save_hyperparameters(self, *args, ignore=None, frame=None, logger=True) -> None:
        values = frame.f_locals
        self.hparams |= {k: v for k, v in values.items() if k not in ("self", "__class__")}


THREE = np.int64(3)


class Thing(PlainHyperparameters, _Parent):
    def __init__(self, network=nn.ReLU, width=THREE) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_the_mixin_keeps_plain_values_and_the_class():
    thing = Thing()
    assert thing.hparams == {
        "network": {"class_path": "torch.nn.modules.activation.ReLU"},
        "width": 3,
        "_class_path": f"{__name__}.Thing",
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
    assert thing.hparams_initial == thing.hparams
    assert thing.hparams_initial is not thing.hparams
    assert thing.unsaved == ()


def test_the_mixin_warns_of_what_is_left_out():
    with pytest.warns(UserWarning, match=r"Thing\(network=...\) is .*give network= again") as seen:
        thing = Thing(network=lambda: None)
    assert seen[0].filename == __file__
    assert thing.unsaved == ("network",)
    assert "network" not in thing.hparams


def test_a_class_of_a_notebook_has_no_path():
    class Local(Thing):
        pass

    assert "_class_path" not in Local().hparams


class Base(PlainHyperparameters, _Parent):
    def __init__(self, rate=0.1, *, hidden=1) -> None:
        super().__init__()
        self.save_hyperparameters()


class Passing(Base):
    def __init__(self, network=nn.ReLU, **options) -> None:
        super().__init__(**options)


class Fixing(Base):
    def __init__(self, network=nn.ReLU) -> None:
        super().__init__(hidden=2)


def test_what_a_base_saves_are_the_arguments_of_the_class_that_is_built():
    assert [*signature(Passing).parameters] == ["network", "rate", "hidden"]
    assert [*signature(Fixing).parameters] == ["network"]
    assert {"rate", "hidden"} <= Passing(hidden=3).hparams.keys()
    assert not {"rate", "hidden"} & Fixing().hparams.keys()


def test_a_warning_points_to_who_built_the_object():
    with pytest.warns(UserWarning, match="give rate= again") as seen:
        Passing(rate=lambda: None)
    assert seen[0].filename == __file__

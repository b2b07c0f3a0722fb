"""What is read from the source is what Python says of the imported class."""

import importlib
import inspect

import pytest

from trellis.index import family_names
from trellis.options import options
from trellis.signature import arguments_of

ROOMS = ("trellis.networks", "trellis.lightning_modules", "trellis.datamodules")
PATHS = {name: path for room in ROOMS for name, path in family_names(room).items()
         if name[0].isupper()}  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
def test_names_and_defaults_are_those_of_the_class(name: str) -> None:
    module, _, short = PATHS[name].rpartition(".")
    cls = getattr(importlib.import_module(module), short)
    if getattr(cls, "_is_protocol", False) or issubclass(cls, tuple):
        pytest.skip("nothing is made of it")
    expected = {
        argument.name: argument.default is inspect.Parameter.empty
        for argument in arguments_of(cls).values()
    }
    found = options(name)
    assert {each.name: not each.default for each in found} == expected
    assert all(each.meaning for each in found)


def test_a_default_is_written_as_in_the_source() -> None:
    (dropout,) = [each for each in options("GCN") if each.name == "dropout"]
    assert (dropout.kind, dropout.default) == ("float", "0.5")

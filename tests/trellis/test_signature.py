"""A constructor that passes options on shows them as its own arguments."""

from inspect import signature

import pytest
from jsonargparse import ArgumentParser

from trellis.networks.generative.flow_autoregressive import NSF
from trellis.networks.generative.flow_coupling import NICE
from trellis.signature import options_of


def area(shape: tuple[int, ...], *, width: float = 2.0, height: float = 3.0) -> float:
    """The area.

    Args:
        shape: not an option.
        width: from left to right.
        height: from bottom to top.
    """
    return width * height


class Box:
    """A box.

    Args:
        size: of it.
    """

    @options_of(area)
    def __init__(self, size: int, *, name: str = "box", **options: float) -> None:
        self.size, self.name, self.area = size, name, area((1,), **options)


class Tall(Box):
    def __init__(self, height: float) -> None:
        super().__init__(1, height=height)


def test_options_are_arguments_after_its_own() -> None:
    parameters = signature(Box).parameters
    assert [*parameters] == ["size", "name", "width", "height"]
    assert parameters["width"].default == 2.0
    assert parameters["width"].annotation is float
    assert [*signature(Tall).parameters] == ["height"], "a subclass has a signature of its own"


def test_options_arrive_and_unknown_ones_are_named() -> None:
    assert Box(1).area == 6
    assert Tall(5.0).area == 10
    with pytest.raises(TypeError, match="unexpected keyword argument 'widht'"):
        Box(1, widht=1.0)
    with pytest.raises(TypeError):
        signature(Box).bind(1, widht=1.0)


def test_the_command_line_knows_their_types_and_what_they_mean() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Box, "box")
    assert parser.parse_args(["--box.size=1", "--box.height=4"]).box.height == 4.0
    help_text = parser.format_help()
    assert "from bottom to top" in help_text
    assert "of it" in help_text


def test_the_options_of_flows_are_listed() -> None:
    assert {"bins", "bound", "num_transforms", "activation"} <= {*signature(NSF).parameters}
    assert {"base", "partition", "hidden_channels"} <= {*signature(NICE).parameters}

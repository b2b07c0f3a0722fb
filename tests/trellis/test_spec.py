"""Specs compare by their numbers, however a checkpoint stored them."""

import dataclasses

import pytest

from trellis.spec import GraphSpec, NodeSpec, TensorSpec, differences


def test_differences_name_both_values():
    old, new = TensorSpec(1, 10, (28, 28)), TensorSpec(3, 10, (32, 32))
    assert differences(old, new) == ["in_channels: 1 != 3", "size: (28, 28) != (32, 32)"]
    assert differences(old, old) == []


def test_a_list_from_a_file_equals_a_tuple():
    assert differences(TensorSpec(1, 2, [8, 8]), TensorSpec(1, 2, (8, 8))) == []


@pytest.mark.parametrize("kind", [TensorSpec, NodeSpec, GraphSpec])
def test_specs_are_frozen(kind):
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind(3, 2).in_channels = 4

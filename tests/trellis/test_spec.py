"""Specs compare by their numbers, however a checkpoint stored them."""

import dataclasses

import pytest

from trellis.spec import (
    GraphSpec,
    LabelledTokenSpec,
    NodeSpec,
    TensorSpec,
    TokenPairSpec,
    TokenSpec,
    differences,
)


def test_differences_name_both_values():
    old, new = TensorSpec(1, 10, (28, 28)), TensorSpec(3, 10, (32, 32))
    assert differences(old, new) == ["in_channels: 1 != 3", "size: (28, 28) != (32, 32)"]
    assert differences(old, old) == []


def test_a_list_from_a_file_equals_a_tuple():
    assert differences(TensorSpec(1, 2, [8, 8]), TensorSpec(1, 2, (8, 8))) == []


def test_vocabularies_of_the_first_release_are_those_learnt_today():
    """It wrote no normal form and split letters with combining marks otherwise."""
    old = '{"class":"BPETokenizer","model":{"model":{"vocab":{"a":0}},"pre_tokenizer":1}}'
    new = '{"class":"BPETokenizer","normalization":"NFC","model":{"model":{"vocab":{"a":0}}}}'
    other = new.replace('"a"', '"b"')
    for one, another, same in ((old, new, True), (old, other, False), (new, other, False)):
        found = differences(TokenSpec(9, tokenizer=one), TokenSpec(9, tokenizer=another))
        assert found == ([] if same else ["tokenizer: another vocabulary"])
    changed = new.replace("NFC", "NFD")
    assert differences(TokenSpec(9, tokenizer=new), TokenSpec(9, tokenizer=changed))


@pytest.mark.parametrize("kind", [NodeSpec, GraphSpec])
def test_features_of_edges_that_an_earlier_release_did_not_read_are_no_difference(kind):
    assert differences(kind(3, 2), kind(3, 2, edge_channels=4)) == []
    old, new = kind(3, 2, edge_channels=4), kind(3, 2)
    assert differences(old, new) == ["edge_channels: 4 != 0"]
    assert differences(old, kind(3, 2, edge_channels=5)) == ["edge_channels: 4 != 5"]


@pytest.mark.parametrize("kind", [TensorSpec, NodeSpec, GraphSpec])
def test_specs_are_frozen(kind):
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind(3, 2).in_channels = 4


def test_differences_of_parts_are_named_and_vocabularies_are_not_printed():
    mine = TokenSpec(8000, pad_id=0, tokenizer='{"words":' + "x" * 200_000)
    other = TokenSpec(8000, pad_id=0, tokenizer='{"words":' + "y" * 200_000)
    assert differences(TokenPairSpec(mine, other), TokenPairSpec(mine, mine)) == [
        "target.tokenizer: another vocabulary"
    ]
    larger = dataclasses.replace(other, num_tokens=9000, pad_id=None)
    old, new = LabelledTokenSpec(mine, 2, ("a", "b")), LabelledTokenSpec(larger, 2, ("a", "c"))
    assert differences(old, new) == [
        "tokens.num_tokens: 8000 != 9000",
        "tokens.pad_id: 0 != None",
        "tokens.tokenizer: another vocabulary",
        "classes: ('a', 'b') != ('a', 'c')",
    ]
    assert differences(old, old) == []

"""Bags of words: the features of scikit-learn, words that do not count, bad input."""

from functools import partial

import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from trellis.networks.sequence.bag_of_words import BagOfWords

PAD, V = 0, 12
bag = partial(BagOfWords, V, 3, pad_id=PAD)


def texts(number: int, seed: int) -> Tensor:
    """Texts of 2 to 15 words between tokens 1 and 2, some words often; word 11 is rare."""
    generator = torch.Generator().manual_seed(seed)
    words = 3 + (torch.rand(number, 15, generator=generator) ** 2 * 8).long()
    words[0, 0] = 11
    lengths = torch.randint(2, 16, (number, 1), generator=generator)
    column = torch.arange(16)
    body = torch.cat([words, torch.zeros(number, 1, dtype=torch.long)], 1)
    body = body.where(column < lengths, PAD).where(column != lengths, 2)
    return torch.cat([torch.ones(number, 1, dtype=torch.long), body], 1)


def counted(**options) -> BagOfWords:
    network = bag(**options)
    for part in texts(30, 0).split(8):
        network.count(part)
    return network


def ids(tokens: Tensor) -> list[list[int]]:
    return [[token for token in row if token != PAD] for row in tokens.tolist()]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"sublinear": True}, {"sublinear_tf": True}),
        ({"normalize": False}, {"norm": None}),
        ({"idf": False, "normalize": False}, {"use_idf": False, "norm": None}),
        ({"idf": False, "sublinear": True}, {"use_idf": False, "sublinear_tf": True}),
        ({"min_texts": 3, "max_share": 0.9}, {"min_df": 3, "max_df": 0.9}),
    ],
)
def test_features_are_those_of_scikit_learn(ours: dict, theirs: dict) -> None:
    vectorizer = TfidfVectorizer(analyzer=list, **theirs).fit(ids(texts(30, 0)))
    network, new = counted(**ours), texts(20, 1)
    expected = torch.zeros(20, V, dtype=torch.double)
    columns = [int(token) for token in vectorizer.get_feature_names_out()]
    expected[:, columns] = torch.from_numpy(vectorizer.transform(ids(new)).toarray())
    torch.testing.assert_close(network.features(new).double(), expected, atol=1e-6, rtol=1e-6)
    if "min_texts" in ours:
        assert {1, 2, 11}.isdisjoint(columns)
        assert len(columns) > 5


def test_logits_are_a_linear_map_of_the_features() -> None:
    network, new = counted(sublinear=True), texts(20, 1)
    torch.nn.init.normal_(network.output.weight)
    torch.nn.init.normal_(network.output.bias)
    torch.testing.assert_close(network(new), network.output(network.features(new)))


def test_padding_and_order_do_not_matter() -> None:
    network, new = counted(), texts(4, 1)
    torch.nn.init.normal_(network.output.weight)
    padded = torch.nn.functional.pad(new, (0, 5), value=PAD)
    torch.testing.assert_close(network(padded), network(new))
    row = new[:1, :3]
    torch.testing.assert_close(network(row.flip(1)), network(row))


def test_words_that_were_not_counted_say_nothing() -> None:
    network = counted()
    torch.nn.init.normal_(network.output.weight)
    network.forget()
    assert not network.features(texts(3, 1)).any()
    assert torch.equal(network(texts(3, 1)), network.output.bias.expand(3, 3))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: bag(min_texts=0), "min_texts=0: give at least 1"),
        (lambda: bag(max_share=2.0), "max_share=2.0: give a probability"),
        (lambda: bag()(torch.tensor([[V]])), f"tokens holds id {V}"),
        (lambda: bag().count(torch.tensor([[3], [PAD]])), "sequence 1 is nothing but padding"),
    ],
)
def test_refuses(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()

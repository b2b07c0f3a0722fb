"""Tags are tokens of their own, before the texts of any tokenizer; tokens that lie between."""

from functools import partial

import pytest
import torch
from torch import nn

from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tagged_tokenizer import TaggedTokenizer
from trellis.sequence.token_mixture import mixed_token
from trellis.sequence.tokenizer import CharTokenizer, TokenizerFactory, WordTokenizer, from_json

TEXTS = ["<2en> ein hund läuft .", "<2de> a dog runs .", "two dogs run ."]
TAGS = ["<2en>", "<2de>"]
KINDS = {
    "words": WordTokenizer,
    "pieces": partial(BPETokenizer, num_tokens=280),
    "letters": partial(CharTokenizer, special=True),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> TokenizerFactory:
    return KINDS[request.param]


@pytest.fixture
def tokenizer(kind: TokenizerFactory) -> TaggedTokenizer:
    return TaggedTokenizer(TEXTS, tags=TAGS, tokenizer=kind, lowercase=True)


def test_a_tag_is_one_token_before_those_of_the_text(tokenizer: TaggedTokenizer) -> None:
    inner = tokenizer.inner
    text = inner.encode("a dog runs .")
    assert tokenizer.encode("<2de> A dog runs .") == [inner.num_tokens + 1, *text]
    assert tokenizer.encode("<2de>A dog runs .") == [inner.num_tokens + 1, *text]
    assert tokenizer.encode("a dog runs .") == text
    assert tokenizer.num_tokens == inner.num_tokens + 2
    assert tokenizer.encode_batch(TEXTS) == [tokenizer.encode(text) for text in TEXTS]


def test_only_a_first_tag_is_one(tokenizer: TaggedTokenizer) -> None:
    inside = tokenizer.encode("a <2de> dog")
    assert max(inside) < tokenizer.inner.num_tokens


def test_nothing_is_learnt_from_tags(tokenizer: TaggedTokenizer, kind: TokenizerFactory) -> None:
    without = ["ein hund läuft .", "a dog runs .", "two dogs run ."]
    assert kind(without, lowercase=True) == tokenizer.inner


def test_texts_come_back_without_tags(tokenizer: TaggedTokenizer) -> None:
    ids = tokenizer.encode("<2en> ein hund")
    assert tokenizer.decode([1, *ids, 2]) == "ein hund"
    with pytest.raises(ValueError, match="is not in the vocabulary"):
        tokenizer.decode([tokenizer.num_tokens])


def test_json_brings_it_back(tokenizer: TaggedTokenizer) -> None:
    again = from_json(tokenizer.to_json())
    assert again == tokenizer
    assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
    assert again.spec == tokenizer.spec


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([], "give at least one"),
        (["<2en>", "<2en>"], "'<2en>' of .*give each once"),
        (["<2", "<2en>"], "none begins with another"),
        (["to English"], "without spaces"),
        (["<2EN>"], "'<2EN>' is not in the form of the texts: give '<2en>'"),
    ],
)
def test_impossible_tags_are_named(tags: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaggedTokenizer(TEXTS, tags=tags, tokenizer=WordTokenizer, lowercase=True)


def test_an_unknown_tag_is_named_with_those_there_are(tokenizer: TaggedTokenizer) -> None:
    with pytest.raises(ValueError, match="'<2fr>' was not learnt: give one of <2en>, <2de>"):
        tokenizer.tag_id("<2fr>")


def test_a_mixture_is_the_weighted_mean_and_passes() -> None:
    embedding = nn.Embedding(5, 3)
    before = embedding.weight.detach().clone()
    with mixed_token(embedding, 4, {4: 0.25, 2: 0.75}):
        torch.testing.assert_close(embedding.weight[4], 0.25 * before[4] + 0.75 * before[2])
        assert embedding.weight[:4].equal(before[:4])
    assert embedding.weight.equal(before)
    with pytest.raises(RuntimeError), mixed_token(embedding, 4, {4: 0.5, 2: 0.5}):
        raise RuntimeError
    assert embedding.weight.equal(before)


@pytest.mark.parametrize(
    ("shares", "message"), [({0: 0.5}, "add up to 0.5"), ({0: 1.5, 1: -0.5}, "share=-0.5")]
)
def test_shares_that_are_none_are_named(shares: dict[int, float], message: str) -> None:
    with pytest.raises(ValueError, match=message), mixed_token(nn.Embedding(2, 1), 0, shares):
        pass

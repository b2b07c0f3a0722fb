"""Byte pairs and word pieces against naive definitions of both."""

import builtins
import json
import random
from collections import Counter

import pytest

from trellis.sequence.subword import BPETokenizer, WordPieceTokenizer

WORDS = {"low": 5, "lower": 2, "newest": 6, "widest": 3, "new": 4, "wider": 1, "slow": 7}
CORPUS = [word for word, count in WORDS.items() for _ in range(count)]


def naive_merges(words: dict[str, int], number: int, ids: dict[str, int]) -> list[list[str]]:
    """Sennrich's loop: count all pairs, merge the most frequent, of equal ones the lowest ids."""
    ids = dict(ids)
    split = {tuple(word): count for word, count in words.items()}
    merges = []
    for _ in range(number):
        pairs: Counter = Counter()
        for parts, count in split.items():
            for pair in zip(parts, parts[1:], strict=False):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]))
        merges.append(list(best))
        ids["".join(best)] = len(ids)
        split = {apply(parts, best): count for parts, count in split.items()}
    return merges


def apply(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    done: list[str] = []
    for part in parts:
        if done and (done[-1], part) == pair:
            done[-1] += part
        else:
            done.append(part)
    return tuple(done)


@pytest.mark.parametrize("seed", range(3))
def test_merges_are_those_of_the_naive_loop(seed: int) -> None:
    generator = random.Random(seed)
    words = {
        "".join(generator.choices("abcd", k=generator.randint(2, 7))): generator.randint(1, 20)
        for _ in range(30)
    }
    corpus = [word for word, count in words.items() for _ in range(count)]
    learnt = json.loads(BPETokenizer(corpus, num_tokens=280).to_json())["model"]["model"]
    byte_ids = {token: i for token, i in learnt["vocab"].items() if i < 260}
    spaced = {f"Ġ{word}": count for word, count in words.items()}
    assert learnt["merges"] == naive_merges(spaced, 20, byte_ids)


def test_texts_are_cut_by_the_merges_in_their_order() -> None:
    tokenizer = BPETokenizer(CORPUS, num_tokens=275)
    learnt = json.loads(tokenizer.to_json())["model"]["model"]
    names = {i: token for token, i in learnt["vocab"].items()}
    for word in [*WORDS, "lowest", "slower", "stew"]:
        parts = tuple(f"Ġ{word}")
        for first, second in learnt["merges"]:
            parts = apply(parts, (first, second))
        assert tuple(names[i] for i in tokenizer.encode(word)) == parts


@pytest.mark.parametrize(
    "text",
    [
        "plain words",
        "unseen: 漢字 😀 naïve",
        "two  spaces\tand\nlines ",
        "<eos>",
        "ẞİﬁ",
        "\u2028",
        "'s",
    ],
)
def test_byte_pairs_write_every_text(text: str) -> None:
    tokenizer = BPETokenizer(CORPUS, num_tokens=300)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert 3 not in ids, "nothing is unknown"


def test_the_first_word_is_cut_as_any_other() -> None:
    tokenizer = BPETokenizer(CORPUS, num_tokens=300)
    assert tokenizer.encode("low low") == tokenizer.encode("low") * 2


def test_as_many_tokens_as_asked_for_or_as_there_are() -> None:
    assert BPETokenizer(CORPUS, num_tokens=265).num_tokens == 265
    assert BPETokenizer(CORPUS, num_tokens=265, mask=True).num_tokens == 265
    assert 260 < BPETokenizer(CORPUS, num_tokens=8000).num_tokens < 400
    assert WordPieceTokenizer(CORPUS, num_tokens=30).num_tokens == 30


@pytest.mark.parametrize("mask", [False, True])
def test_bytes_need_their_room(mask: bool) -> None:
    least = 261 if mask else 260
    assert BPETokenizer(CORPUS, num_tokens=least, mask=mask).num_tokens == least
    with pytest.raises(ValueError, match=f"num_tokens={least - 1}: give at least {least}"):
        BPETokenizer(CORPUS, num_tokens=least - 1, mask=mask)
    with pytest.raises(ValueError, match="num_tokens=5: give at least 25, for the special"):
        WordPieceTokenizer(CORPUS, num_tokens=5)


def test_pieces_are_the_longest_from_the_left() -> None:
    tokenizer = WordPieceTokenizer(CORPUS, num_tokens=40)
    vocabulary = json.loads(tokenizer.to_json())["model"]["model"]["vocab"]

    def longest_first(word: str) -> list[int]:
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in vocabulary:
                    found.append(vocabulary[piece])
                    start = end
                    break
            else:
                return [3]
        return found

    for word in [*WORDS, "lowest", "slowed", "wed", "zero", "newer"]:
        assert tokenizer.encode(word) == longest_first(word)
    assert tokenizer.encode("zero") == [3]
    assert tokenizer.decode(tokenizer.encode("lowest newest")) == "lowest newest"
    assert tokenizer.mask_id == 4


@pytest.mark.parametrize("kind", [BPETokenizer, WordPieceTokenizer])
def test_the_same_texts_teach_the_same_vocabulary(kind: type) -> None:
    """Each process of a run learns for itself, and ids that differ would not be noticed."""
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefghij", k=5)) for _ in range(200)]
    first, *others = (kind(words, num_tokens=400) for _ in range(4))
    assert all(other == first for other in others)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: object, **options: object) -> object:
        if name == "tokenizers":
            raise ModuleNotFoundError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'torch-trellis\[text\]'"):
        BPETokenizer(CORPUS)

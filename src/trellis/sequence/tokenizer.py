"""The base of all tokenizers, and those of characters and words.

A tokenizer is constructed by learning from texts and stored as JSON, never as a pickle:

>>> tokenizer = CharTokenizer(["to be or not to be"])
>>> tokenizer.decode(tokenizer.encode("tent"))
'tent'
>>> from_json(tokenizer.to_json()) == tokenizer
True
"""

import json
import sys
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any, Literal, Protocol

import numpy as np

from trellis.checks import at_least_one, choose_from
from trellis.files import FilePath
from trellis.sequence.character_model import character_model
from trellis.sequence.word_vectors import read_word_vectors
from trellis.sequence.words import first_word_rules, word_rules
from trellis.spec import TokenSpec

Normalization = Literal["NFC", "NFD", "NFKC", "NFKD"]
PAD, BOS, EOS, UNKNOWN, MASK = range(5)
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<mask>")  # their names where tokens have names
# Modules of the classes that ``from_json`` may build; nothing else is imported for a file.
_MODULES = {
    "CharTokenizer": __name__,
    "WordTokenizer": __name__,
    "BPETokenizer": "trellis.sequence.subword",
    "WordPieceTokenizer": "trellis.sequence.subword",
    "ImportedTokenizer": "trellis.sequence.imported_tokenizer",
    "TaggedTokenizer": "trellis.sequence.tagged_tokenizer",
}


class Tokenizer(ABC):
    """Text to token ids and back.

    Special ids come first: 0 padding, 1 beginning, 2 end, 3 unknown, and optionally 4 mask. Texts
    are never encoded as special ids other than unknown, whatever they contain.

    The same letter can be written as one character or as several (é, e + ´): ``encode`` first
    brings texts into one normal form, in which ``decode`` returns them.

    Args:
        lowercase: texts are converted to lower case first.
        num_special: number of special ids: 0, 4 or 5.
        normalization: normal form of Unicode; ``None`` takes texts as they are.
    Raises:
        ValueError: an unknown normal form.

    Source: Unicode Standard Annex 15.
    """

    def __init__(
        self, lowercase: bool, num_special: int, normalization: Normalization | None = None
    ) -> None:
        self.lowercase, self.num_special = lowercase, num_special
        self.normalization = normalization
        if normalization is not None:
            choose_from("normalization", normalization, Normalization)

    @property
    @abstractmethod
    def num_tokens(self) -> int:
        """Size of the vocabulary; ids are ``0 .. num_tokens - 1``."""

    @abstractmethod
    def _encode(self, text: str) -> list[int]:
        """Ids of a text as ``normalized`` returns it."""

    @abstractmethod
    def _decode(self, ids: list[int]) -> str:
        """Text of ordinary ids."""

    @abstractmethod
    def _learnt(self) -> dict[str, Any]:
        """The state that ``_restore`` takes, in plain types."""

    @abstractmethod
    def _restore(self, learnt: dict[str, Any]) -> None:
        """Set the state that ``_learnt`` returned."""

    def normalized(self, text: str) -> str:
        """A text in the case and the normal form in which it is encoded."""
        text = text.lower() if self.lowercase else text
        return (
            text if self.normalization is None else unicodedata.normalize(self.normalization, text)
        )

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without ``bos_id`` and ``eos_id``.

        Raises:
            ValueError: a character is not in the vocabulary and there is no ``unknown_id``.
        """
        return self._encode(self.normalized(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        return [self.encode(text) for text in texts]

    @property
    def id_type(self) -> np.dtype:
        """The smallest unsigned type that holds all ids."""
        return np.min_scalar_type(self.num_tokens - 1)

    def encode_array(self, text: str) -> np.ndarray:
        """``encode`` for a long text: ids as an array of ``id_type``."""
        return np.asarray(self.encode(text), self.id_type)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special ids are skipped.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        ids = list(ids)
        if ids and not 0 <= min(ids) <= max(ids) < self.num_tokens:
            wrong = next(i for i in ids if not 0 <= i < self.num_tokens)
            raise ValueError(f"id {wrong} is not in the vocabulary: 0..{self.num_tokens - 1}")
        return self._decode([i for i in ids if i >= self.num_special])

    def _special(self, index: int) -> int | None:
        return index if index < self.num_special else None

    @property
    def pad_id(self) -> int | None:
        return self._special(PAD)

    @property
    def bos_id(self) -> int | None:
        return self._special(BOS)

    @property
    def eos_id(self) -> int | None:
        return self._special(EOS)

    @property
    def unknown_id(self) -> int | None:
        return self._special(UNKNOWN)

    @property
    def mask_id(self) -> int | None:
        return self._special(MASK)

    @cached_property
    def spec(self) -> TokenSpec:
        """Vocabulary size and special ids, and this tokenizer as JSON."""
        return TokenSpec(
            num_tokens=self.num_tokens,
            pad_id=self.pad_id,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            unknown_id=self.unknown_id,
            mask_id=self.mask_id,
            tokenizer=self.to_json(),
        )

    def to_json(self) -> str:
        """The whole tokenizer, for ``from_json``."""
        # Tokenizers without a normal form have no such key: as those of trellis 0.1.
        form = {} if self.normalization is None else {"normalization": self.normalization}
        plain = {
            "class": type(self).__name__,
            "lowercase": self.lowercase,
            "num_special": self.num_special,
            **form,
            **self._learnt(),
        }
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))

    def to_tokenizers(self) -> dict[str, Any] | None:
        """The contents of a ``tokenizer.json`` of the ``tokenizers`` library with the same ids.

        ``None`` where that library has no such tokenizer.
        """
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return from_json, (self.to_json(),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())


class TokenizerFactory(Protocol):
    """Learns a tokenizer from texts; data modules take one and set ``lowercase``."""

    def __call__(self, texts: Iterable[str], *, lowercase: bool) -> Tokenizer: ...


def from_json(text: str) -> Tokenizer:
    """The tokenizer that ``to_json`` wrote.

    Raises:
        ValueError: the text was not written by ``to_json``.
    """
    try:
        plain = json.loads(text)
        name = plain.pop("class")
        cls = getattr(import_module(_MODULES[name]), name)
        tokenizer: Tokenizer = cls.__new__(cls)
        Tokenizer.__init__(
            tokenizer,
            plain.pop("lowercase"),
            plain.pop("num_special"),
            plain.pop("normalization", None),
        )
        tokenizer._restore(plain)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a tokenizer of trellis ({error!r}): {text[:60]!r}") from error
    return tokenizer


class CharTokenizer(Tokenizer):
    """One token for each character, in the order of their code points.

    Args:
        texts: their characters are the vocabulary.
        special: have ids for padding, beginning, end and unknown; without, an unknown character is
            an error.
        lowercase, normalization: see ``Tokenizer``.
    Raises:
        ValueError: the texts are empty.

    >>> CharTokenizer(["cab"]).encode("abba")
    [0, 1, 1, 0]
    >>> CharTokenizer(["cab"], special=True).encode("abd")
    [4, 5, 3]
    """

    def __init__(
        self,
        texts: Iterable[str],
        *,
        special: bool = False,
        lowercase: bool = False,
        normalization: Normalization | None = "NFC",
    ) -> None:
        super().__init__(lowercase, 4 if special else 0, normalization)
        found: set[str] = set()
        for text in texts:
            found.update(self.normalized(text))
        if not found:
            raise ValueError("CharTokenizer: the texts are empty, there is nothing to learn from")
        self._restore({"characters": "".join(sorted(found))})

    def to_tokenizers(self) -> dict[str, Any]:
        special = SPECIAL[: self.num_special]
        return character_model(special, self._ids, self.lowercase, self.normalization)

    def _learnt(self) -> dict[str, Any]:
        return {"characters": self.characters}

    def _restore(self, learnt: dict[str, Any]) -> None:
        self.characters: str = learnt["characters"]
        self._ids = {c: i for i, c in enumerate(self.characters, self.num_special)}

    @property
    def num_tokens(self) -> int:
        return self.num_special + len(self.characters)

    @cached_property
    def _id_of_code_point(self) -> np.ndarray:
        table = np.full(sys.maxunicode + 1, UNKNOWN if self.num_special else -1, np.int32)
        table[[*map(ord, self._ids)]] = [*self._ids.values()]
        return table

    def encode_array(self, text: str) -> np.ndarray:
        """``encode`` for a long text, many times as fast: a table look-up."""
        raw = self.normalized(text).encode("utf-32-le", "surrogatepass")
        ids = self._id_of_code_point[np.frombuffer(raw, "<u4")]
        if not self.num_special and len(ids) and ids.min() < 0:
            self.encode(text)  # raises the error that names the character
        return ids.astype(self.id_type)

    def _encode(self, text: str) -> list[int]:
        if self.num_special:
            return [self._ids.get(character, UNKNOWN) for character in text]
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            unseen = error.args[0]
            raise ValueError(
                f"character {unseen!r} at position {text.index(unseen)} is not among the "
                f"{self.num_tokens} that were learnt; remove it, or learn with special=True, "
                f"which has a token for unknown characters"
            ) from None

    def _decode(self, ids: list[int]) -> str:
        return "".join([self.characters[i - self.num_special] for i in ids])


class WordTokenizer(Tokenizer):
    """One token for each word and each punctuation mark, frequent ones first.

    Words of all scripts keep their combining marks; see ``word_rules``. ``decode`` puts spaces
    where they are usually written: those around quotation marks, dashes and symbols, runs of
    spaces and line breaks do not come back as they were.

    Args:
        texts: their words are the vocabulary.
        min_count: rarer words are unknown.
        max_tokens: largest vocabulary, special ids included; ``None`` keeps all words.
        split_punctuation: separate it from words; otherwise only spaces separate tokens.
        mask: whether there is a ``mask_id``.
        lowercase, normalization: see ``Tokenizer``.
        vectors: path of a file of word vectors, whose words are known, too, so that
            ``PretrainedEmbedding`` has a vector of words that the texts lack.
    Raises:
        FileNotFoundError: there is no such file of vectors.
        ValueError: no word is left, or the file is broken.

    >>> tokenizer = WordTokenizer(["Well, well: a well-known man's hat."], lowercase=True)
    >>> tokenizer.decode(tokenizer.encode("a man's well-known hat, (well)..."))
    "a man's well-known hat, well..."
    """

    def __init__(
        self,
        texts: Iterable[str],
        *,
        min_count: int = 1,
        max_tokens: int | None = None,
        split_punctuation: bool = True,
        mask: bool = False,
        lowercase: bool = False,
        normalization: Normalization | None = "NFC",
        vectors: FilePath | None = None,
    ) -> None:
        super().__init__(lowercase, 5 if mask else 4, normalization)
        at_least_one("min_count", min_count)
        self.split_punctuation, self._rules = split_punctuation, word_rules()
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self._split(self.normalized(text)))
        # Equally frequent words in alphabetical order, not in that of the texts.
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        kept = [word for word in ranked if counts[word] >= min_count]
        if max_tokens is not None:
            kept = kept[: max(0, max_tokens - self.num_special)]
        if not kept:
            raise ValueError(
                f"WordTokenizer: no word is left of {len(counts)} with min_count={min_count}, "
                f"max_tokens={max_tokens}"
            )
        if vectors is not None:
            kept += map(self.normalized, read_word_vectors(vectors).words)
        kept = [*dict.fromkeys(kept)]
        self._restore({"words": kept, "split_punctuation": split_punctuation, "marks": True})

    def _learnt(self) -> dict[str, Any]:
        marks = {"marks": True} if self._rules is word_rules() else {}
        return {"words": self.words, "split_punctuation": self.split_punctuation, **marks}

    def _restore(self, learnt: dict[str, Any]) -> None:
        self.words: list[str] = learnt["words"]
        self.split_punctuation = learnt["split_punctuation"]
        self._rules = word_rules() if learnt.get("marks") else first_word_rules()
        self._ids = {word: i for i, word in enumerate(self.words, self.num_special)}

    @property
    def num_tokens(self) -> int:
        return self.num_special + len(self.words)

    def _split(self, text: str) -> list[str]:
        return self._rules.split(text) if self.split_punctuation else text.split()

    def _encode(self, text: str) -> list[int]:
        return [self._ids.get(word, UNKNOWN) for word in self._split(text)]

    def _decode(self, ids: list[int]) -> str:
        text = " ".join([self.words[i - self.num_special] for i in ids])
        return self._rules.joined(text) if self.split_punctuation else text

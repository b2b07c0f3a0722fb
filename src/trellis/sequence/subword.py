"""Subword tokenizers, learnt by the ``tokenizers`` library."""

import json
import string
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from trellis.checks import at_least
from trellis.sequence.tokenizer import SPECIAL, Normalization, Tokenizer
from trellis.sequence.words import INVISIBLE, word_rules

# GPT-2's, but that letters keep their combining marks and joiners.
_LETTERS = rf"\p{{L}}[\p{{L}}\p{{M}}{INVISIBLE}]*"
_PIECES = rf"'(?:s|t|re|ve|m|ll|d)| ?{_LETTERS}| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"


class SubwordTokenizer(Tokenizer):
    """Base of the wrappers of tokenizers of the ``tokenizers`` library."""

    def _learn(self, model: Any, trainer: Any, texts: list[str]) -> None:
        """Train ``model``, which has its pre-tokenizer and decoder."""
        model.train_from_iterator(texts, trainer)
        learnt = json.loads(model.to_str())
        named = SPECIAL[: self.num_special]
        learnt["added_tokens"] = [t for t in learnt["added_tokens"] if t["content"] in named]
        self._restore({"model": learnt})

    def _normalized(self, texts: Iterable[str]) -> list[str]:
        """The texts to learn from, as the model reads them; an error if they are all empty."""
        normalized = [_spaced(self.normalized(text)) for text in texts]
        if not any(text.strip() for text in normalized):
            name = type(self).__name__
            raise ValueError(f"{name}: the texts are empty, there is nothing to learn from")
        return normalized

    def _learnt(self) -> dict[str, Any]:
        return {"model": json.loads(self._model.to_str())}

    def to_tokenizers(self) -> dict[str, Any]:
        """The library's own form, which does by itself what ``encode`` does before it.

        The library writes every capital sigma as σ, Python one at the end of a word as ς.
        """
        part = _library().normalizers
        steps = [part.Lowercase()] if self.lowercase else []
        steps += [getattr(part, self.normalization)()] if self.normalization else []
        steps += [part.Prepend(" "), part.Replace(_library().Regex(r"\A  "), " ")]  # as _spaced
        model = _library().Tokenizer.from_str(self._model.to_str())
        model.normalizer = part.Sequence(steps)
        return dict(json.loads(model.to_str()))

    def _restore(self, learnt: dict[str, Any]) -> None:
        self._model = model_of(learnt["model"])
        # Word pieces of trellis 0.1 have a decoder that knows the punctuation of English alone.
        self._spaced_by_model = learnt["model"]["decoder"].get("cleanup", True)

    @property
    def num_tokens(self) -> int:
        return int(self._model.get_vocab_size())

    def _encode(self, text: str) -> list[int]:
        return list(self._model.encode(_spaced(text)).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        normalized = [_spaced(self.normalized(text)) for text in texts]
        return [encoding.ids for encoding in self._model.encode_batch_fast(normalized)]

    def encode_array(self, text: str) -> np.ndarray:
        """``encode`` for a long text, faster: the library keeps no places in the text."""
        return np.asarray(self.encode_batch([text])[0], self.id_type)

    def _decode(self, ids: list[int]) -> str:
        text = str(self._model.decode(ids)).removeprefix(" ")
        return text if self._spaced_by_model else word_rules().joined(text)


class BPETokenizer(SubwordTokenizer):
    """Byte-pair encoding: the most frequent pairs are merged, starting from single bytes.

    Every text consists of bytes: nothing is unknown, and ``decode(encode(text))`` is ``text`` in
    its normal form (except for a leading space). Merges stay within words, numbers and runs of
    punctuation.

    Args:
        texts: to learn from.
        num_tokens: size of the vocabulary, with 256 bytes and the special ids; smaller if the
            texts have fewer pairs.
        mask: whether there is a ``mask_id``.
        lowercase, normalization: see ``Tokenizer``.
    Raises:
        ModuleNotFoundError: the library is not installed.
        ValueError: the texts are empty, or ``num_tokens`` leaves no room for the bytes.

    Source: Sennrich, Haddow and Birch 2016; on bytes: Radford et al. 2019.

    >>> tokenizer = BPETokenizer(["low lower lowest"] * 9, num_tokens=264)
    >>> tokenizer.decode(tokenizer.encode("slow <eos>"))
    'slow <eos>'
    """

    def __init__(
        self,
        texts: Iterable[str],
        *,
        num_tokens: int = 8000,
        mask: bool = False,
        lowercase: bool = False,
        normalization: Normalization | None = "NFC",
    ) -> None:
        super().__init__(lowercase, 5 if mask else 4, normalization)
        special = self.num_special
        reason = f", for 256 bytes and {special} special ids"
        at_least(256 + special, "num_tokens", num_tokens, reason)
        library = _library()
        model = library.Tokenizer(library.models.BPE())
        model.pre_tokenizer = library.pre_tokenizers.Sequence(
            [
                library.pre_tokenizers.Split(library.Regex(_PIECES), "isolated"),
                library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        model.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=num_tokens,
            special_tokens=list(SPECIAL[: self.num_special]),
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        self._learn(model, trainer, self._normalized(texts))


class WordPieceTokenizer(SubwordTokenizer):
    """Words split into their longest known pieces, as in BERT; punctuation is separate.

    ``decode`` puts spaces where they are usually written: those around apostrophes and hyphens
    inside words, quotation marks and dashes, runs of spaces and line breaks do not come back as
    they were.

    Args:
        texts: to learn from.
        num_tokens: size of the vocabulary, special ids included; smaller if the texts have fewer
            pieces.
        mask: whether there is a ``mask_id``.
        lowercase, normalization: see ``Tokenizer``.
    Raises:
        ModuleNotFoundError: the library is not installed.
        ValueError: the texts are empty, or ``num_tokens`` leaves no room for their characters.

    Source: Schuster and Nakajima 2012; Devlin et al. 2019.
    """

    def __init__(
        self,
        texts: Iterable[str],
        *,
        num_tokens: int = 8000,
        mask: bool = True,
        lowercase: bool = False,
        normalization: Normalization | None = "NFC",
    ) -> None:
        super().__init__(lowercase, 5 if mask else 4, normalization)
        library = _library()
        model = library.Tokenizer(library.models.WordPiece(unk_token="<unk>"))
        model.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        model.decoder = library.decoders.WordPiece(cleanup=False)
        normalized = self._normalized(texts)
        # The library numbers characters inside words in the order of a hash table, and breaks
        # ties by these numbers: unless they are given, each run, and each process of a run, would
        # learn another vocabulary.
        alone = {*string.punctuation, *string.whitespace}  # never inside a word
        inside = sorted(set("".join(normalized)) - alone)
        trainer = library.trainers.WordPieceTrainer(
            vocab_size=num_tokens,
            special_tokens=[*SPECIAL[: self.num_special], *(f"##{c}" for c in inside)],
            show_progress=False,
        )
        self._learn(model, trainer, normalized)
        reason = ", for the special ids and the characters of the texts, at the start and inside"
        at_least(self.num_tokens, "num_tokens", num_tokens, f"{reason} of a word")


def model_of(plain: Any) -> Any:
    """The library's tokenizer of the contents of a ``tokenizer.json``.

    Raises:
        ModuleNotFoundError: the library is not installed.
        ValueError: they are none; says what the library says.
    """
    library = _library()
    try:
        model = library.Tokenizer.from_str(json.dumps(plain))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(str(error)) from error
    # Otherwise a text that contains "<eos>" would end there.
    model.encode_special_tokens = True
    return model


def _spaced(text: str) -> str:
    """A word that begins the text is the same as one inside it."""
    return f" {text}" if text and not text.startswith(" ") else text


def _library() -> ModuleType:
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "subword tokenizers need the tokenizers library: pip install 'torch-trellis[text]'"
        ) from None
    return tokenizers

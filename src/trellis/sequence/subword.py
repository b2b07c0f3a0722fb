"""Subword tokenizers, learnt by the ``tokenizers`` library."""

import json
import string
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from trellis.sequence.tokenizer import Tokenizer

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<mask>")


class SubwordTokenizer(Tokenizer):
    """Base of the wrappers of tokenizers of the ``tokenizers`` library."""

    def _learn(self, model: Any, trainer: Any, texts: list[str]) -> None:
        """Train ``model``, which has its pre-tokenizer and decoder."""
        model.train_from_iterator(texts, trainer)
        learnt = json.loads(model.to_str())
        named = SPECIAL[: self.num_special]
        learnt["added_tokens"] = [t for t in learnt["added_tokens"] if t["content"] in named]
        self._restore({"model": learnt})

    def _cased(self, texts: Iterable[str]) -> list[str]:
        """The texts to learn from, in their final case; an error if they are all empty."""
        cased = [text.lower() if self.lowercase else text for text in texts]
        if not any(text.strip() for text in cased):
            name = type(self).__name__
            raise ValueError(f"{name}: the texts are empty, there is nothing to learn from")
        return cased

    def _learnt(self) -> dict[str, Any]:
        return {"model": json.loads(self._model.to_str())}

    def _restore(self, learnt: dict[str, Any]) -> None:
        try:
            self._model = _library().Tokenizer.from_str(json.dumps(learnt["model"]))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(str(error)) from error
        # Otherwise a text that contains "<eos>" would end there.
        self._model.encode_special_tokens = True

    @property
    def num_tokens(self) -> int:
        return int(self._model.get_vocab_size())

    def _encode(self, text: str) -> list[int]:
        return list(self._model.encode(text).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        cased = [text.lower() for text in texts] if self.lowercase else list(texts)
        return [encoding.ids for encoding in self._model.encode_batch_fast(cased)]

    def _decode(self, ids: list[int]) -> str:
        return str(self._model.decode(ids)).removeprefix(" ")


class BPETokenizer(SubwordTokenizer):
    """Byte-pair encoding: the most frequent pairs are merged, starting from single bytes.

    Every text consists of bytes: nothing is unknown, and ``decode(encode(text))`` is ``text``
    (except for a leading space). Merges stay within words, numbers and runs of punctuation.

    Args:
        texts: to learn from.
        num_tokens: size of the vocabulary, with 256 bytes and the special ids; smaller if the
            texts have fewer pairs.
        mask: whether there is a ``mask_id``.
        lowercase: see ``Tokenizer``.
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
    ) -> None:
        super().__init__(lowercase, 5 if mask else 4)
        if num_tokens < 256 + self.num_special:
            raise ValueError(
                f"num_tokens={num_tokens}: give at least {256 + self.num_special}, for 256 bytes "
                f"and {self.num_special} special ids"
            )
        library = _library()
        model = library.Tokenizer(library.models.BPE())
        model.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
        model.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=num_tokens,
            special_tokens=list(SPECIAL[: self.num_special]),
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        self._learn(model, trainer, self._cased(texts))


class WordPieceTokenizer(SubwordTokenizer):
    """Words split into their longest known pieces, as in BERT; punctuation is separate.

    Args:
        texts: to learn from.
        num_tokens: size of the vocabulary, special ids included; smaller if the texts have fewer
            pieces.
        mask: whether there is a ``mask_id``.
        lowercase: see ``Tokenizer``.
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
    ) -> None:
        super().__init__(lowercase, 5 if mask else 4)
        library = _library()
        model = library.Tokenizer(library.models.WordPiece(unk_token="<unk>"))
        model.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        model.decoder = library.decoders.WordPiece()
        cased = self._cased(texts)
        # The library numbers characters inside words in the order of a hash table, and breaks
        # ties by these numbers: unless they are given, each run, and each process of a run, would
        # learn another vocabulary.
        alone = {*string.punctuation, *string.whitespace}  # never inside a word
        inside = sorted(set("".join(cased)) - alone)
        trainer = library.trainers.WordPieceTrainer(
            vocab_size=num_tokens,
            special_tokens=[*SPECIAL[: self.num_special], *(f"##{c}" for c in inside)],
            show_progress=False,
        )
        self._learn(model, trainer, cased)
        if self.num_tokens > num_tokens:
            raise ValueError(
                f"num_tokens={num_tokens}: give at least {self.num_tokens}, for the special ids "
                f"and the characters of the texts, at the start of a word and inside"
            )


def _library() -> ModuleType:
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "subword tokenizers need the tokenizers library: pip install 'torch-trellis[text]'"
        ) from None
    return tokenizers

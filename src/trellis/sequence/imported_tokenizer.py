"""Tokenizers that the ``tokenizers`` library has stored, with special ids wherever they are."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trellis.sequence.subword import model_of
from trellis.sequence.tokenizer import BOS, EOS, MASK, PAD, UNKNOWN, Tokenizer

ROLES = {"pad": PAD, "bos": BOS, "eos": EOS, "unknown": UNKNOWN, "mask": MASK}


class ImportedTokenizer(Tokenizer):
    """A tokenizer of the ``tokenizers`` library, such as that of a released GPT-2 or BERT.

    It writes texts in the case and the normal form that it was made for, and adds no special
    tokens by itself: data modules put ``bos_id`` ([CLS]) and ``eos_id`` ([SEP]) around a text.

    Args:
        texts: not read.
        model: contents of ``tokenizer.json``.
        special: id of ``pad``, ``bos``, ``eos``, ``unknown`` and ``mask``, of those that it has.
        num_tokens: size of the network's vocabulary, which may have ids without a token; ``None``
            for no such ids.
        lowercase: not used, see above.
    Raises:
        ModuleNotFoundError: the library is not installed.
        ValueError: ``model`` is no tokenizer, a special id is none of its ids, or it has more ids
            than ``num_tokens``.
    """

    def __init__(
        self,
        texts: Iterable[str] = (),
        *,
        model: Mapping[str, Any],
        special: Mapping[str, int],
        num_tokens: int | None = None,
        lowercase: bool = False,
    ) -> None:
        super().__init__(False, 0)
        self._restore({"model": dict(model), "special": dict(special), "num_tokens": num_tokens})

    def _learnt(self) -> dict[str, Any]:
        special, size = dict(self.special), self._num_tokens
        return {"model": json.loads(self._model.to_str()), "special": special, "num_tokens": size}

    def _restore(self, learnt: dict[str, Any]) -> None:
        self._model = model_of(learnt["model"])
        self._model.no_padding()
        self._model.no_truncation()
        self.special: dict[str, int] = learnt["special"]
        own = 1 + max(self._model.get_vocab(with_added_tokens=True).values(), default=-1)
        self._num_tokens: int = own if learnt["num_tokens"] is None else learnt["num_tokens"]
        if own > self._num_tokens:
            raise ValueError(
                f"num_tokens={self._num_tokens}, but the tokenizer has ids up to {own - 1}: give "
                f"the tokenizer of this network"
            )
        for role, index in self.special.items():
            if role not in ROLES or not 0 <= index < self._num_tokens:
                raise ValueError(
                    f"special {role}={index}: give an id for any of {', '.join(ROLES)}"
                )

    @property
    def num_tokens(self) -> int:
        return self._num_tokens

    def _special(self, index: int) -> int | None:
        return next((self.special[role] for role in self.special if ROLES[role] == index), None)

    def to_tokenizers(self) -> dict[str, Any]:
        return dict(json.loads(self._model.to_str()))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._model.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def _encode(self, text: str) -> list[int]:
        return list(self._model.encode(text, add_special_tokens=False).ids)

    def _decode(self, ids: list[int]) -> str:
        return str(self._model.decode(ids))

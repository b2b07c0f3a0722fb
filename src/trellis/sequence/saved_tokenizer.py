"""The vocabulary of an earlier run for other data."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from trellis.files import FilePath
from trellis.sequence.tokenizer import Tokenizer, from_json
from trellis.spec import tokenizers_in


class SavedTokenizer(Tokenizer):
    """The tokenizer in a checkpoint, so that what it was trained on and new data share ids.

    Args:
        texts: not read.
        path: of the checkpoint.
        lowercase: not used: the text is written as it was in that run.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no tokenizer, or several different ones.
    """

    def __init__(
        self, texts: Iterable[str] = (), *, path: FilePath, lowercase: bool = False
    ) -> None:
        checkpoint = torch.load(path, map_location="meta", weights_only=True, mmap=True)
        found = sorted({*tokenizers_in(checkpoint.get("trellis", {}).get("spec"))})
        if len(found) != 1:
            count = f"{len(found)} different tokenizers" if found else "no tokenizer"
            raise ValueError(f"{path} holds {count}: give the checkpoint of a model of one text")
        self.text = found[0]
        self.saved = from_json(self.text)
        super().__init__(self.saved.lowercase, self.saved.num_special, self.saved.normalization)

    @property
    def num_tokens(self) -> int:
        return self.saved.num_tokens

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self.saved.encode_batch(texts)

    def encode_array(self, text: str) -> np.ndarray:
        return self.saved.encode_array(text)

    def to_json(self) -> str:
        return self.text

    def to_tokenizers(self) -> dict[str, Any] | None:
        return self.saved.to_tokenizers()

    def _special(self, index: int) -> int | None:
        return self.saved._special(index)

    def _encode(self, text: str) -> list[int]:
        return self.saved._encode(text)

    def _decode(self, ids: list[int]) -> str:
        return self.saved._decode(ids)

    def _learnt(self) -> dict[str, Any]:
        return self.saved._learnt()

    def _restore(self, learnt: dict[str, Any]) -> None:
        self.saved._restore(learnt)

"""What data modules of a text larger than memory share."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trellis.checks import choose_from, fraction
from trellis.datamodules.engine.base import DataModule
from trellis.datamodules.sequence.known_texts import KNOWN_TEXTS, TextName
from trellis.datamodules.sequence.mapped_array import MappedArray
from trellis.datamodules.sequence.tokenised_text import TokenisedText
from trellis.files import FilePath, data_root
from trellis.sequence.tokenizer import TokenizerFactory


class MappedText(DataModule):
    """Base of the data modules of a text that is tokenised into a file.

    A checkpoint holds what the tokens were made of, which has to be the same when it is resumed.

    Args:
        path, data_dir, cache_dir, tokenizer: see ``TextCorpus``.
        held_out, options: see ``TokenisedText``.
        text: which one is read where ``path`` is ``None``.
    Raises:
        ValueError: an unknown ``text``, or ``held_out`` is not between 0 and 1; see also
            ``TokenisedText``.
    """

    parts: Mapping[str, MappedArray] = {}

    def __init__(
        self,
        path: FilePath | None,
        data_dir: FilePath | None,
        cache_dir: FilePath | None,
        tokenizer: TokenizerFactory,
        held_out: float,
        text: TextName = "tinyshakespeare",
        **options: Any,
    ) -> None:
        super().__init__()
        known = KNOWN_TEXTS[choose_from("text", text, TextName)]
        self.path = Path(path) if path else data_root(data_dir) / known.path
        self.make = None if path else known.make
        self.text = TokenisedText(
            self.path, cache_dir, tokenizer, held_out=fraction("held_out", held_out), **options
        )

    def prepare_data(self) -> None:
        if self.make is not None:
            self.make(self.path)
        self.text.prepare()

    def setup(self, stage: str | None = None) -> None:
        if not self.parts:
            self.tokenizer, parts = self.text.open()
            self.check(parts)
            self.spec, self.parts = self.tokenizer.spec, parts

    @abstractmethod
    def check(self, parts: Mapping[str, MappedArray]) -> None:
        """Refuse a text that is too short, or a tokenizer that does not fit."""

    def state_dict(self) -> dict[str, Any]:
        return self.text.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.text.compare(state_dict)

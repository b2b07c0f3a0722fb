"""What data modules of a text larger than memory share."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from trellis.datamodules.engine.base import DataModule
from trellis.datamodules.sequence.tokenised_text import TokenisedText
from trellis.datamodules.sequence.windows import MappedTokens


class MappedText(DataModule):
    """Base of the data modules of a text that is tokenised into a file; a subclass sets ``text``.

    A checkpoint holds what the tokens were made of, which has to be the same when it is resumed.
    """

    text: TokenisedText
    parts: Mapping[str, MappedTokens] = {}

    def prepare_data(self) -> None:
        self.text.prepare()

    def setup(self, stage: str | None = None) -> None:
        if not self.parts:
            self.tokenizer, parts = self.text.open()
            self.check(parts)
            self.spec, self.parts = self.tokenizer.spec, parts

    @abstractmethod
    def check(self, parts: Mapping[str, MappedTokens]) -> None:
        """Refuse a text that is too short, or a tokenizer that does not fit."""

    def state_dict(self) -> dict[str, Any]:
        return self.text.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.text.compare(state_dict)

"""Tagged sentences that share rows in training, so that little of a batch is padding."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import DataModule, Inputs, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.conll import CoNLL
from trellis.sequence.batches import Ragged
from trellis.sequence.masking import IGNORED
from trellis.sequence.packing import PackedTokens, joined, packed, packed_rows


class PackedSentences(DataModule):
    """The sentences of another data module, in training several in a row.

    Batch in training: ``(PackedTokens, tags)``, for networks that read positions, such as
    ``BertTagger``. Batches have equally many sentences of any length, while those of ``CoNLL`` are
    of similar lengths. Evaluation and prediction are those of ``data``.

    Args:
        data: a data module of tagged sentences.
        max_tokens: in a batch, on average, without padding.
    Raises:
        ValueError: ``max_tokens`` is below 1, or ``data`` has no sentences of tokens alone.

    Source: Krell et al. 2021.
    """

    def __init__(self, data: Callable[[], CoNLL] = CoNLL, max_tokens: int = 2048) -> None:
        super().__init__()
        self.data, self.max_tokens = data(), at_least_one("max_tokens", max_tokens)

    def prepare_data(self) -> None:
        self.data.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        self.data.setup(stage)
        self.spec = self.data.spec

    def inputs(self, path: str, spec: Any) -> Inputs:
        return self.data.inputs(path, spec)

    def predict_dataloader(self) -> Loader[Any]:
        return self.data.predict_dataloader()

    def loader(self, split: Split) -> Loader[Any]:
        if split != "train":
            return self.data.loader(split)
        tokens, tags = self.data.splits["train"]
        if not isinstance(tokens, Ragged):
            raise ValueError(
                "PackedSentences: sentences with characters have rows of their own: give the data "
                "characters=False"
            )
        count = min(-(-int(tokens.lengths.sum()) // self.max_tokens), len(tokens))

        def batch(indices: Tensor) -> tuple[PackedTokens, Tensor]:
            found = packed_rows(tokens.lengths[indices].tolist())
            rows = [indices[row].tolist() for row in found]
            return packed(tokens, rows, self.spec.tokens.pad_id), joined(tags, rows, IGNORED)

        return Loader(
            len(tokens), batch, shuffle=True, plan=lambda order, _: order.tensor_split(count)
        )

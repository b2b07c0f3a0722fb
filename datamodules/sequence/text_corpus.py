"""Language modelling on text of any size."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from trellis.datamodules.engine.base import Inputs, Split, passed_on
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.mapped_array import MappedArray
from trellis.datamodules.sequence.mapped_text import MappedText
from trellis.datamodules.sequence.windows import Windows
from trellis.files import FilePath
from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tokenizer import TokenizerFactory


class TextCorpus(MappedText):
    """A text file, or a folder of ``.txt`` files, larger than memory, for language modelling.

    Batch: tokens ``[B, context + 1]``, as of ``TinyShakespeare``, and the very same on a text in
    ASCII that is small: there the last tenth of the characters is held out, here that of the
    bytes. The text is tokenised once, by several processes, into a file that is memory-mapped;
    see ``TokenisedText``. A text that has changed is noticed by its size and time, and then by
    its checksum, and tokenised again.

    Evaluation reads all that is held out: of a large text, hold out less, or set
    ``trainer.limit_val_batches``.

    Args:
        path: of a file or a folder, in UTF-8; ``None``: that of ``TinyShakespeare``.
        data_dir: of that file.
        cache_dir: folder of the tokens; ``None``: ``tokens`` beside ``path``.
        context, batch_size, steps_per_epoch, stream, lowercase, seed: see ``TinyShakespeare``.
        tokenizer: learnt from the training part, or from ``sample_bytes`` of it.
        held_out: share of the text, from its end, for validation and test.
        sample_bytes: of the text that the vocabulary is learnt from, at most: whole if it is
            smaller, otherwise blocks of 64 KB at random places, the same in each run.
        num_workers: processes that tokenise; ``None``: as many as there are processors.
    Raises:
        FileNotFoundError: there is no text.
        ValueError: the text is empty, compressed, not UTF-8 or too short, or has a character
            unknown to the tokenizer; the tokenizer has no importable name; or both ``stream``
            and ``steps_per_epoch`` are given.
    """

    batch_size = passed_on("windows", "batch_size")

    def __init__(
        self,
        path: FilePath | None = None,
        data_dir: FilePath | None = None,
        cache_dir: FilePath | None = None,
        context: int = 256,
        batch_size: int = 32,
        steps_per_epoch: int | None = None,
        stream: bool = False,
        tokenizer: TokenizerFactory = BPETokenizer,
        lowercase: bool = False,
        held_out: float = 0.1,
        sample_bytes: int = 1 << 24,
        num_workers: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            path,
            data_dir,
            cache_dir,
            tokenizer,
            lowercase=lowercase,
            held_out=held_out,
            sample_bytes=sample_bytes,
            num_workers=num_workers,
        )
        self.windows = Windows(context, batch_size, steps_per_epoch, stream, seed)

    def check(self, parts: Mapping[str, MappedArray]) -> None:
        self.windows.check(len(parts["train"]), len(parts["val"]), str(self.path))

    def inputs(self, path: str, spec: Any) -> Inputs:
        return self.windows.of_new_text(path, spec)

    def loader(self, split: Split) -> Loader[Tensor]:
        train = split == "train"
        tokens = self.parts["train" if train else "val"]
        return self.windows.loader(tokens, train=train, name=str(self.path))

"""Image captions in several languages: the small benchmark of translation."""

from pathlib import Path
from typing import Literal

from trellis.datamodules.base import Split, data_root, fetch
from trellis.datamodules.parallel_text import AlignedTexts
from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tokenizer import TokenizerFactory

Language = Literal["en", "de", "fr", "cs"]
URLS = ("https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw",)
NAMES = {"train": "train", "val": "val", "test": "test_2016_flickr"}


class Multi30k(AlignedTexts):
    """29,000 captions of photographs and their translations.

    Batch: ``TokenPairs``; those of evaluation have ``references``.

    ====== ===== ===== ======================== ========================
    train  val   test  words a sentence (en/de) of more than 1 (en/de)
    ====== ===== ===== ======================== ========================
    29,000 1,014 1,000 13.0 / 12.4              5,972 / 7,852
    ====== ===== ===== ======================== ========================

    Args:
        data_dir: its files lie, or are put, in ``data_dir/multi30k/raw``.
        source: language that is read.
        target: language that is written.
        tokenizer, lowercase, shared_vocabulary, max_tokens, max_length: see ``AlignedTexts``.
    Raises:
        FileNotFoundError: the files are missing and cannot be downloaded.
        OSError: a file is damaged.
        ValueError: ``source`` is ``target``, or as ``ParallelText``.

    Source: Elliott et al. 2016; the test set is that of 2016.
    """

    def __init__(
        self,
        data_dir: str | None = None,
        source: Language = "de",
        target: Language = "en",
        tokenizer: TokenizerFactory = BPETokenizer,
        lowercase: bool = True,
        shared_vocabulary: bool = False,
        max_tokens: int = 4096,
        max_length: int | None = None,
    ) -> None:
        super().__init__(
            tokenizer,
            lowercase=lowercase,
            shared_vocabulary=shared_vocabulary,
            max_tokens=max_tokens,
            max_length=max_length,
            drop_empty=False,
        )
        self.save_hyperparameters(logger=False)
        if source == target:
            raise ValueError(f"source={source!r} is the target too: choose two languages")
        self.raw = data_root(data_dir) / "multi30k" / "raw"
        self.languages = (source, target)

    def prepare_data(self) -> None:
        names = [path.name for split in NAMES for path in self.files(split)]  # type: ignore[arg-type]
        fetch(self.raw, dict.fromkeys(names), URLS)

    def files(self, split: Split) -> tuple[Path, Path]:
        source, target = (self.raw / f"{NAMES[split]}.{name}.gz" for name in self.languages)
        return source, target

"""Words of Wikipedia articles, read in windows."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trellis.datamodules.engine.base import DataModule, Inputs, Split, passed_on
from trellis.datamodules.engine.downloads import fetch
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.text_files import learn_tokenizer, read_text
from trellis.datamodules.sequence.windows import TokensInMemory, Windows
from trellis.files import FilePath, data_root
from trellis.sequence.tokenizer import TokenizerFactory, WordTokenizer

END = "<eos>"
_RAW = "wiki.{}.tokens.gz"
_NAMES: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}


class WikiText2(DataModule):
    """Two million words of Wikipedia's good articles, for language modelling.

    Batch: tokens ``[B, context + 1]``, as of ``TinyShakespeare``: windows at random positions, or
    streams. Words stand between spaces, and ``<eos>`` ends each line, as published; ``<unk>`` is
    a word of the texts, in place of those that occur less than three times.

    ========= ======= ======= ================
    train     val     test    different words
    ========= ======= ======= ================
    2,088,628 217,646 245,569 33,278
    ========= ======= ======= ================

    Args:
        data_dir: the files are in ``data_dir/WikiText2/raw``: ``wiki.train.tokens.gz`` and those
            of ``valid`` and ``test``.
        context, batch_size, steps_per_epoch, stream, lowercase, seed: see ``TinyShakespeare``.
        tokenizer: learnt from the training text; by default each word is a token, and frequent
            words come first.
    Raises:
        FileNotFoundError: a file is missing; they cannot be downloaded one by one.
        ValueError: a text is not UTF-8 or too short, or both ``stream`` and ``steps_per_epoch``
            are given.

    Source: Merity et al. 2016.
    """

    batch_size = passed_on("windows", "batch_size")

    def __init__(
        self,
        data_dir: FilePath | None = None,
        context: int = 35,
        batch_size: int = 20,
        steps_per_epoch: int | None = None,
        stream: bool = False,
        tokenizer: TokenizerFactory | None = None,
        lowercase: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.windows = Windows(context, batch_size, steps_per_epoch, stream, seed)
        self.folder = Path(data_root(data_dir)) / "WikiText2" / "raw"
        self.factory = tokenizer or partial(
            WordTokenizer, split_punctuation=False, normalization=None
        )
        self.lowercase = lowercase
        self.parts: dict[Split, Tensor] = {}

    def prepare_data(self) -> None:
        fetch(self.folder, {_RAW.format(name): None for name in _NAMES.values()}, ())

    def setup(self, stage: str | None = None) -> None:
        if self.parts:
            return
        texts: dict[Split, str] = {
            split: read_text(self.folder / _RAW.format(name)).replace("\n", f" {END} ")
            for split, name in _NAMES.items()
        }
        self.tokenizer = learn_tokenizer(
            self.factory, [texts["train"]], lowercase=self.lowercase, folder=self.folder.parent
        )
        parts = {split: torch.tensor(self.tokenizer.encode(text)) for split, text in texts.items()}
        for split in ("val", "test"):
            self.windows.check(len(parts["train"]), len(parts[split]), str(self.folder))
        self.spec, self.parts = self.tokenizer.spec, parts

    def inputs(self, path: str, spec: Any) -> Inputs:
        return self.windows.of_new_text(path, spec, line_end=f" {END} ")

    def loader(self, split: Split) -> Loader[Tensor]:
        tokens = TokensInMemory(self.parts[split])
        return self.windows.loader(tokens, train=split == "train", name=str(self.folder))

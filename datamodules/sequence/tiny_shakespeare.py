"""One long text, read in windows."""

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
from trellis.sequence.tokenizer import CharTokenizer, TokenizerFactory

URLS = ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare",)
CHECKSUM = "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


class TinyShakespeare(DataModule):
    """A million characters of Shakespeare, or any other text file, for language modelling.

    Batch: tokens ``[B, context + 1]``: the first ``context`` of a row are the input, the last
    ``context`` the targets. The first 90 % of the text are for training, the last 10 % for
    validation and test, in consecutive windows that predict each token but the first once; the
    last window may be shorter, and is a batch of its own.

    ========= ========== ===============
    train     val = test characters
    ========= ========== ===============
    1,003,854 111,540    65
    ========= ========== ===============

    Args:
        data_dir: the file is in ``data_dir/tinyshakespeare``, or is downloaded there.
        path: another text file, in UTF-8; compressed if it ends in ``.gz``.
        context: length of the input.
        batch_size: windows per batch.
        steps_per_epoch: batches of training windows from random positions; ``None``: as many as
            cover the text once.
        stream: train on ``batch_size`` parts of the text in parallel instead, from beginning to
            end: each row continues where it stopped in the previous batch, so that a state can be
            carried over. Validation does the same, and drops fewer tokens than there are rows.
        tokenizer: learnt from the first 90 %.
        lowercase: convert the text to lower case.
        seed: of the random positions; ``None`` uses that of ``seed_everything``.
    Raises:
        FileNotFoundError: the file is missing and cannot be downloaded.
        ValueError: the file is empty, not UTF-8 or too short, the last 10 % have a character
            unknown to the tokenizer, or both ``stream`` and ``steps_per_epoch`` are given.

    Source: Karpathy 2015, char-rnn.
    """

    batch_size = passed_on("windows", "batch_size")

    def __init__(
        self,
        data_dir: FilePath | None = None,
        path: FilePath | None = None,
        context: int = 64,
        batch_size: int = 12,
        steps_per_epoch: int | None = None,
        stream: bool = False,
        tokenizer: TokenizerFactory = CharTokenizer,
        lowercase: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.windows = Windows(context, batch_size, steps_per_epoch, stream, seed)
        self.path = Path(path) if path else data_root(data_dir) / "tinyshakespeare" / "input.txt"
        self.downloads = path is None
        self.factory, self.lowercase = tokenizer, lowercase
        self.parts: dict[str, Tensor] = {}

    def prepare_data(self) -> None:
        if self.downloads:
            fetch(self.path.parent, {self.path.name: CHECKSUM}, URLS)

    def setup(self, stage: str | None = None) -> None:
        if self.parts:
            return
        text = read_text(self.path)
        cut = int(0.9 * len(text))
        self.tokenizer = learn_tokenizer(
            self.factory, [text[:cut]], lowercase=self.lowercase, folder=self.path.parent
        )
        try:
            train, held_out = (self.tokenizer.encode(part) for part in (text[:cut], text[cut:]))
        except ValueError as error:
            raise ValueError(f"{self.path}, its last 10 %, from {cut} on: {error}") from None
        self.windows.check(len(train), len(held_out), str(self.path))
        self.spec = self.tokenizer.spec
        self.parts = {"train": torch.tensor(train), "val": torch.tensor(held_out)}

    def inputs(self, path: str, spec: Any) -> Inputs:
        return self.windows.of_new_text(path, spec)

    def loader(self, split: Split) -> Loader[Tensor]:
        train = split == "train"
        tokens = TokensInMemory(self.parts["train" if train else "val"])
        return self.windows.loader(tokens, train=train, name=str(self.path))

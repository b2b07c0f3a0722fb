"""One long text, read in windows."""

from pathlib import Path

import torch
from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.downloads import fetch
from trellis.datamodules.engine.loader import Loader, rank_and_world
from trellis.datamodules.sequence.text_files import learn_tokenizer, read_text
from trellis.files import FilePath, data_root
from trellis.random import hashed_integers
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
        at_least_one("context", context)
        at_least_one("batch_size", batch_size)
        if steps_per_epoch is not None:
            at_least_one("steps_per_epoch", steps_per_epoch)
            if stream:
                raise ValueError("steps_per_epoch is for random windows: omit it with stream=True")
        self.path = Path(path) if path else data_root(data_dir) / "tinyshakespeare" / "input.txt"
        self.downloads = path is None
        self.context, self.batch_size, self.steps = context, batch_size, steps_per_epoch
        self.stream, self.factory, self.lowercase, self.seed = stream, tokenizer, lowercase, seed
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
        if len(train) <= self.context or len(held_out) < 2:
            raise ValueError(
                f"{self.path} is too short: {len(train)} tokens to train on and {len(held_out)} "
                f"to validate; context={self.context} needs {self.context + 1} and 2"
            )
        self.spec = self.tokenizer.spec
        self.parts = {"train": torch.tensor(train), "val": torch.tensor(held_out)}

    def loader(self, split: Split) -> Loader[Tensor]:
        tokens = self.parts["train" if split == "train" else "val"]
        if self.stream:
            return self._streams(tokens, whole=split != "train")
        return self._random(tokens) if split == "train" else self._consecutive(tokens)

    def _random(self, tokens: Tensor) -> Loader[Tensor]:
        windows = tokens.unfold(0, self.context + 1, 1)
        steps = self.steps or (len(windows) - 1) // (self.context * self.batch_size) + 1

        def at_random(indices: Tensor) -> Tensor:
            return windows[hashed_integers(len(windows), loader.seed, loader.epoch, indices)]

        count = steps * self.batch_size
        loader = Loader(count, at_random, batch_size=self.batch_size, seed=self.seed)
        return loader

    def _streams(self, tokens: Tensor, whole: bool) -> Loader[Tensor]:
        """Rows in parallel; with ``whole``, a short last batch is kept."""
        # Under DDP the loader assigns steps to processes in turn: each has rows of its own, to
        # train more of them, to evaluate a part of those that a single process has.
        _, world = rank_and_world()
        if whole and self.batch_size < world:
            raise ValueError(
                f"batch_size={self.batch_size}: {world} processes share the streams that are "
                f"evaluated, give at least {world}"
            )
        count = self.batch_size if whole else world * self.batch_size
        length = (len(tokens) - 1) // count
        if length < (1 if whole else self.context):
            raise ValueError(
                f"{self.path} is too short: {len(tokens)} tokens for {count} "
                f"streams of context={self.context}"
            )
        rows = tokens.unfold(0, length + 1, length)  # the last target of one is the next's first
        steps = -(-length // self.context) if whole else length // self.context

        def following(index: Tensor) -> Tensor:
            step, rank = divmod(int(index), world)
            mine = rows[:count].tensor_split(world)[rank]
            return mine[:, step * self.context : (step + 1) * self.context + 1].contiguous()

        return Loader(steps * world, following)

    def _consecutive(self, tokens: Tensor) -> Loader[Tensor]:
        context = self.context
        whole = (len(tokens) - 1) // context
        count = whole + (1 if (len(tokens) - 1) % context else 0)

        def plan(order: Tensor, generator: torch.Generator) -> list[Tensor]:
            return [
                part
                for half in (order[:whole], order[whole:])
                for part in half.split(self.batch_size)
                if len(part)
            ]

        def following(indices: Tensor) -> Tensor:
            return torch.stack(
                [tokens[i * context : (i + 1) * context + 1] for i in indices.tolist()]
            )

        return Loader(count, following, plan=plan)

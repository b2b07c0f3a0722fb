"""Batches of one long sequence of tokens: random windows, streams, consecutive windows."""

from typing import Protocol

import torch
from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import Inputs
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.new_lines import read_new_text, tokenizer_of
from trellis.datamodules.sequence.text_files import too_short
from trellis.processes import rank_and_world
from trellis.random import hashed_integers
from trellis.spec import TokenSpec


class Tokens(Protocol):
    """A sequence of token ids, in memory or in a file."""

    def __len__(self) -> int: ...

    def rows(self, starts: Tensor, length: int) -> Tensor:
        """The ``length`` tokens from each of ``starts [B]`` on: ``[B, length]``, of int64."""


class TokensInMemory:
    """Token ids ``[N]`` of a text that fits into memory."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, starts: Tensor, length: int) -> Tensor:
        """See ``Tokens``."""
        return self.tokens.unfold(0, length, 1)[starts]


class Windows:
    """Batches ``[B, context + 1]`` of a long text, to train on and to evaluate.

    Training windows start at random positions, or, with ``stream``, each row continues where it
    stopped in the batch before. Evaluation takes consecutive windows, which predict each token
    but the first once; the last one may be shorter, and is a batch of its own. Streams are
    evaluated as streams, which drop fewer tokens than there are rows.

    Nothing here is as long as the text: batches are computed from their numbers.

    Args:
        context: length of the input.
        batch_size: windows per batch.
        steps_per_epoch: batches of random windows; ``None``: as many as cover the text once.
        stream: ``batch_size`` parts of the text in parallel, each from beginning to end.
        seed: of the random positions; ``None`` uses that of ``seed_everything``.
    Raises:
        ValueError: a size below 1, or both ``stream`` and ``steps_per_epoch`` are given.
    """

    def __init__(
        self,
        context: int,
        batch_size: int,
        steps_per_epoch: int | None = None,
        stream: bool = False,
        seed: int | None = None,
    ) -> None:
        at_least_one("context", context)
        at_least_one("batch_size", batch_size)
        if steps_per_epoch is not None:
            at_least_one("steps_per_epoch", steps_per_epoch)
            if stream:
                raise ValueError("steps_per_epoch is for random windows: omit it with stream=True")
        self.context, self.batch_size, self.steps = context, batch_size, steps_per_epoch
        self.stream, self.seed = stream, seed

    def check(self, train: int, held_out: int, name: str) -> None:
        """Check that there are tokens enough.

        Raises:
            ValueError: there are not; names the text and the numbers.
        """
        if train <= self.context or held_out < 2:
            needed = f"context={self.context} needs {self.context + 1} and 2"
            found = f"{train} tokens to train on and {held_out} to validate"
            raise too_short(name, f"{found}; {needed}")

    def loader(self, tokens: Tokens, *, train: bool, name: str) -> Loader[Tensor]:
        """Batches of one split.

        Args:
            tokens: of the split.
            train: at random positions, or whole contexts of streams; otherwise every token.
            name: of the text, for messages.
        """
        if self.stream:
            return self._streams(tokens, whole=not train, name=name)
        return self._random(tokens) if train else self._consecutive(tokens)

    def of_new_text(self, path: str, spec: TokenSpec, line_end: str = "\n") -> Inputs:
        """Windows of a new text, in its order, called by the numbers of their first tokens.

        A stream is one row, whose state is carried from the first window to the last.

        Args:
            path: of the text; ``-`` is standard input.
            spec: of the tokens that the model was trained on.
            line_end: what the model was given where a line ends.
        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not UTF-8, has fewer than two tokens, or has a character unknown to
                the tokenizer.
        """
        text, tokenizer = read_new_text(path), tokenizer_of(spec, path)
        tokens = TokensInMemory(torch.tensor(tokenizer.encode(text.replace("\n", line_end))))
        if len(tokens) < 2:
            raise too_short(f"input={path}", "nothing follows its first token")
        windows = Windows(self.context, 1 if self.stream else self.batch_size)
        starts = range(0, len(tokens) - 1, self.context)
        return Inputs(windows._consecutive(tokens), list(map(str, starts)))

    def _random(self, tokens: Tokens) -> Loader[Tensor]:
        context, num_windows = self.context, len(tokens) - self.context
        steps = self.steps or (num_windows - 1) // (context * self.batch_size) + 1

        def at_random(indices: Tensor) -> Tensor:
            starts = hashed_integers(num_windows, loader.seed, loader.epoch, indices)
            return tokens.rows(starts, context + 1)

        count = steps * self.batch_size
        loader = Loader(count, at_random, batch_size=self.batch_size, seed=self.seed)
        return loader

    def _streams(self, tokens: Tokens, whole: bool, name: str) -> Loader[Tensor]:
        """Rows in parallel; with ``whole``, a short last batch is kept."""
        # Under DDP the loader assigns steps to processes in turn: each has rows of its own, to
        # train more of them, to evaluate a part of those that a single process has.
        _, world = rank_and_world()
        if whole and self.batch_size < world:
            raise ValueError(
                f"batch_size={self.batch_size}: {world} processes share the streams that are "
                f"evaluated, give at least {world}"
            )
        context = self.context
        count = self.batch_size if whole else world * self.batch_size
        length = (len(tokens) - 1) // count
        if length < (1 if whole else context):
            streams = f"{count} streams of context={context}"
            raise too_short(name, f"{len(tokens)} tokens for {streams}")
        rows = torch.arange(count) * length  # the last target of one is the next's first
        steps = -(-length // context) if whole else length // context

        def following(index: Tensor) -> Tensor:
            step, rank = divmod(int(index), world)
            start = step * context
            mine = rows.tensor_split(world)[rank] + start
            return tokens.rows(mine, min(context, length - start) + 1)

        return Loader(steps * world, following)

    def _consecutive(self, tokens: Tokens) -> Loader[Tensor]:
        context, size = self.context, self.batch_size
        whole, rest = divmod(len(tokens) - 1, context)

        def following(index: Tensor) -> Tensor:
            first = int(index) * size
            if first >= whole:
                return tokens.rows(torch.tensor([whole * context]), rest + 1)
            starts = torch.arange(first, min(first + size, whole)) * context
            return tokens.rows(starts, context + 1)

        return Loader(-(-whole // size) + (1 if rest else 0), following)

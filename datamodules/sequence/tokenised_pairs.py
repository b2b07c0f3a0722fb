"""Translations of any number, tokenised once into files that are memory-mapped."""

from pathlib import Path
from typing import Any, NamedTuple

from trellis.datamodules.sequence.mapped_array import MappedLines
from trellis.datamodules.sequence.text_files import check_aligned
from trellis.datamodules.sequence.tokenised_text import TokenisedText
from trellis.sequence.token_shards import count_lines
from trellis.sequence.tokenizer import BOS, Tokenizer, TokenizerFactory


class TokenFiles(NamedTuple):
    """Where and how texts are tokenised into files; see ``TokenisedText``."""

    cache_dir: str | None
    sample_bytes: int
    num_workers: int | None


class TokenisedPairs:
    """The tokens of two files with corresponding lines: a ``TokenisedText`` by line for each.

    Line n of one stays the counterpart of line n of the other, since each file keeps its lines
    and both have equally many.

    Args:
        paths: of sources and targets.
        tokenizer, lowercase, shared_vocabulary: see ``AlignedTexts``.
        files: of the tokens.
    Raises:
        ValueError: see ``TokenisedText``.
    """

    def __init__(
        self,
        paths: tuple[Path, Path],
        tokenizer: TokenizerFactory,
        *,
        lowercase: bool,
        shared_vocabulary: bool,
        files: TokenFiles,
    ) -> None:
        self.source, self.target = self._sides = [
            TokenisedText(
                path,
                files.cache_dir,
                tokenizer,
                lowercase=lowercase,
                held_out=0.0,
                sample_bytes=files.sample_bytes,
                num_workers=files.num_workers,
                by_line=True,
                learn_from=paths if shared_vocabulary else (),
            )
            for path in paths
        ]

    def prepare(self) -> None:
        """Tokenise the files that are not, or were changed; see ``TokenisedText``.

        Raises:
            FileNotFoundError: one is missing.
            OSError: the tokens cannot be written.
            ValueError: one is empty or not UTF-8, or their numbers of lines differ.
        """
        if all([side.is_current() for side in self._sides]):  # each must be there
            return
        self._check(*(count_lines(side.path) for side in self._sides))  # before hours of work
        for side in self._sides:
            side.prepare()
        if not all(side.is_current() for side in self._sides):  # they share what was learnt
            names = " or ".join(str(side.path) for side in self._sides)
            raise ValueError(f"{names} was changed while they were tokenised: start again")

    def open(self) -> tuple[tuple[Tokenizer, MappedLines], tuple[Tokenizer, MappedLines]]:
        """Tokenizer and lines of the sources, ending with ``EOS``, and of the targets, from
        ``BOS`` to ``EOS``.

        Raises:
            FileNotFoundError: the files are not tokenised yet.
            ValueError: their numbers of lines differ.
        """
        source, target = self.source.open_lines(), self.target.open_lines((BOS,))
        self._check(len(source[1]), len(target[1]))
        return source, target

    def state(self) -> dict[str, Any]:
        """Checksum of each side, for the checkpoint of a run."""
        return {"source": self.source.state(), "target": self.target.state()}

    def compare(self, state: dict[str, Any]) -> None:
        """Warn if a run that goes on began with other texts than these."""
        self.source.compare(state["source"])
        self.target.compare(state["target"])

    def _check(self, num_source: int, num_target: int) -> None:
        check_aligned(self.source.path, num_source, self.target.path, num_target)

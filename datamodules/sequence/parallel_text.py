"""Texts and their translations, aligned line by line."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from trellis.datamodules.engine.base import DataModule, Inputs, Split
from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.budget import Order, budget_loader, check_budget
from trellis.datamodules.sequence.mapped_array import MappedLines
from trellis.datamodules.sequence.new_lines import new_sources
from trellis.datamodules.sequence.text_files import (
    STAGES,
    check_aligned,
    learn_tokenizer,
    read_lines,
    require_usual_ids,
)
from trellis.datamodules.sequence.tokenised_pairs import TokenFiles, TokenisedPairs
from trellis.files import FilePath
from trellis.sequence.batches import Ragged, TokenPairs
from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tokenizer import BOS, EOS, PAD, Tokenizer, TokenizerFactory
from trellis.spec import TokenPairSpec


class LinePairs(NamedTuple):
    """Lines and their translations, and of each the direction, where there are several."""

    sources: list[str]
    targets: list[str]
    directions: list[str]


class AlignedTexts:
    """Two files with corresponding lines, as batches of ``TokenPairs``.

    Training batches hold pairs of similar lengths; those of evaluation also have the target lines
    as ``references``.

    Args:
        files: source and target file of each split.
        tokenizer: learnt from the training files: one from sources, one from targets.
        lowercase: convert texts and references to lower case; references also have the normal
            form of the tokenizer.
        shared_vocabulary: learn one tokenizer from sources and targets together, which tied
            embeddings need.
        max_tokens: in the longer side of a batch, padding included.
        max_length: training pairs with a longer side, in tokens with ``bos_id`` and ``eos_id``,
            are left out; ``None``: a side longer than ``max_tokens`` is an error.
        drop_empty: leave out training pairs with an empty side; otherwise they are an error.
        token_files: of the training pairs, which are tokenised once; ``None`` reads them into
            memory each time.
        read: the pairs of a split; ``None`` reads those of ``files``.
    """

    def __init__(
        self,
        files: Mapping[Split, tuple[Path, Path]],
        tokenizer: TokenizerFactory,
        *,
        lowercase: bool = False,
        shared_vocabulary: bool = False,
        max_tokens: int = 4096,
        max_length: int | None = None,
        drop_empty: bool = False,
        token_files: TokenFiles | None = None,
        read: Callable[[Split], LinePairs] | None = None,
    ) -> None:
        check_budget(max_tokens, max_length)
        self.files = files
        self.read = read or (lambda split: read_pairs(*files[split]))
        self.spec: TokenPairSpec | None = None
        self.factory, self.lowercase, self.shared = tokenizer, lowercase, shared_vocabulary
        self.max_tokens, self.max_length, self.drop_empty = max_tokens, max_length, drop_empty
        self.splits: dict[str, _Pairs] = {}
        self.tokenised: TokenisedPairs | None = None
        if token_files is not None:
            self.tokenised = TokenisedPairs(
                files["train"],
                tokenizer,
                lowercase=lowercase,
                shared_vocabulary=shared_vocabulary,
                files=token_files,
            )

    def setup(self, stage: str | None = None) -> TokenPairSpec:
        """Read the splits that ``stage`` needs; the vocabularies are learnt once."""
        wanted = [split for split in STAGES[stage] if split not in self.splits]
        in_memory = [split for split in wanted if split != "train" or not self.tokenised]
        lines = {split: self.read(split) for split in in_memory}
        if self.tokenised and (self.spec is None or "train" in wanted):
            (self.source, sources), (self.target, targets) = self.tokenised.open()
            if "train" in wanted:
                self.splits["train"] = self._kept(sources, targets)
        elif self.spec is None:
            self._learn(lines.get("train") or self.read("train"))
            require_usual_ids(self.source)
            require_usual_ids(self.target)
        self.spec = TokenPairSpec(self.source.spec, self.target.spec)
        for split in in_memory:
            self.splits[split] = self._encoded(split, lines[split])
        return self.spec

    def _learn(self, lines: LinePairs) -> None:
        def learnt(texts: list[str], path: Path) -> Tokenizer:
            return learn_tokenizer(
                self.factory, texts, lowercase=self.lowercase, folder=path.parent
            )

        paths, (source, target, _) = self.files["train"], lines
        if self.shared:
            self.source = self.target = learnt([*source, *target], paths[1])
        else:
            self.source, self.target = learnt(source, paths[0]), learnt(target, paths[1])

    def _encoded(self, split: Split, lines: LinePairs) -> "_Pairs":
        source, target, directions = lines
        sources = Ragged([[*ids, EOS] for ids in self.source.encode_batch(source)])
        targets = Ragged([[BOS, *ids, EOS] for ids in self.target.encode_batch(target)])
        if split == "train":
            return self._kept(sources, targets)
        longer = torch.maximum(sources.lengths, targets.lengths)
        references = [self.target.normalized(line) for line in target]
        kept = torch.arange(len(longer))
        return _Pairs(sources, targets, longer, kept, references, directions)

    def _kept(self, sources: Ragged | MappedLines, targets: Ragged | MappedLines) -> "_Pairs":
        """Training pairs to use; others are an error unless an option leaves them out."""
        names = " and ".join(str(path) for path in self.files["train"])
        source, target = sources.lengths, targets.lengths
        # Every tokenizer makes a token of what is not white space: these are [EOS], [BOS, EOS].
        longer, empty = torch.maximum(source, target), (source == 1) | (target == 2)
        if bool(empty.any()) and not self.drop_empty:
            advice = "correct the files, or leave such pairs out with drop_empty=True"
            problem = f"empty in one of them, the first of {int(empty.sum()):,}; {advice}"
            raise in_line(names, _first(empty), problem)
        too_long = longer > (self.max_length or self.max_tokens)
        if bool(too_long.any()) and self.max_length is None:
            line = _first(too_long)
            advice = "raise it, or leave long pairs out with max_length"
            limit = f"max_tokens={self.max_tokens}: {advice}"
            raise in_line(names, line, f"{int(longer[line - 1]):,} tokens, more than {limit}")
        kept = (~(empty | too_long)).nonzero().flatten()
        if len(kept) < len(empty):
            rank_zero_info(
                f"{names}: {len(empty) - len(kept):,} of {len(empty):,} training pairs are left "
                f"out, {int(empty.sum()):,} with an empty side and {int(too_long.sum()):,} longer "
                f"than max_length={self.max_length}"
            )
        if len(kept) == 0:
            raise ValueError(f"{names}: no training pairs are left; raise max_length")
        return _Pairs(sources, targets, longer[kept], kept)

    def loader(self, split: Split, order: Order | None = None) -> Loader[TokenPairs]:
        """Batches of a split; by default shuffled for training, else sorted by length."""
        pairs = self.splits[split]

        def batch(indices: Tensor) -> TokenPairs:
            lines = pairs.kept[indices]
            references, directions = (
                tuple(texts[i] for i in lines.tolist()) if texts else ()
                for texts in (pairs.references, pairs.directions)
            )
            return TokenPairs(
                pairs.source.padded(lines, PAD),
                pairs.target.padded(lines, PAD),
                references,
                directions,
            )

        return budget_loader(
            pairs.longer,
            batch,
            self.max_tokens,
            order or ("shuffled" if split == "train" else "sorted"),
        )


class TranslatedText(DataModule):
    """Base of the data modules of translations; a subclass sets ``texts``."""

    texts: AlignedTexts

    def prepare_data(self) -> None:
        if self.texts.tokenised:
            self.texts.tokenised.prepare()

    def setup(self, stage: str | None = None) -> None:
        self.spec = self.texts.setup(stage)

    def loader(self, split: Split) -> Loader[TokenPairs]:
        return self.texts.loader(split)

    def predict_dataloader(self) -> Loader[TokenPairs]:
        return self.texts.loader("test", "as given")

    def inputs(self, path: str, spec: Any) -> Inputs:
        return new_sources(path, spec, self.texts.max_tokens)

    def state_dict(self) -> dict[str, Any]:
        return self.texts.tokenised.state() if self.texts.tokenised else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.texts.tokenised:
            self.texts.tokenised.compare(state_dict)


class ParallelText(TranslatedText):
    """Any pair of text files, in which line n of one is the translation of line n of the other.

    Batch: ``TokenPairs``; see ``AlignedTexts``. Predictions are made in the order of the file.

    Args:
        train: paths of sources and targets, in UTF-8; compressed if they end in ``.gz``.
        val: the same for validation.
        test: the same for test; ``None`` uses those of ``val``.
        tokenizer, lowercase, shared_vocabulary, max_tokens, max_length, drop_empty: see
            ``AlignedTexts``.
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is empty or not UTF-8, two files differ in length, or a side of a
            training pair is empty or too long.
    """

    def __init__(
        self,
        train: tuple[FilePath, FilePath],
        val: tuple[FilePath, FilePath],
        test: tuple[FilePath, FilePath] | None = None,
        tokenizer: TokenizerFactory = BPETokenizer,
        lowercase: bool = False,
        shared_vocabulary: bool = False,
        max_tokens: int = 4096,
        max_length: int | None = None,
        drop_empty: bool = False,
    ) -> None:
        super().__init__()
        self.texts = AlignedTexts(
            paths_of(train, val, test),
            tokenizer,
            lowercase=lowercase,
            shared_vocabulary=shared_vocabulary,
            max_tokens=max_tokens,
            max_length=max_length,
            drop_empty=drop_empty,
        )


class _Pairs(NamedTuple):
    """A split: all its lines, the indices of those to use, and the lengths of these."""

    source: Ragged | MappedLines
    target: Ragged | MappedLines
    longer: Tensor
    kept: Tensor
    references: list[str] = []
    directions: list[str] = []


def paths_of(
    train: tuple[str, str], val: tuple[str, str], test: tuple[str, str] | None
) -> dict[Split, tuple[Path, Path]]:
    """Source and target file of each split; those of ``val`` where there are none to test."""
    splits: dict[Split, tuple[str, str]] = {"train": train, "val": val, "test": test or val}
    return {split: (Path(source), Path(target)) for split, (source, target) in splits.items()}


def read_pairs(source: Path, target: Path) -> LinePairs:
    """Lines of two files of equal length.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: one is empty or not UTF-8, or their numbers of lines differ.
    """
    sources, targets = read_lines(source), read_lines(target)
    check_aligned(source, len(sources), target, len(targets))
    return LinePairs(sources, targets, [])


def _first(mask: Tensor) -> int:
    """Number of the first line in a mask, counted from 1."""
    return int(mask.nonzero()[0]) + 1

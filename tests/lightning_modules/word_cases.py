"""A text about two topics whose words never meet, with pairs that say so."""

import itertools
import random
import tempfile
from functools import partial
from pathlib import Path

from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence import Cooccurrences, WordContexts

TOPICS = [[f"{topic}{number}" for number in range(8)] for topic in ("sea", "sky")]
_FOLDER = tempfile.TemporaryDirectory()


def write_topics(folder: Path, num_lines: int = 200) -> Path:
    """The text, with ``rated.tsv`` and ``asked.txt`` beside it."""
    draw = random.Random(0)
    lines = [" ".join(draw.choices(TOPICS[n % 2], k=8)) for n in range(num_lines)]
    (folder / "topics.txt").write_text("\n".join(lines) + "\n")
    words = [(word, topic) for topic in (0, 1) for word in TOPICS[topic]]
    pairs = itertools.combinations(words, 2)
    rated = [f"{one}\t{two}\t{9 if a == b else 1}\n" for (one, a), (two, b) in pairs]
    (folder / "rated.tsv").write_text("# word word rating\n" + "".join(rated) + "sea0\tmoon\t5\n")
    (folder / "asked.txt").write_text(": some\nsea0 sea1 sky0 sky1\nsea0 moon sky0 sun\n")
    return folder / "topics.txt"


_text = write_topics(Path(_FOLDER.name))
_options = {
    "path": str(_text),
    "pairs": [str(_text.with_name("rated.tsv"))],
    "analogies": str(_text.with_name("asked.txt")),
    "min_count": 1,
}
contexts = partial(
    WordContexts, **_options, sample=0, window=3, block_length=8, block_negatives=8, batch_size=1
)
cooccurrences = partial(Cooccurrences, **_options, window=3, batch_size=16)


class AllCounts(Cooccurrences):
    """All pairs in each of five steps of an epoch."""

    def train_loader(self) -> Loader:
        return Loader(5, lambda _: self.cells)


all_counts = partial(AllCounts, **_options, window=3, batch_size=None)

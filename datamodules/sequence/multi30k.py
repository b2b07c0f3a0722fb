"""Image captions in several languages, a small benchmark of translation."""

from typing import Literal

from trellis.datamodules.engine.base import Split
from trellis.datamodules.engine.downloads import fetch
from trellis.datamodules.sequence.parallel_text import AlignedTexts, TranslatedText
from trellis.files import FilePath, data_root
from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tokenizer import TokenizerFactory

Language = Literal["en", "de", "fr", "cs"]
URLS = ("https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw",)
FILES = {
    "train.de.gz": "sha256:726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "sha256:d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.fr.gz": "md5:6cb767741dcad3931f966fefbc05203f",
    "train.cs.gz": "md5:d9a5fc268917725a2b0efce3a0cc8607",
    "val.de.gz": "sha256:f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "sha256:14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.fr.gz": "md5:93fc564584b7e5ba410c761ea5a1c682",
    "val.cs.gz": "md5:83cdc082f646b769095615384cf5c0ca",
    "test_2016_flickr.de.gz": "sha256:"
    "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "sha256:"
    "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.fr.gz": "md5:08dc7cd4a662f31718412de95ca9bfe3",
    "test_2016_flickr.cs.gz": "md5:3104872229daa1bef3b401d44dd2220b",
}
NAMES: dict[Split, str] = {"train": "train", "val": "val", "test": "test_2016_flickr"}


class Multi30k(TranslatedText):
    """29,000 captions of photographs and their translations.

    Batch: ``TokenPairs``; those of evaluation have ``references``. Words below include
    punctuation; the last column counts those that occur at least twice in training.

    ====== ===== ===== ================ ========================== ==================
    train  val   test  language         words per sentence         at least twice
    ====== ===== ===== ================ ========================== ==================
    29,000 1,014 1,000 English / German 13.0 / 12.4                5,972 / 7,852
    ====== ===== ===== ================ ========================== ==================

    Args:
        data_dir: the files are in ``data_dir/multi30k/raw``, or are downloaded there.
        source: language to translate from.
        target: language to translate to.
        tokenizer, lowercase, shared_vocabulary, max_tokens, max_length: see ``AlignedTexts``.
    Raises:
        FileNotFoundError: the files are missing and cannot be downloaded.
        OSError: a file is damaged.
        ValueError: ``source`` is ``target``, or as ``ParallelText``.

    Source: Elliott et al. 2016; the test set is that of 2016.
    """

    def __init__(
        self,
        data_dir: FilePath | None = None,
        source: Language = "de",
        target: Language = "en",
        tokenizer: TokenizerFactory = BPETokenizer,
        lowercase: bool = True,
        shared_vocabulary: bool = False,
        max_tokens: int = 4096,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        if source == target:
            raise ValueError(f"source={source!r} is also the target: choose two languages")
        self.raw = data_root(data_dir) / "multi30k" / "raw"
        self.texts = AlignedTexts(
            {
                split: (self.raw / f"{name}.{source}.gz", self.raw / f"{name}.{target}.gz")
                for split, name in NAMES.items()
            },
            tokenizer,
            lowercase=lowercase,
            shared_vocabulary=shared_vocabulary,
            max_tokens=max_tokens,
            max_length=max_length,
        )

    def prepare_data(self) -> None:
        names = [path.name for paths in self.texts.files.values() for path in paths]
        fetch(self.raw, {name: FILES[name] for name in names}, URLS)

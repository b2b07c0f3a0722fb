import gzip
import hashlib
import time
import urllib.error
from functools import cache
from pathlib import Path

import pytest
import sacrebleu

from trellis.datamodules.sequence.multi30k import FILES, Multi30k
from trellis.sequence.tokenizer import WordTokenizer

COUNTS = {"train": 30, "val": 5, "test_2016_flickr": 4}


@pytest.fixture
def look_alike(tmp_path: Path) -> Path:
    raw = tmp_path / "multi30k" / "raw"
    raw.mkdir(parents=True)
    for name, count in COUNTS.items():
        for language in ("de", "en", "fr"):
            text = "".join(f"{language} {name} Nr {n}\n" for n in range(count))
            (raw / f"{name}.{language}.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def ready(folder: Path | str, stage: str | None = None, **options) -> Multi30k:
    data = Multi30k(data_dir=str(folder), **options)
    data.prepare_data()
    data.setup(stage)
    return data


@pytest.mark.parametrize(("source", "target"), [("de", "en"), ("en", "de"), ("fr", "en")])
def test_either_direction_of_any_two_languages(look_alike: Path, source: str, target: str) -> None:
    data = ready(look_alike, source=source, target=target, tokenizer=WordTokenizer)
    assert [data.texts.splits[s].source.lengths.numel() for s in ("train", "val", "test")] == [
        30,
        5,
        4,
    ]
    (batch,) = data.predict_dataloader()
    assert batch.references == tuple(f"{target} test_2016_flickr nr {n}" for n in range(4))
    assert data.texts.source.decode(batch.source[0].tolist()) == f"{source} nr 0"
    assert data.texts.source.lowercase


def test_a_language_is_not_its_own_translation() -> None:
    with pytest.raises(ValueError, match="source='en' is also the target"):
        Multi30k(source="en", target="en")


def test_without_files_or_network_the_first_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def unreachable(url: str, timeout: float) -> None:
        asked.append(url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(FileNotFoundError, match=r"train\.de\.gz is not in .*multi30k/raw"):
        Multi30k(data_dir=str(tmp_path)).prepare_data()
    assert asked == [
        "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/train.de.gz"
    ]


def test_a_damaged_file_is_named(look_alike: Path) -> None:
    path = look_alike / "multi30k" / "raw" / "val.en.gz"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(OSError, match=r"val\.en\.gz is damaged"):
        ready(look_alike)


@pytest.mark.data
def test_the_published_checksums_are_those_of_the_files(data_dir: str) -> None:
    for path in sorted((Path(data_dir) / "multi30k" / "raw").glob("*.gz")):
        assert FILES[path.name] == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def captions(folder: str) -> Multi30k:
    return ready(folder, tokenizer=WordTokenizer)


@pytest.mark.data
def test_the_real_captions(data_dir: str) -> None:
    data = captions(data_dir)
    sizes = [len(data.texts.splits[split].longer) for split in ("train", "val", "test")]
    assert sizes == [29_000, 1_014, 1_000]
    # Words met twice, and the four special ids: the notebooks' 7,853 and 5,893 are spaCy's.
    twice = [
        ready(data_dir, "test", source=s, target=t, tokenizer=Twice).spec.source.num_tokens
        for s, t in (("de", "en"), ("en", "de"))
    ]
    assert twice == [7_856, 5_976]


class Twice(WordTokenizer):
    def __init__(self, texts, *, lowercase=False):  # type: ignore[no-untyped-def]
        super().__init__(texts, min_count=2, lowercase=lowercase)

    def to_json(self) -> str:
        return super().to_json().replace("Twice", "WordTokenizer")


@pytest.mark.data
@pytest.mark.parametrize("shared", [False, pytest.param(True, marks=pytest.mark.long)])
def test_real_targets_decode_to_the_references(data_dir: str, shared: bool) -> None:
    data = ready(data_dir, "test", shared_vocabulary=shared)
    assert data.spec.target.num_tokens == 8000
    assert (data.spec.source == data.spec.target) is shared
    texts, references = [], []
    for batch in data.test_dataloader():
        texts += [data.texts.target.decode(row) for row in batch.target.tolist()]
        references += batch.references
    assert len(references) == 1000
    assert sacrebleu.corpus_bleu(texts, [references], tokenize="13a").score > 99.99


@pytest.mark.data
def test_real_batches_are_full_and_cheap(data_dir: str) -> None:
    data, real, padded = captions(data_dir), 0, 0
    loader = data.train_dataloader()
    start = time.process_time()
    batches = list(loader)
    assert (time.process_time() - start) / len(batches) < 1e-3
    for batch in batches:
        for side in (batch.source, batch.target):
            assert side.numel() <= 4096
            real, padded = real + int((side != 0).sum()), padded + side.numel()
    assert real / padded > 0.92

"""Sentences of small files in the layout of the repository, and the counts of the real ones."""

import gzip
from pathlib import Path

import pytest
import torch
from sequence_cases import check_exact_resume

from trellis.datamodules.sequence import LabelledSentences
from trellis.datamodules.sequence.labelled_sentences import FILES
from trellis.sequence.tokenizer import BOS, EOS


def write(folder: Path, name: str, lines: list[str]) -> None:
    (folder / "sentence_classification").mkdir(exist_ok=True)
    content = "".join(f"{line}\n" for line in lines).encode("latin-1")
    (folder / "sentence_classification" / f"{name}.gz").write_bytes(gzip.compress(content))


def ready(folder: Path | str, name: str, **options) -> LabelledSentences:
    data = LabelledSentences(name, str(folder), **options)
    data.prepare_data()
    data.setup()
    return data


def texts(data: LabelledSentences, split: str) -> list[str]:
    return [data.tokenizer.decode(row) for x, _ in data.loader(split) for row in x.tolist()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    numbered = [f"{n % 3} Word{n} , sentence caf\xe9\x85 {n}" for n in range(100)]
    write(tmp_path, "TREC.train.all", numbered)
    write(tmp_path, "rt-polarity.all", numbered)
    write(tmp_path, "TREC.test.all", ["2 how far , word1 ?", "0 why"])
    return tmp_path


def test_a_label_and_words_between_spaces(folder: Path) -> None:
    data = ready(folder, "TREC")
    assert data.spec.classes == ("0", "1", "2")
    ((tokens, labels),) = data.predict_dataloader()
    assert labels.tolist() == [2, 0]
    assert (tokens[:, 0] == BOS).all()
    assert (tokens == EOS).sum(1).tolist() == [1, 1]
    assert tokens.shape == (2, 7)
    words = set(data.tokenizer.words)
    assert {",", "sentence", "caf\xe9"} <= words, "in lower case, read as latin-1"
    assert len(data.splits["train"][1]) == 90, "no line ends at a control character in it"


def test_one_tenth_validates_where_no_file_does(folder: Path) -> None:
    data = ready(folder, "TREC")
    train, val = texts(data, "train"), texts(data, "val")
    assert (len(train), len(val)) == (90, 10)
    assert texts(ready(folder, "TREC"), "val") == val
    loaders = [ready(folder, "TREC", max_tokens=80).loader("train") for _ in range(2)]
    check_exact_resume(*loaders)


def test_each_tenth_of_a_set_without_split_tests_once(folder: Path) -> None:
    tested, numbers = [], set(range(100))
    for fold in range(10):
        data = ready(folder, "MR", fold=fold, tokenizer=None)
        parts = {name: [int(y) for y in data.splits[name][1]] for name in ("train", "val", "test")}
        assert {name: len(part) for name, part in parts.items()} == {
            "train": 80,
            "val": 10,
            "test": 10,
        }
        _, _, sentences = data.read("test")
        tested += [int(sentence.split()[-1]) for sentence in sentences]
        apart = [{*data.read(split)[2]} for split in ("train", "val", "test")]
        assert len(set.union(*apart)) == 100
    assert sorted(tested) == sorted(numbers)


def test_what_is_wrong_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="name='TRECK'.*TREC"):
        LabelledSentences("TRECK", str(folder))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fold=10: give 0 to 9"):
        LabelledSentences("MR", str(folder), fold=10)
    with pytest.raises(FileNotFoundError, match=r"stsa\.binary\.train\.gz is missing"):
        ready(folder, "SST-2")
    write(folder, "TREC.test.all", ["2 how", "why"])
    with pytest.raises(ValueError, match=r"TREC\.test\.all\.gz, line 2: 'why' is not a label"):
        ready(folder, "TREC")
    write(folder, "TREC.test.all", ["2 how", "7 why not"])
    with pytest.raises(ValueError, match="label '7' is not in the training file"):
        ready(folder, "TREC")


COUNTS = {
    "MR": (8528, 1067, 1067, 2),
    "SST-2": (6920, 872, 1821, 2),
    "SST-5": (8544, 1101, 2210, 5),
    "TREC": (4906, 546, 500, 6),
}


@pytest.mark.data
@pytest.mark.parametrize("name", FILES)
def test_the_real_files_have_the_counts_of_the_papers(data_dir: str, name: str) -> None:
    data = ready(data_dir, name)
    sizes = tuple(len(data.splits[split][1]) for split in ("train", "val", "test"))
    assert (*sizes, data.spec.out_channels) == COUNTS[name]
    assert torch.equal(data.splits["test"][1].unique(), torch.arange(COUNTS[name][-1]))


def test_a_few_labels_are_a_part_of_all_and_the_same_each_time(folder: Path) -> None:
    whole, few = ready(folder, "TREC"), ready(folder, "TREC", num_train=7)
    chosen = texts(few, "train")
    assert len(chosen) == 7
    assert set(chosen) < set(texts(whole, "train"))
    assert sorted(chosen) == sorted(texts(ready(folder, "TREC", num_train=7), "train"))
    assert few.spec == whole.spec, "vocabulary and classes are those of all"
    assert texts(few, "val") == texts(whole, "val")
    label = {
        whole.tokenizer.decode(row): y
        for x, ys in whole.loader("train")
        for row, y in zip(x.tolist(), ys.tolist(), strict=True)
    }
    for x, ys in few.loader("train"):
        for row, y in zip(x.tolist(), ys.tolist(), strict=True):
            assert label[few.tokenizer.decode(row)] == y
    with pytest.raises(ValueError, match="num_train=91: .* has 90 sentences"):
        ready(folder, "TREC", num_train=91)

import logging
from pathlib import Path

import pytest
import torch
from sequence_cases import check_exact_resume, written

from trellis.datamodules.sequence.labelled_text import LabelledText
from trellis.sequence.tokenizer import BOS, EOS, PAD, UNKNOWN, CharTokenizer
from trellis.spec import LabelledTokenSpec

TRAIN = "pos\tA good, good film.\nneg\tBad\npos\tgood\tfilm\n"


def ready(folder: Path, train: str = TRAIN, val: str = "neg\tgood grief\n", **options):
    data = LabelledText(
        written(folder, "train.tsv", train), written(folder, "val.tsv", val), **options
    )
    data.prepare_data()
    data.setup()
    return data


def test_batches_hold_texts_and_labels(tmp_path: Path) -> None:
    data = ready(tmp_path, lowercase=True)
    assert data.spec == LabelledTokenSpec(data.tokenizer.spec, 2, ("neg", "pos"))
    ((tokens, labels),) = data.train_dataloader()
    found = {
        data.tokenizer.decode(row): data.spec.classes[label]
        for row, label in zip(tokens.tolist(), labels.tolist(), strict=True)
    }
    assert found == {"a good, good film.": "pos", "bad": "neg", "good film": "pos"}
    assert (tokens[:, 0] == BOS).all()
    assert ((tokens == EOS).sum(1) == 1).all()
    assert tokens.shape == (3, 8)
    ((tokens, labels),) = data.test_dataloader()
    assert tokens[0, 2] == UNKNOWN
    assert labels.tolist() == [0]


def test_predictions_follow_the_file_and_budgets_hold(tmp_path: Path) -> None:
    texts = ["good " * (n * 5 % 7 + 1) for n in range(60)]
    many = "".join(f"{'pos' if len(t) > 20 else 'neg'}\t{t}\n" for t in texts)
    data = ready(tmp_path, train=many, val=many, max_tokens=36)
    lengths = [int(n) - 2 for x, _ in data.predict_dataloader() for n in (x != PAD).sum(1)]
    assert lengths == [n * 5 % 7 + 1 for n in range(60)]
    for loader in (data.train_dataloader(), data.val_dataloader(), data.predict_dataloader()):
        for tokens, labels in loader:
            assert tokens.numel() <= 36
            assert torch.equal(labels == 1, (tokens != PAD).sum(1) > 6)
    check_exact_resume(data.train_dataloader(), data.train_dataloader())


@pytest.mark.parametrize("header", ["label\ttext", "Sentiment\tReview", "class\tsentence"])
def test_a_header_is_no_class(tmp_path: Path, header: str) -> None:
    data = ready(tmp_path, train=f"{header}\n{TRAIN}", val=f"{header}\nneg\tgood\n")
    assert data.spec.classes == ("neg", "pos")
    assert sum(len(labels) for _, labels in data.train_dataloader()) == 3
    with pytest.raises(ValueError, match=r"val\.tsv, line 3: label 'so' is not"):
        ready(tmp_path, train=TRAIN, val=f"{header}\npos\ta\nso\tb\n")
    with pytest.raises(ValueError, match="holds a header and no texts"):
        ready(tmp_path, train=f"{header}\n")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (TRAIN + "NA\tdull\n", r"train\.tsv: label 'NA' stands for a missing value, 1 times"),
        (TRAIN + "nan\tdull\n", "label 'nan' stands for a missing value"),
        ("2.5\tgood\n4.0\tbetter\n1\tbad\n", "labels are 3 real numbers, such as 4.0"),
        ("".join(f"text {i}\tpos\n" for i in range(12)), "12 examples have 12 different labels"),
    ],
)
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, train: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ready(tmp_path, train=train)


def test_whole_numbers_are_classes(tmp_path: Path) -> None:
    assert ready(tmp_path, "1\ta\n5\tb\n", "5\ta\n").spec.classes == ("1", "5")


def test_long_texts_are_refused_or_cut_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = TRAIN + "neg\t" + "bad " * 50 + "\n"
    with pytest.raises(ValueError, match=r"tsv, line 4: a text of 52 tokens, .* max_length"):
        ready(tmp_path, train=train, max_tokens=51)
    with caplog.at_level(logging.INFO):
        data = ready(tmp_path, train=train, max_length=7)
    assert "2 of 4 texts are truncated to max_length=7 tokens" in caplog.text
    texts = {data.tokenizer.decode(row) for x, _ in data.train_dataloader() for row in x.tolist()}
    assert texts == {"A good, good film", "Bad", "good film", "bad bad bad bad bad"}
    assert ready(tmp_path, train=train, max_tokens=52)


@pytest.mark.parametrize(
    ("train", "val", "options", "message"),
    [
        ("", TRAIN, {}, r"train\.tsv is empty"),
        (
            "pos\tgood\nbad film\n",
            TRAIN,
            {},
            r"train\.tsv, line 2: 'bad film' is not label<TAB>",
        ),
        ("pos\tgood\n\n", TRAIN, {}, r"train\.tsv, line 2: '' is not"),
        ("pos\t \n", TRAIN, {}, r"train\.tsv, line 1: 'pos' is not"),
        (
            TRAIN,
            "pos\ta\nso\tb\n",
            {},
            r"val\.tsv, line 2: label 'so' is not in the training file.* neg, pos",
        ),
        (TRAIN, TRAIN, {"max_tokens": 0}, "max_tokens=0"),
        (TRAIN, TRAIN, {"max_length": 2}, "max_length=2: give 3 to max_tokens=4096"),
        (TRAIN, TRAIN, {"tokenizer": CharTokenizer}, "CharTokenizer has no pad_id"),
    ],
)
def test_bad_input_is_named_with_the_line(
    tmp_path: Path, train: str, val: str, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ready(tmp_path, train, val, **options)

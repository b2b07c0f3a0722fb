import gzip
from pathlib import Path

import pytest
import torch
from sequence_cases import check_exact_resume, written

from trellis.datamodules.sequence.conll import CoNLL, read_columns
from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tokenizer import BOS, EOS, PAD, UNKNOWN, CharTokenizer
from trellis.spec import LabelledTokenSpec

NEWS = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC
call NN I-NP O
. . O O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER


U.N. NNP I-NP I-ORG
"""
VALIDATION = "Peter NNP I-NP I-PER\nsings VBZ I-VP O"
TREE = """# sent_id = 1
# text = Don't (#1)
1-2\tDon't\t_\t_\t_
1\tDo\tdo\tAUX\t_
2\tn't\tnot\tPART\t_
2.1\tgo\tgo\tVERB\t_
#
3\t#1 a\t#1 a\tNUM\t_
"""


def ready(folder: Path, train: str = NEWS, val: str = VALIDATION, **options) -> CoNLL:
    data = CoNLL(written(folder, "train.txt", train), written(folder, "val.txt", val), **options)
    data.prepare_data()
    data.setup()
    return data


def test_sentences_are_as_the_file_has_them(tmp_path: Path) -> None:
    sentences = read_columns(Path(written(tmp_path, "f", NEWS)), 0, -1, "")
    assert [sentence.line for sentence in sentences] == [3, 9, 13]
    assert [" ".join(sentence.words) for sentence in sentences] == [
        "EU rejects German call .", "Peter Blackburn", "U.N."
    ]  # fmt: skip
    assert sentences[0].tags == ["I-ORG", "O", "I-MISC", "O", "O"]
    parts = read_columns(Path(written(tmp_path, "f", NEWS)), 0, 1, "")
    assert parts[1].tags == ["NNP", "NNP"]


@pytest.mark.parametrize("header", ["token pos chunk ner", "Word POS Chunk Tag"])
def test_a_header_is_no_tag(tmp_path: Path, header: str) -> None:
    for text in (f"{header}\n\n{NEWS}", f"{header}\n{NEWS.partition('O O')[2].strip()}"):
        data = ready(tmp_path, text)
        assert data.spec.classes == ("I-MISC", "I-ORG", "I-PER", "O")
        assert len(data.splits["train"][0]) == 3
        sentences = read_columns(Path(written(tmp_path, "f", text)), 0, -1, "")
        assert sentences[0].words[0] == "EU"
        assert text.split("\n")[sentences[0].line - 1].startswith("EU")


def test_tags_that_are_missing_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.txt: label 'NaN' stands for a missing value"):
        ready(tmp_path, "Peter NaN\nsings O\n", "sings O")


def test_conll_u_is_read(tmp_path: Path) -> None:
    (sentence,) = read_columns(Path(written(tmp_path, "f", TREE)), 1, 3, "# ")
    assert sentence.words == ["Do", "n't", "#1 a"]
    assert sentence.tags == ["AUX", "PART", "NUM"]
    hashes = read_columns(Path(written(tmp_path, "g", "#good A\n# B\n")), 0, 1, "")
    assert hashes[0].words == ["#good", "#"]
    scores = read_columns(Path(written(tmp_path, "h", "won O\n1-0 SCORE\n")), 0, 1, "")
    assert scores[0].words == ["won", "1-0"]


def test_words_are_tokens_and_ends_and_padding_have_no_tag(tmp_path: Path) -> None:
    data = ready(tmp_path)
    tokens, tags = (torch.cat(part) for part in zip(*data.loader("train"), strict=True))
    assert tokens.shape == tags.shape == (3, 7)
    by_length = tags[(tokens != PAD).sum(1).argsort()]
    assert by_length.tolist() == [
        [-100, 1, -100, -100, -100, -100, -100],
        [-100, 2, 2, -100, -100, -100, -100],
        [-100, 1, 3, 0, 3, 3, -100],
    ]
    assert data.spec == LabelledTokenSpec(
        data.tokenizer.spec, 4, ("I-MISC", "I-ORG", "I-PER", "O")
    )
    assert ((tokens == BOS) | (tokens == EOS) | (tokens == PAD) == (tags == -100)).all()
    words = {data.tokenizer.decode([token]) for token in tokens.unique().tolist()}
    assert "U.N." in words
    ((tokens, tags),) = data.val_dataloader()
    assert tokens[0, 2] == UNKNOWN, "sings is not among the training words"
    assert tags.tolist() == [[-100, 2, 3, -100]]


def test_of_several_pieces_the_first_has_the_tag(tmp_path: Path) -> None:
    data = ready(tmp_path, tokenizer=BPETokenizer, lowercase=True)
    for tokens, tags in data.predict_dataloader():
        for row, labels in zip(tokens.tolist(), tags.tolist(), strict=True):
            starts = [i for i, label in enumerate(labels) if label >= 0]
            ends = [*starts[1:], row.index(EOS)]
            words = [data.tokenizer.decode(row[a:b]) for a, b in zip(starts, ends, strict=True)]
            assert words == ["peter", "sings"]
            assert [data.spec.classes[labels[i]] for i in starts] == ["I-PER", "O"]
            assert row[0] == BOS
            assert len(row) > len(words) + 2


def test_batches_stay_within_the_budget_and_resume(tmp_path: Path) -> None:
    train = "\n\n".join("\n".join(["w O"] * (n % 9 + 1)) for n in range(100))
    data = ready(tmp_path, train, "w O", max_tokens=44)
    assert max(tokens.numel() for tokens, _ in data.train_dataloader()) <= 44
    check_exact_resume(data.train_dataloader(), data.train_dataloader())


def test_a_few_sentences_are_a_part_of_all_and_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "CoNLL2000" / "raw").mkdir(parents=True)
    tags = ("B-NP", "I-NP", "O")
    for name in ("train", "test"):
        lines = "\n\n".join(f"w{n} {tags[n % 3]}" for n in range(60))
        path = tmp_path / "CoNLL2000" / "raw" / f"{name}.txt.gz"
        path.write_bytes(gzip.compress(lines.encode()))

    def named(train: int | None) -> CoNLL:
        data = CoNLL(train, 10, name="CoNLL2000", data_dir=str(tmp_path))
        data.prepare_data()
        data.setup()
        return data

    whole, few, again = named(None), named(5), named(5)
    assert few.spec == whole.spec, "vocabulary and tags are those of all"
    assert few.hparams["train"] == 5
    (pairs,) = few.loader("train")
    assert len(pairs[0]) == 5
    for tokens, labels in zip(*pairs, strict=True):
        number = int(few.tokenizer.decode([int(tokens[1])])[1:])
        assert few.spec.classes[labels[1]] == tags[number % 3]
    ((tokens, _),) = again.loader("train")
    assert torch.equal(tokens.sort(0).values, pairs[0].sort(0).values)
    assert torch.equal(next(iter(few.loader("val")))[0], next(iter(whole.loader("val")))[0])
    for train, message in ((0, "train=0: give at least 1"), (51, "train=51: .*50 sentences")):
        with pytest.raises(ValueError, match=message):
            named(train)


def test_predictions_follow_the_file(tmp_path: Path) -> None:
    lengths = [3, 1, 2, 1, 3, 3, 1]
    val = "\n\n".join("\n".join(["Peter NNP I-NP O"] * n) for n in lengths)
    data = ready(tmp_path, val=val, max_tokens=10)
    found = [int(n) for _, tags in data.predict_dataloader() for n in (tags >= 0).sum(1)]
    assert found == lengths


def test_classes_can_be_named(tmp_path: Path) -> None:
    val = "\nPeter NNP I-NP I-PER\nPan NNP I-NP B-PER\n"
    with pytest.raises(ValueError, match=r"val\.txt, line 3: tag 'B-PER' is none of I-MISC.*clas"):
        ready(tmp_path, val=val)
    classes = ("O", "B-PER", "I-PER", "I-ORG", "I-MISC")
    data = ready(tmp_path, val=val, classes=classes)
    assert data.spec.classes == classes
    ((_, tags),) = data.val_dataloader()
    assert tags.tolist() == [[-100, 2, 1, -100]]


def test_the_last_sentences_validate_where_no_file_does(tmp_path: Path) -> None:
    data = CoNLL(written(tmp_path, "train.txt", NEWS), val=1)
    data.setup()
    assert [len(data.splits[split][0]) for split in ("train", "val", "test")] == [2, 1, 1]
    ((tokens, tags),) = data.val_dataloader()
    assert tokens.tolist() == [[BOS, UNKNOWN, EOS]], "U.N. is in no sentence that is trained on"
    assert tags.tolist() == [[-100, data.classes.index("I-ORG"), -100]]
    for val, message in ((3, r"val=3: .*has 3 sentences"), (0, "val=0: give at least 1")):
        with pytest.raises(ValueError, match=message):
            CoNLL(written(tmp_path, "train.txt", NEWS), val=val).setup()
    with pytest.raises(ValueError, match="train=None: give the path"):
        CoNLL()


@pytest.mark.parametrize("tokenizer", [None, BPETokenizer])
def test_each_token_has_the_letters_of_its_word(tmp_path: Path, tokenizer) -> None:
    data = ready(tmp_path, characters=True, lowercase=True, tokenizer=tokenizer)
    assert data.spec.characters
    ((tokens, characters), tags), *_ = data.val_dataloader()
    assert characters.shape == (*tokens.shape, len("Peter"))
    words = [bytes(x - 1 for x in row if x).decode() for row in characters[0].tolist()]
    assert [words[i] for i in (tags[0] >= 0).nonzero().flatten()] == ["Peter", "sings"]
    assert {*words} == {"", "Peter", "sings"}
    special = (tokens == BOS) | (tokens == EOS)
    assert torch.equal(characters.sum(-1) == 0, special)


@pytest.mark.data
def test_conll2000_is_as_published(data_dir: str) -> None:
    data = CoNLL(name="CoNLL2000", data_dir=data_dir)
    data.prepare_data()
    data.setup()
    sizes = {split: len(tokens) for split, (tokens, _) in data.splits.items()}
    assert sizes == {"train": 7936, "val": 1000, "test": 2012}
    assert int((data.splits["test"][1]._flat >= 0).sum()) == 47_377
    assert len(data.spec.classes) == 23


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"train\.txt is empty"),
        ("-DOCSTART- O\n\n", {}, r"train\.txt holds no sentence"),
        ("a X O\nb O\nc X O", {}, r"train\.txt, line 2: 2 columns instead of 3: 'b O'"),
        ("a X O\n\n\nb X O\nc\td", {}, r"train\.txt, line 5: 2 columns instead of 3"),
        ("a O", {"tag_column": 3}, r"tag_column=3: .*train\.txt has 2 columns"),
        ("a O", {"word_column": -3}, r"word_column=-3: .*train\.txt has 2 columns"),
        (
            "x O\n\n" + "a O\n" * 9,
            {"max_tokens": 10},
            r"line 3: a sentence of 11 tokens, more",
        ),
        ("a O", {"max_tokens": 0}, "max_tokens=0"),
        ("a O", {"tokenizer": CharTokenizer}, "CharTokenizer has no pad_id"),
    ],
)
def test_bad_files_are_named_with_the_line(
    tmp_path: Path, text: str, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ready(tmp_path, text, "a O", **options)

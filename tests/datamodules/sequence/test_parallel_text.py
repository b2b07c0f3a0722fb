import json
import logging
from collections.abc import Iterable
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser
from sequence_cases import check_exact_resume, plain, written

from trellis.datamodules.sequence.parallel_text import ParallelText, read_pairs
from trellis.sequence.batches import TokenPairs
from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tokenizer import BOS, EOS, PAD, CharTokenizer, WordTokenizer, from_json
from trellis.spec import TokenPairSpec, differences

NUMBERS = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"]
ENGLISH = ["One", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def lines(words: list[str], number: int, shift: int = 0) -> list[str]:
    """Line n counts as far as n modulo the words allows."""
    return [" ".join(words[: (n + shift) % len(words) + 1]) for n in range(number)]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """80 pairs to train on, 15 to validate, 12 to test."""
    return {
        split: tuple(
            written(tmp_path, f"{split}.{name}", "\n".join(lines(words, number)) + "\n")
            for name, words in (("de", NUMBERS), ("en", ENGLISH))
        )
        for split, number in (("train", 80), ("val", 15), ("test", 12))
    }


def ready(files: dict[str, tuple[str, str]], stage: str | None = None, **options) -> ParallelText:
    options = {"tokenizer": WordTokenizer, "max_tokens": 40} | options
    data = ParallelText(**files, **options)
    data.prepare_data()
    data.setup(stage)
    return data


def served(data: ParallelText, batches: list[TokenPairs]) -> list[tuple[str, str]]:
    return [
        (data.texts.source.decode(source), data.texts.target.decode(target))
        for batch in batches
        for source, target in zip(batch.source.tolist(), batch.target.tolist(), strict=True)
    ]


@pytest.mark.parametrize("tokenizer", [WordTokenizer, BPETokenizer])
def test_batches_hold_the_pairs_of_the_files(files: dict, tokenizer: type) -> None:
    data = ready(files, tokenizer=tokenizer)
    for split, number in (("train", 80), ("val", 15), ("test", 12)):
        batches = list(data.loader(split))
        pairs = list(zip(lines(NUMBERS, number), lines(ENGLISH, number), strict=True))
        assert sorted(served(data, batches)) == sorted(pairs)
        for batch in batches:
            assert (batch.target[:, 0] == BOS).all()
            for side in (batch.source, batch.target):
                ends = (side == EOS).int()
                assert (ends.sum(1) == 1).all()
                after = ends.cumsum(1).bool() & (side != EOS)
                assert (side[after] == PAD).all()
                assert not (side[~after] == PAD).any()
                assert side.numel() <= 40
            assert batch.source.size(1) == (batch.source != PAD).sum(1).max()


def test_evaluation_has_references_and_training_none(files: dict) -> None:
    data = ready(files)
    for split in ("val", "test"):
        for batch in data.loader(split):
            texts = [data.texts.target.decode(row) for row in batch.target.tolist()]
            assert list(batch.references) == texts
    assert all(batch.references == () for batch in data.train_dataloader())


class FrequentWords(WordTokenizer):
    """Only words met thirty times are known."""

    def __init__(self, texts: Iterable[str], *, lowercase: bool = False) -> None:
        super().__init__(texts, min_count=30, lowercase=lowercase)


def test_references_are_the_lines_even_where_words_are_unknown(files: dict) -> None:
    data = ready(files, tokenizer=FrequentWords, lowercase=True)
    batches = list(data.val_dataloader())
    references = [text for batch in batches for text in batch.references]
    assert sorted(references) == sorted(text.lower() for text in lines(ENGLISH, 15))
    assert sorted(references) != sorted(text for _, text in served(data, batches))


def test_predictions_follow_the_file(files: dict) -> None:
    data = ready(files, "predict")
    batches = list(data.predict_dataloader())
    assert len(batches) > 2
    assert served(data, batches) == list(zip(lines(NUMBERS, 12), lines(ENGLISH, 12), strict=True))
    assert [text for batch in batches for text in batch.references] == lines(ENGLISH, 12)
    assert set(data.texts.splits) == {"test"}


def test_the_vocabularies_come_from_training_alone(files: dict, tmp_path: Path) -> None:
    files["val"] = tuple(written(tmp_path, f"odd.{n}", "one seltsam\n") for n in ("de", "en"))
    data = ready(files)
    assert sorted(data.texts.source.words) == sorted(NUMBERS)
    assert sorted(data.texts.target.words) == sorted(ENGLISH)
    assert data.spec == TokenPairSpec(data.texts.source.spec, data.texts.target.spec)
    assert from_json(data.spec.target.tokenizer) == data.texts.target


def test_a_shared_vocabulary_is_one(files: dict) -> None:
    data = ready(files, shared_vocabulary=True)
    assert data.spec.source == data.spec.target
    assert sorted(data.texts.source.words) == sorted(NUMBERS + ENGLISH)


def test_lowercase_reaches_tokenizers_and_references(files: dict) -> None:
    data = ready(files, lowercase=True)
    assert data.texts.target.lowercase
    assert "one" in data.texts.target.words
    assert "One" not in data.texts.target.words
    assert all(text.islower() for batch in data.test_dataloader() for text in batch.references)


def test_stages_in_any_order_learn_the_same(files: dict) -> None:
    first, second = ready(files, "test"), ready(files, "fit")
    assert first.spec == second.spec
    second.setup("test")
    assert plain(first.test_dataloader()) == plain(second.test_dataloader())
    second.setup("test")
    assert set(second.texts.splits) == {"train", "val", "test"}


def test_epochs_resume_exactly(files: dict) -> None:
    data = ready(files, max_tokens=20)
    check_exact_resume(data.train_dataloader(), data.train_dataloader())
    loader, companions = data.train_dataloader(), []
    for epoch in range(2):
        loader.set_epoch(epoch)
        companions.append({frozenset(batch.tolist()) for batch in loader.batches()})
    assert len(companions[0]) == len(companions[1])
    assert companions[0] != companions[1]


def test_without_test_files_validation_files_test(files: dict) -> None:
    del files["test"]
    assert plain(ready(files).test_dataloader()) == plain(ready(files).val_dataloader())


def test_two_files_of_different_length_are_both_counted(tmp_path: Path) -> None:
    source, target = (
        Path(written(tmp_path, name, "a\n" * number)) for name, number in (("s", 1200), ("t", 3))
    )
    with pytest.raises(ValueError, match=r"/s has 1,200 lines and .*/t has 3: line n"):
        read_pairs(source, target)


def with_line(files: dict, tmp_path: Path, line: int, text: str) -> dict:
    """The same with line ``line`` of the training sources replaced."""
    changed = lines(NUMBERS, 80)
    changed[line - 1] = text
    path = written(tmp_path, "changed.de", "\n".join(changed) + "\n")
    return files | {"train": (path, files["train"][1])}


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_side_is_refused_or_left_out_and_counted(
    files: dict, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = with_line(files, tmp_path, 17, text)
    with pytest.raises(ValueError, match=r"line 17: empty .* first of 1; .* drop_empty=True"):
        ready(files)
    with caplog.at_level(logging.INFO):
        data = ready(files, drop_empty=True)
    assert "1 of 80 training pairs are left out, 1 with an empty side" in caplog.text
    pairs = served(data, list(data.train_dataloader()))
    assert len(pairs) == 79
    assert all(source for source, _ in pairs)


def test_empty_lines_of_evaluation_stay(files: dict, tmp_path: Path) -> None:
    files["test"] = (
        written(tmp_path, "s", "eins\n\nzwei\n"),
        written(tmp_path, "t", "One\n\ntwo\n"),
    )
    data = ready(files)
    (batch,) = data.predict_dataloader()
    assert batch.references == ("One", "", "two")
    assert batch.source[1].tolist() == [EOS, PAD]


def test_a_side_longer_than_the_budget_is_refused_or_left_out(
    files: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = with_line(files, tmp_path, 3, "eins " * 1500)
    with pytest.raises(ValueError, match=r"line 3: 1,501 tokens, more .*40: .* max_length"):
        ready(files)
    with caplog.at_level(logging.INFO):
        data = ready(files, max_length=10)
    kept = served(data, list(data.train_dataloader()))
    # Of ten words, bos and eos make twelve; of nine, eleven; of eight, ten.
    assert len(kept) == 80 - 8 - 8 - 1
    assert "17 of 80 training pairs are left out" in caplog.text
    assert "17 longer than max_length=10" in caplog.text
    assert max(batch.target.size(1) for batch in data.train_dataloader()) == 10
    assert max(batch.target.size(1) for batch in data.val_dataloader()) == 12, "none is dropped"


def test_a_long_side_of_evaluation_is_alone(files: dict, tmp_path: Path) -> None:
    files["val"] = (
        written(tmp_path, "s", "eins\n" + "zwei " * 10_000 + "\neins\n"),
        written(tmp_path, "t", "One\ntwo\nOne\n"),
    )
    shapes = sorted(tuple(batch.source.shape) for batch in ready(files).val_dataloader())
    assert shapes == [(1, 10_001), (2, 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens=0: give at least 1"),
        ({"max_length": 2}, "max_length=2: give 3 to max_tokens=40"),
        ({"max_length": 41}, "max_length=41: give 3 to max_tokens=40"),
        ({"max_length": 3, "tokenizer": CharTokenizer}, "CharTokenizer has no pad_id: .*special"),
    ],
)
def test_options_are_checked(files: dict, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ready(files, **options)


def test_nothing_left_to_train_on_is_refused(files: dict, tmp_path: Path) -> None:
    files["train"] = (written(tmp_path, "s", "a a a\n"), written(tmp_path, "t", "a a a\n"))
    with pytest.raises(ValueError, match="no training pairs are left; raise max_length"):
        ready(files, max_length=3)


def test_the_command_line_chooses_tokenizers_by_name(files: dict, tmp_path: Path) -> None:
    config = {
        "class_path": "ParallelText",
        "init_args": {split: list(paths) for split, paths in files.items()}
        | {"tokenizer": {"class_path": "BPETokenizer", "init_args": {"num_tokens": 280}}},
    }
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ParallelText, "data")
    data = parser.instantiate(parser.parse_object({"data": config})).data
    data.setup("fit")
    assert data.spec.target.num_tokens == 280
    stored = json.loads(json.dumps(dict(data.hparams)))
    assert stored["tokenizer"]["init_args"]["num_tokens"] == 280


def test_the_vocabulary_of_another_checkpoint_is_refused_in_one_line(files: dict) -> None:
    """What the base of the objectives compares when a checkpoint meets other data."""
    words, pieces = ready(files), ready(files, tokenizer=BPETokenizer)
    wrong = differences(words.spec, pieces.spec)
    assert [line.partition(":")[0] for line in wrong] == [
        "source.num_tokens", "source.tokenizer", "target.num_tokens", "target.tokenizer"
    ]  # fmt: skip
    assert len("; ".join(wrong)) < 300


def test_references_have_the_normal_form_of_the_tokenizer(files: dict, tmp_path: Path) -> None:
    """Else BLEU would count every accent as an error."""
    files["val"] = tuple(written(tmp_path, f"form.{n}", "fu\u0308nf\n") for n in ("de", "en"))
    (batch,) = ready(files).val_dataloader()
    assert batch.references == ("fünf",)


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_every_stage_learns_from_the_training_split(files: dict, tmp_path: Path, stage) -> None:
    for split in ("val", "test"):
        files[split] = tuple(
            written(tmp_path, f"odd.{split}.{n}", "seltsam\n") for n in ("de", "en")
        )
    data = ready(files, stage)
    assert sorted(data.texts.source.words) == sorted(NUMBERS)
    assert sorted(data.texts.target.words) == sorted(ENGLISH)

import gzip
from functools import partial
from pathlib import Path

import pytest
import torch
from sequence_cases import check_exact_resume, written

from trellis.datamodules.sequence import SpanOrder
from trellis.sequence.subword import WordPieceTokenizer
from trellis.sequence.tokenizer import BOS, EOS, CharTokenizer, WordTokenizer

TEXT = "".join(f"w{i:04} " for i in range(2000))  # each word once: its id is a place
WORDS = partial(WordTokenizer, mask=True)


def ready(folder: Path, text: str = TEXT, **options) -> SpanOrder:
    options = {"tokenizer": WORDS, "max_length": 15, "batch_size": 8, **options}
    data = SpanOrder(written(folder, "text.txt", text), **options)
    data.prepare_data()
    data.setup()
    return data


def test_a_batch_is_two_spans_that_follow_one_another_or_not(tmp_path: Path) -> None:
    data = ready(tmp_path)
    tokens = data.parts["train"].rows(torch.tensor([0]), len(data.parts["train"]))[0]
    place = {int(token): i for i, token in enumerate(tokens)}
    assert len(place) == len(tokens), "the test needs each word once"
    batches = list(data.train_dataloader())
    assert len(batches) == -(-len(tokens) // 12 // 8)
    followed = []
    for batch in batches:
        assert batch.tokens.shape == batch.segments.shape == (8, 15)
        assert batch.tokens[:, [0, 7, 14]].tolist() == [[BOS, EOS, EOS]] * 8
        assert batch.segments.tolist() == [[0] * 8 + [1] * 7] * 8
        for row, in_order in zip(batch.tokens.tolist(), batch.in_order.tolist(), strict=True):
            places = [place[token] for token in row[1:7] + row[8:14]]
            for span in (places[:6], places[6:]):
                assert span == [*range(span[0], span[0] + 6)]
            assert (places[6] == places[0] + 6) == bool(in_order)
            followed.append(in_order)
    assert 0.3 < sum(followed) / len(followed) < 0.7


def test_evaluation_reads_the_held_out_text_once_and_is_fixed(tmp_path: Path) -> None:
    data = ready(tmp_path, TEXT, held_out=0.3)
    tokens = data.parts["val"].rows(torch.tensor([0]), len(data.parts["val"]))[0]
    loader = data.val_dataloader()
    first = torch.cat([batch.tokens[:, 1:7] for batch in loader])
    whole = len(tokens) // 12
    assert torch.equal(first, tokens[: whole * 12].view(whole, 12)[:, :6])
    loader.set_epoch(3)
    again = torch.cat([batch.tokens for batch in loader])
    assert torch.equal(again, torch.cat([batch.tokens for batch in data.test_dataloader()]))


def test_exact_resume_and_steps_per_epoch(tmp_path: Path) -> None:
    data = ready(tmp_path, steps_per_epoch=7)
    assert len(data.train_dataloader()) == 7
    check_exact_resume(data.train_dataloader(), data.train_dataloader())


def test_subwords_are_the_default(tmp_path: Path) -> None:
    data = ready(tmp_path, "To be or not to be.\n" * 40, tokenizer=WordPieceTokenizer)
    assert data.spec.mask_id is not None
    assert data.tokenizer.lowercase


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TEXT, {"max_length": 4}, "max_length=4: give at least 5"),
        (TEXT, {"batch_size": 0}, "batch_size=0: give at least 1"),
        (TEXT, {"steps_per_epoch": 0}, "steps_per_epoch=0: give at least 1"),
        (TEXT, {"tokenizer": CharTokenizer}, "CharTokenizer has no mask_id"),
        ("to be or not " * 30, {}, r"too short: 12 tokens of val, and two spans are 12"),
        ("", {}, r"text\.txt is empty"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, text: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ready(tmp_path, text, **options)


def test_wikitext_as_it_reads_in_wikipedia(tmp_path: Path) -> None:
    raw = tmp_path / "WikiText2" / "raw" / "wiki.train.tokens.gz"
    raw.parent.mkdir(parents=True)
    lines = [" \n", " = Boats = \n", " \n", *[" An <unk> @-@ like boat of 1 @,@ 250 t . \n"] * 40]
    raw.write_bytes(gzip.compress("".join(lines).encode()))
    data = SpanOrder(
        text="wikitext2", data_dir=str(tmp_path), tokenizer=WORDS, max_length=15, num_workers=1
    )
    data.prepare_data()
    data.setup()
    text = (tmp_path / "WikiText2" / "paragraphs.txt").read_text()
    assert text == "An unk-like boat of 1,250 t .\n" * 40
    assert next(iter(data.loader("train"))).tokens.size(1) == 15
    with pytest.raises(FileNotFoundError, match=r"wiki\.train\.tokens\.gz is not in .*put it"):
        SpanOrder(text="wikitext2", data_dir=str(tmp_path / "empty")).prepare_data()
    with pytest.raises(ValueError, match="text='wikitxt2'.*wikitext2"):
        SpanOrder(text="wikitxt2")


def test_questions_without_their_classes(tmp_path: Path) -> None:
    raw = tmp_path / "sentence_classification" / "TREC.train.all.gz"
    raw.parent.mkdir()
    raw.write_bytes(gzip.compress("3 Who is caf\xe9 ?\n0 Why not ?\n".encode("latin-1")))
    SpanOrder(text="trec", data_dir=str(tmp_path), tokenizer=WORDS).prepare_data()
    text = (raw.parent / "questions.txt").read_text(encoding="utf-8")
    assert text == "Who is caf\xe9 ?\nWhy not ?\n"

"""Data for a vocabulary of another library, whose special ids lie anywhere."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers

from trellis.datamodules.sequence import (
    CoNLL,
    LabelledText,
    ParallelText,
    SentenceOrder,
    SpanOrder,
)
from trellis.sequence.imported_tokenizer import ImportedTokenizer

SPECIAL = {"eos": 0, "pad": 3, "mask": 5, "bos": 7, "unknown": 8}
WORDS = {"a": 1, "b": 2, "c": 4, "d": 6, "[UNK]": 8, **{f"w{i}": 9 + i for i in range(9)}}


@pytest.fixture
def factory() -> Any:
    model = tokenizers.Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    return partial(ImportedTokenizer, model=json.loads(model.to_str()), special=SPECIAL)


def ready(data: Any) -> Any:
    data.prepare_data()
    data.setup("fit")
    return data


def test_labelled_texts(factory: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("x\ta b\ny\tc\n")
    data = ready(LabelledText(str(path), str(path), tokenizer=factory))
    (batch,) = data.loader("val")
    assert sorted(batch[0].tolist()) == [[7, 1, 2, 0], [7, 4, 0, 3]]
    new = tmp_path / "new.txt"
    new.write_text("d z d\nb\n")
    (batch,) = data.inputs(str(new), data.spec).loader
    assert batch[0].tolist() == [[7, 6, 8, 6, 0], [7, 2, 0, 3, 3]]


def test_tagged_words(factory: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a X\n\u200b Y\nb X\n\nc Y\n\n")
    data = ready(CoNLL(str(path), str(path), tokenizer=factory))
    (batch,) = data.loader("val")
    rows = {tuple(tokens.tolist()): tags.tolist() for tokens, tags in zip(*batch, strict=True)}
    assert rows == {
        (7, 1, 8, 2, 0): [-100, 0, 1, 0, -100],
        (7, 4, 0, 3, 3): [-100, 1] + [-100] * 3,
    }


def test_pairs_of_sentences_and_of_spans(factory: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a b c\nd\nw1 w2\n" * 30)
    batch = next(iter(ready(SentenceOrder(str(path), tokenizer=factory)).loader("train")))
    real = batch.tokens != 3
    assert (batch.tokens[:, 0] == 7).all()
    assert ((batch.tokens == 0).sum(1) == 2).all()
    assert (batch.tokens.gather(1, real.sum(1, keepdim=True) - 1) == 0).all()
    spans = ready(SpanOrder(str(path), tokenizer=factory, max_length=9, num_workers=1))
    tokens = next(iter(spans.loader("train"))).tokens
    assert tokens.size(1) == 9
    for place, special in ((0, 7), (4, 0), (8, 0)):
        assert torch.equal(tokens[:, place], torch.full((len(tokens),), special))


def test_translations_need_the_ids_of_ours(factory: Any, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text("a b\nc\n")
    pair = (str(tmp_path / "a"), str(tmp_path / "b"))
    with pytest.raises(ValueError, match=r"at \(3, 7, 0\): pairs of texts need a tokenizer lear"):
        ready(ParallelText(pair, pair, tokenizer=factory))

"""Vectors from a file: matched to the words of any vocabulary, frozen or not, and told about."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from learning_cases import Points, adam, mlp, quiet_trainer

from trellis.datamodules.sequence import CoNLL, LabelledText
from trellis.lightning_modules.callbacks import PretrainedEmbedding
from trellis.lightning_modules.sequence import SequenceClassification, Tagging
from trellis.lightning_modules.vector.classification import Classification
from trellis.networks.sequence import RecurrentTagger, SentenceCNN
from trellis.sequence.tokenizer import WordTokenizer
from trellis.sequence.word_vectors import write_word_vectors

VECTORS = torch.arange(12.0).view(3, 4)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    write_word_vectors(tmp_path / "vectors.txt", ["good", "Bad", "unseen"], VECTORS)
    text = "yes\tgood film\nno\tbad Good film\n"
    (tmp_path / "text.tsv").write_text(text * 4)
    (tmp_path / "tags.txt").write_text("good B\nfilm O\n\nbad B\nfilm O\n\n" * 4)
    return tmp_path


def sentences(folder: Path) -> tuple[Any, Any]:
    network = partial(SentenceCNN, embed_dim=4, channels=2)
    path = str(folder / "text.tsv")
    return SequenceClassification(network, adam), LabelledText(path, path)


def fitted(folder: Path, epochs: int = 1, model: Any = None, data: Any = None, **options: Any):
    if model is None:
        model, data = sentences(folder)
    path = str(folder / "vectors.txt")
    callback = PretrainedEmbedding(**{"path": path, **options})
    trainer = quiet_trainer(folder / "runs", max_epochs=epochs, callbacks=[callback])
    trainer.fit(model, datamodule=data)
    return trainer, model


def rows(model: Any, *words: str) -> list[list[float]]:
    ids = dict(model.trainer.datamodule.tokenizer._ids)
    return [model.network.embedding.weight[ids[word]].tolist() for word in words]


def test_words_that_the_file_has_begin_with_its_vectors(folder: Path, caplog) -> None:
    model, data = sentences(folder)
    data.setup()
    with caplog.at_level(logging.INFO):
        _, model = fitted(folder, frozen=True)
    assert "network.embedding: 2 of 4 words have a vector in" in caplog.text
    # As it is written or, as for Good, in lower case; the file's Bad is no bad.
    assert rows(model, "good", "Good") == [VECTORS[0].tolist()] * 2
    bad, film = rows(model, "bad", "film")
    assert all(abs(x) <= 0.25 for x in bad + film)
    assert not model.network.embedding.weight.requires_grad
    assert (model.network.embedding.weight[0] == 0).all()


def test_what_is_not_frozen_learns(folder: Path) -> None:
    _, model = fitted(folder, 2)
    (good,) = rows(model, "good")
    assert good != VECTORS[0].tolist()
    assert good == pytest.approx(VECTORS[0].tolist(), abs=0.1)


def test_a_resumed_run_goes_on_with_its_own_vectors(folder: Path) -> None:
    trainer, model = fitted(folder, 2)
    learnt = rows(model, "good")
    again, data = sentences(folder)
    callback = PretrainedEmbedding(str(folder / "vectors.txt"))
    resumed = quiet_trainer(folder / "resumed", max_epochs=2, callbacks=[callback])
    resumed.fit(again, datamodule=data, ckpt_path=trainer.checkpoint_callback.last_model_path)
    assert rows(again, "good") == learnt


def test_a_tagger_takes_them_too(folder: Path) -> None:
    path = str(folder / "tags.txt")
    network = partial(RecurrentTagger, embed_dim=4, hidden_size=4)
    _, model = fitted(
        folder, model=Tagging(network, adam), data=CoNLL(path, path), part="network.embedding",
        frozen=True,
    )  # fmt: skip
    assert rows(model, "good") == [VECTORS[0].tolist()]


def test_words_that_only_the_file_has_can_be_known(folder: Path) -> None:
    path = str(folder / "tags.txt")
    words = partial(WordTokenizer, split_punctuation=False, vectors=str(folder / "vectors.txt"))
    network = partial(RecurrentTagger, embed_dim=4, hidden_size=4)
    _, model = fitted(
        folder, model=Tagging(network, adam), data=CoNLL(path, path, tokenizer=words),
        part="network.embedding", frozen=True,
    )  # fmt: skip
    assert rows(model, "good", "Bad", "unseen") == VECTORS.tolist()
    assert model.trainer.datamodule.tokenizer.words == ["film", "bad", "good", "Bad", "unseen"]
    (folder / "vectors.txt").write_text("new 1 2 3 4\n")
    data = CoNLL(path, path, tokenizer=words)
    data.setup()
    assert data.tokenizer.words[-1] == "new", "a cache would still have the earlier words"


def test_what_does_not_fit_is_named(folder: Path) -> None:
    wide = folder / "wide.txt"
    wide.write_text("good 1 2 3\n")
    with pytest.raises(ValueError, match="vectors of 3 numbers, .* has 4: give the network embed"):
        fitted(folder, path=str(wide))
    broken = folder / "broken.txt"
    broken.write_text("good 1 2 3 4\nbad 1 2 3\n")
    with pytest.raises(ValueError, match="broken.txt, line 2: 3 numbers"):
        fitted(folder, path=str(broken))
    other = folder / "other.txt"
    other.write_text("gut 1 2 3 4\n")
    with pytest.raises(ValueError, match="has none of 4 words"):
        fitted(folder, path=str(other))
    with pytest.raises(ValueError, match="part=network.embeddin: .*mean network.embedding"):
        fitted(folder, part="network.embeddin")
    with pytest.raises(ValueError, match="Classification learns from no words"):
        fitted(folder, model=Classification(mlp, adam), data=Points())

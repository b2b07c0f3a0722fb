"""One label a sequence: against definitions, on words with a known label, on two languages."""

import csv
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from token_cases import FirstWord, WordVotes

from trellis.datamodules.base import DataModule
from trellis.datamodules.loader import Loader
from trellis.datamodules.text_files import read_lines
from trellis.lightning_modules.callbacks.pictures import ConfusionMatrix
from trellis.lightning_modules.checkpoint import load
from trellis.lightning_modules.sequence_classification import SequenceClassification
from trellis.networks.recurrent import RecurrentClassifier
from trellis.sequence.batches import Ragged
from trellis.sequence.tokenizer import WordTokenizer
from trellis.spec import LabelledTokenSpec, TokenSpec

SMALL = partial(RecurrentClassifier, cell="gru", embed_dim=16, hidden_size=16)


@pytest.fixture(autouse=True)
def _seed():
    L.seed_everything(0, verbose=False)


def adam(lr: float):
    return partial(torch.optim.Adam, lr=lr)


def fit(objective, data, root, epochs: int) -> dict[str, float]:
    trainer = quiet_trainer(root, max_epochs=epochs, check_val_every_n_epoch=epochs)
    trainer.fit(objective, datamodule=data)
    [tested] = trainer.test(objective, datamodule=data, verbose=False)
    return tested


def test_metrics_are_means_over_all_sequences(tmp_path):
    objective, data = SequenceClassification(WordVotes, adam(0.01)), FirstWord()
    metrics = fit(objective, data, tmp_path, epochs=1)
    tokens, y = data.splits["test"]
    logits = objective.eval()(tokens).detach()
    losses = [-row.log_softmax(-1)[label] for row, label in zip(logits, y, strict=True)]
    assert metrics["test/loss"] == pytest.approx(float(sum(losses)) / 37, rel=1e-5)
    right = int((logits.argmax(-1) == y).sum())
    assert metrics["test/accuracy"] == pytest.approx(right / 37)
    torch.testing.assert_close(
        objective.training_step((tokens[:3], y[:3]), 0), sum(losses[:3]) / 3
    )
    probabilities = objective.predict_step((tokens, y), 0)
    torch.testing.assert_close(probabilities, logits.exp() / logits.exp().sum(1, keepdim=True))


def test_the_first_word_is_learnt_and_chance_is_not(tmp_path):
    def accuracy(shuffled: bool) -> float:
        objective = SequenceClassification(SMALL, adam(0.01))
        data = FirstWord(number=300, batch_size=20, shuffled=shuffled)
        return fit(objective, data, tmp_path, epochs=8)["test/accuracy"]

    assert accuracy(False) > 0.97
    assert accuracy(True) < 0.45


def test_a_confusion_matrix_counts_every_sequence(tmp_path):
    objective, data = SequenceClassification(WordVotes, adam(0.01)), FirstWord()
    trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=[ConfusionMatrix()])
    trainer.fit(objective, datamodule=data)
    tokens, y = data.splits["val"]
    expected = torch.zeros(3, 3, dtype=torch.long)
    for label, guess in zip(y.tolist(), objective.eval()(tokens).argmax(-1).tolist(), strict=True):
        expected[label, guess] += 1
    path = trainer.run_dir / "pictures/val/confusion_counts.csv"
    header, *rows = csv.reader(path.read_text().splitlines())
    assert header == ["true class", "low", "middle", "high"]
    assert [list(map(int, row[1:])) for row in rows] == expected.tolist()


def test_a_checkpoint_is_loaded_by_its_path_alone(tmp_path):
    objective, data = SequenceClassification(SMALL, adam(0.01)), FirstWord()
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(objective, datamodule=data)
    loaded = load(trainer.checkpoint_callback.last_model_path)
    tokens, _ = data.splits["test"]
    assert torch.equal(loaded(tokens), objective.eval()(tokens))
    assert loaded.spec == data.spec


def test_data_must_have_a_pad_id_and_classes():
    objective = SequenceClassification(spec=LabelledTokenSpec(TokenSpec(9), 3))
    with pytest.raises(ValueError, match="SequenceClassification: spec.tokens has no pad_id"):
        objective.configure_model()
    objective = SequenceClassification(spec=LabelledTokenSpec(TokenSpec(9, pad_id=0), 1))
    with pytest.raises(ValueError, match="out_channels=1"):
        objective.configure_model()
    objective = SequenceClassification(torch.nn.Linear, spec=LabelledTokenSpec(TokenSpec(9, 0), 3))
    with pytest.raises(ValueError, match=r"network\(num_tokens=.*, out_channels=.*, pad_id=.*\)"):
        objective.configure_model()


class Languages(DataModule):
    """Lines of Multi30k as words: German or English? 4,000 to learn from, 1,000 to test."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        texts: dict[str, list[tuple[str, int]]] = {"train": [], "val": []}
        for split, number in (("train", 2000), ("val", 500)):
            for label, language in enumerate(("de", "en")):
                lines = read_lines(folder / f"{split}.{language}.gz")[:number]
                texts[split] += [(line, label) for line in lines]
        tokenizer = WordTokenizer([line for line, _ in texts["train"]], lowercase=True)
        self.spec = LabelledTokenSpec(tokenizer.spec, 2, ("de", "en"))
        self.splits = {
            split: (
                Ragged(tokenizer.encode_batch([line for line, _ in lines])),
                torch.tensor([label for _, label in lines]),
            )
            for split, lines in texts.items()
        }
        self.splits["test"] = self.splits["val"]

    def loader(self, split: str) -> Loader:
        tokens, y = self.splits[split]
        train = split == "train"
        return Loader(len(y), lambda i: (tokens.padded(i, 0), y[i]), batch_size=50, shuffle=train)


@pytest.mark.data
def test_german_and_english_are_told_apart_by_their_words(data_dir, tmp_path):
    data = Languages(Path(data_dir) / "multi30k" / "raw")
    objective = SequenceClassification(SMALL, adam(0.01))
    assert fit(objective, data, tmp_path, epochs=1)["test/accuracy"] > 0.99

"""One label for each sequence: against definitions, on known labels, on two languages."""

import csv
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from token_cases import FirstWord, WordVotes

from trellis.datamodules.sequence.labelled_sentences import LabelledSentences
from trellis.datamodules.sequence.labelled_text import LabelledText
from trellis.datamodules.sequence.text_files import read_lines
from trellis.lightning_modules.callbacks.pictures import ConfusionMatrix
from trellis.lightning_modules.engine.checkpoint import load
from trellis.lightning_modules.sequence.sequence_classification import SequenceClassification
from trellis.networks.sequence.bag_of_words import BagOfWords
from trellis.networks.sequence.recurrent import RecurrentClassifier
from trellis.optim.matrix_decay import MatrixDecayLBFGS
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
    with pytest.raises(ValueError, match=r"network\(out_channels=.*, num_tokens=.*, pad_id=.*\)"):
        objective.configure_model()


def test_one_tag_per_word_is_no_label():
    spec = LabelledTokenSpec(TokenSpec(9, pad_id=0), 2, ("a", "b"))
    objective = SequenceClassification(SMALL, spec=spec)
    objective.configure_model()
    tokens = torch.full((2, 3), 7)
    with pytest.raises(ValueError, match=r"one label per sequence, .* labels \[2, 3\]: give Lab"):
        objective.training_step((tokens, tokens % 2), 0)


@pytest.mark.data
def test_german_and_english_are_told_apart(data_dir, tmp_path):
    """Captions of Multi30k: 4,000 to learn from, 1,000 to be tested with."""
    paths = {}
    for split, number in (("train", 2000), ("val", 500)):
        paths[split] = tmp_path / f"{split}.tsv"
        with paths[split].open("w", encoding="utf-8") as file:
            for language in ("de", "en"):
                lines = read_lines(Path(data_dir) / f"multi30k/raw/{split}.{language}.gz")
                file.writelines(f"{language}\t{line}\n" for line in lines[:number] if line)
    data = LabelledText(str(paths["train"]), str(paths["val"]), lowercase=True, max_tokens=1000)
    metrics = fit(SequenceClassification(SMALL, adam(0.01)), data, tmp_path, epochs=1)
    assert metrics["test/accuracy"] > 0.99


def test_a_network_that_counts_reads_the_training_texts_once_before_the_first_step(tmp_path):
    data, objective = FirstWord(), SequenceClassification(BagOfWords, adam(0.1))
    expected = BagOfWords(data.spec.tokens.num_tokens, 3, pad_id=0)
    expected.count(data.splits["train"][0])
    fit(objective, data, tmp_path, epochs=2)
    network = objective.network
    assert torch.equal(network.document_frequency, expected.document_frequency)
    assert int(network.texts) == 37
    assert network.output.weight.abs().sum() > 0


@pytest.mark.data
@pytest.mark.long
def test_tf_idf_on_trec_is_as_accurate_as_scikit_learn(tmp_path, data_dir):
    data = LabelledSentences("TREC", data_dir, max_tokens=10**6)
    optimizer = partial(MatrixDecayLBFGS, weight_decay=1 / 4906)
    objective = SequenceClassification(partial(BagOfWords, max_share=0.99), optimizer)
    accuracy = fit(objective, data, tmp_path, epochs=3)["test/accuracy"]

    def split(name: str) -> tuple[list[list[int]], list[int]]:
        [(tokens, labels)] = data.loader(name)
        return [row[row > 0].tolist() for row in tokens], labels.tolist()

    (texts, labels), (new, answers) = split("train"), split("test")
    vectorizer = TfidfVectorizer(analyzer=list, max_df=0.99)
    x = vectorizer.fit_transform(texts)
    reference = LogisticRegression(C=1.0, max_iter=2000, tol=1e-8).fit(x, labels)
    expected = reference.score(vectorizer.transform(new), answers)
    assert accuracy == pytest.approx(expected, abs=0.0021)  # a question of 500
    assert accuracy > 0.84

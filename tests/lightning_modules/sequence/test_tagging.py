"""One label for each token: against definitions, and on names of several words."""

import csv
import random
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from token_cases import BIO, PAD, SPEC, Names, WordVotes

from trellis.datamodules.engine.base import tensor_loader
from trellis.datamodules.sequence.conll import CoNLL
from trellis.datamodules.sequence.text_files import read_lines
from trellis.lightning_modules.callbacks.pictures import ConfusionMatrix
from trellis.lightning_modules.engine.checkpoint import load
from trellis.lightning_modules.engine.evaluation import cross_entropy
from trellis.lightning_modules.sequence.tagging import EntityScores, Tagging
from trellis.networks.sequence.bert import BertTagger
from trellis.networks.sequence.character_tagger import CharacterTagger
from trellis.networks.sequence.recurrent import RecurrentTagger
from trellis.sequence.packing import PackedTokens
from trellis.spec import LabelledTokenSpec, TokenSpec

SMALL = partial(RecurrentTagger, cell="gru", embed_dim=16, hidden_size=16)
VOTES = partial(WordVotes, each=True)


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


def entities(tags: list[int]) -> set[tuple[str, int, int]]:
    """Kind, first and last of the names in tags that follow the scheme or do not."""
    found, first = set(), None
    for position, tag in enumerate([*tags, 0]):
        name = BIO[tag]
        goes_on = first is not None and name == f"I-{BIO[tags[first]][2:]}"
        if first is not None and not goes_on:
            found.add((BIO[tags[first]][2:], first, position - 1))
            first = None
        if name != "O" and not goes_on:
            first = position
    return found


def test_metrics_count_each_word_once_and_no_padding(tmp_path):
    objective, data = Tagging(VOTES, adam(0.05)), Names()
    metrics = fit(objective, data, tmp_path, epochs=3)
    tokens, tags = data.splits["test"]
    logits = objective.eval()(tokens).detach()
    losses, right, correct, found, there = [], [], 0, 0, 0
    for row, labels in zip(logits, tags, strict=True):
        length = int((labels != -100).sum())
        row, labels = row[:length], labels[:length].tolist()
        losses += [-row[i].log_softmax(-1)[label] for i, label in enumerate(labels)]
        right += [int(row[i].argmax()) == label for i, label in enumerate(labels)]
        guessed, known = entities(row.argmax(-1).tolist()), entities(labels)
        correct, found, there = (
            correct + len(guessed & known),
            found + len(guessed),
            there + len(known),
        )
    assert metrics["test/loss"] == pytest.approx(float(sum(losses)) / len(losses), rel=1e-5)
    assert metrics["test/accuracy"] == pytest.approx(sum(right) / len(right))
    assert 0 < correct < found != there  # the next three lines differ
    assert metrics["test/precision"] == pytest.approx(correct / found)
    assert metrics["test/recall"] == pytest.approx(correct / there)
    assert metrics["test/f1"] == pytest.approx(2 * correct / (found + there))
    batch = tokens[:5], tags[:5]
    known = (tags[:5] != -100).sum()
    expected = sum(losses[: int(known)]) / known
    torch.testing.assert_close(objective.training_step(batch, 0).detach(), expected)
    # The tags of words, by name: padding and later pieces of a word have none.
    named = [" ".join(BIO[tag] for tag in row[gold != -100].argmax(-1))
             for row, gold in zip(logits[:5], tags[:5], strict=True)]  # fmt: skip
    assert objective.predict_step(batch, 0) == named


def test_names_are_learnt_and_chance_is_not(tmp_path):
    def scores(shuffled: bool) -> dict[str, float]:
        objective = Tagging(SMALL, adam(0.02))
        data = Names(number=200, batch_size=20, shuffled=shuffled)
        return fit(objective, data, tmp_path, epochs=7)

    learned, control = scores(False), scores(True)
    assert learned["test/accuracy"] > 0.99
    assert learned["test/f1"] > 0.97
    assert control["test/f1"] < 0.25


def test_a_network_that_sees_single_words_takes_the_tag_each_has_most_often(tmp_path):
    """Whether word 8 continues a name depends on the words before it."""
    data = Names(number=200, batch_size=20)
    metrics = fit(Tagging(VOTES, adam(0.1)), data, tmp_path, epochs=6)
    tokens, tags = data.splits["test"]
    most = sum(int(torch.bincount(tags[tokens == word]).max()) for word in range(5, 11))
    best = most / int((tags != -100).sum())
    assert best < 0.9
    assert metrics["test/accuracy"] == pytest.approx(best, abs=0.03)


@pytest.mark.parametrize("output", ["crf", "bio_crf"])
def test_a_crf_knows_what_follows_what(tmp_path, output):
    """Word 8 goes on with the name that has begun, which single words do not say."""
    objective, data = Tagging(VOTES, adam(0.1), output=output), Names(number=200, batch_size=20)
    trainer = quiet_trainer(tmp_path, max_epochs=6, check_val_every_n_epoch=6)
    trainer.fit(objective, datamodule=data)
    [metrics] = trainer.test(objective, datamodule=data, verbose=False)
    assert metrics["test/accuracy"] > 0.97  # 0.9 is the most without, see above
    assert metrics["test/f1"] > 0.95
    tokens, tags = data.splits["test"]
    emissions = objective.eval()(tokens).detach()
    best = objective.crf.viterbi(emissions, tags >= 0)
    known = tags >= 0
    assert metrics["test/accuracy"] == pytest.approx(float((best == tags)[known].float().mean()))
    loss = -objective.crf(emissions, tags).detach().sum() / known.sum()
    assert metrics["test/loss"] == pytest.approx(float(loss), rel=1e-5)
    lines = objective.predict_step((tokens, tags), 0)
    rows = zip(best, known, strict=True)
    assert lines == [" ".join(BIO[tag] for tag in row[inside]) for row, inside in rows]


def test_tags_without_names_have_the_probabilities_of_the_crf():
    spec = LabelledTokenSpec(SPEC, 5)
    objective = Tagging(VOTES, spec=spec, output="crf")
    objective.configure_model()
    tokens, tags = Names().splits["test"]
    with torch.no_grad():
        found = objective.eval().predict_step((tokens, tags), 0)
        expected = objective.crf.marginals(objective(tokens), tags >= 0)
    assert torch.equal(found, expected)


def test_constraints_need_tags_of_their_scheme():
    spec = LabelledTokenSpec(SPEC, 3, ("O", "I-PER", "I-LOC"))
    with pytest.raises(ValueError, match="I-PER without B-PER"):
        Tagging(SMALL, spec=spec, output="bio_crf").configure_model()
    with pytest.raises(ValueError, match="output='crff': choose from softmax, crf, bio_crf"):
        Tagging(SMALL, output="crff")


def test_letters_tell_unknown_words_apart(tmp_path):
    """Words of the validation file are all unknown; those that end in -s are one tag."""
    draw = random.Random(0)

    def column(number: int) -> str:
        stems = ["".join(draw.choices("abcdefghij", k=4)) for _ in range(3 * number)]
        lines = [f"{s}s B-X" if n % 2 else f"s{s} O" for n, s in enumerate(stems)]
        return "\n\n".join("\n".join(lines[i : i + 3]) for i in range(0, len(lines), 3))

    for name, number in (("train", 120), ("val", 30)):
        (tmp_path / name).write_text(column(number))
    network = partial(CharacterTagger, embed_dim=4, hidden_size=8, dropout=0.0)
    data = CoNLL(str(tmp_path / "train"), str(tmp_path / "val"), max_tokens=100, characters=True)
    objective = Tagging(network, adam(0.02), output="crf")
    assert fit(objective, data, tmp_path / "runs", epochs=3)["test/accuracy"] > 0.98
    blind = Tagging(partial(RecurrentTagger, hidden_size=8), spec=data.spec)
    with pytest.raises(ValueError, match=r"network\(tokens, characters\), but RecurrentTagger"):
        blind.configure_model()
    new = tmp_path / "new.txt"
    new.write_text("zzzzs szzzz\nszz\n")
    lines, ids = data.inputs(str(new), data.spec)
    assert [objective.predict_step(batch, 0) for batch in lines] == [["B-X O", "O"]]
    assert ids == ["zzzzs szzzz", "szz"]


class PartsOfSpeech(Names):
    """The same tags under names that are not those of entities."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = LabelledTokenSpec(SPEC, 5, ("NN", "VB", "JJ", "DT", "IN"))


def test_only_tags_of_entities_have_an_f1(tmp_path):
    metrics = fit(Tagging(VOTES, adam(0.05)), PartsOfSpeech(), tmp_path, epochs=1)
    assert set(metrics) == {"test/loss", "test/accuracy"}


class WithEmptyBatch(Names):
    """Sentences whose last batch has words, but no tag."""

    def loader(self, split: str):
        tokens, tags = self.splits[split]
        tags = tags.masked_fill(torch.arange(len(tags)).unsqueeze(1) >= 32, -100)
        return tensor_loader(tokens, tags, batch_size=8, train=False)


def test_a_batch_without_any_tag_counts_for_nothing(tmp_path):
    objective, data = Tagging(VOTES, adam(0.05)), WithEmptyBatch()
    trainer = quiet_trainer(tmp_path, max_epochs=1, limit_train_batches=4)
    trainer.fit(objective, datamodule=data)
    [metrics] = trainer.test(objective, datamodule=data, verbose=False)
    tokens, tags = data.splits["test"]
    loss = cross_entropy(objective.eval()(tokens[:32]), tags[:32]).detach()
    assert metrics["test/loss"] == pytest.approx(float(loss), rel=1e-5)


def test_a_checkpoint_is_loaded_by_its_path_alone(tmp_path):
    objective, data = Tagging(SMALL, adam(0.01), output="bio_crf"), Names()
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(objective, datamodule=data)
    loaded = load(trainer.checkpoint_callback.last_model_path)
    tokens, tags = data.splits["test"]
    assert torch.equal(loaded(tokens), objective.eval()(tokens))
    batch = (tokens, tags)
    assert loaded.predict_step(batch, 0) == objective.predict_step(batch, 0)
    assert loaded.spec == data.spec


def test_no_entities_score_zero():
    scores = EntityScores(("O", "B-PER", "I-PER"))
    scores.update(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long))
    assert {name: float(value) for name, value in scores.compute().items()} == {
        "precision": 0.0, "recall": 0.0, "f1": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (LabelledTokenSpec(TokenSpec(9), 3), "Tagging: spec.tokens has no pad_id"),
        (
            LabelledTokenSpec(TokenSpec(9, pad_id=PAD), 1),
            "Tagging: out_channels=1: give at least 2",
        ),
    ],
)
def test_data_must_have_a_pad_id_and_classes(spec, match):
    with pytest.raises(ValueError, match=match):
        Tagging(spec=spec).configure_model()


def test_tags_must_fit_the_logits():
    logits = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"\[2, 4\] of .* do not fit logits \[2, 3, 4\]"):
        cross_entropy(logits, torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="a network with a row of logits for each label"):
        cross_entropy(logits[:, 0], torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"labels lie in \[0, 4\], but .* has out_channels=4"):
        cross_entropy(logits, torch.tensor([[0, 4, -100]] * 2))


def test_a_confusion_matrix_counts_words_and_no_padding(tmp_path):
    objective, data = Tagging(VOTES, adam(0.05)), Names()
    trainer = quiet_trainer(tmp_path, max_epochs=2, callbacks=[ConfusionMatrix()])
    trainer.fit(objective, datamodule=data)
    tokens, tags = data.splits["val"]
    predicted, known = objective.eval()(tokens).argmax(-1), tags >= 0
    expected = torch.zeros(5, 5, dtype=torch.long)
    for label, guess in zip(tags[known].tolist(), predicted[known].tolist(), strict=True):
        expected[label, guess] += 1
    path = trainer.run_dir / "pictures/val/confusion_counts.csv"
    header, *rows = csv.reader(path.read_text().splitlines())
    assert header == ["true class", *BIO]
    assert [list(map(int, row[1:])) for row in rows] == expected.tolist()


def test_one_label_per_sentence_is_no_tag():
    objective = Tagging(SMALL, spec=LabelledTokenSpec(SPEC, 2, ("a", "b")))
    objective.configure_model()
    with pytest.raises(ValueError, match=r"one tag per token, \[2, 3\], .* labels \[2\]"):
        objective.training_step((torch.full((2, 3), 7), torch.zeros(2, dtype=torch.long)), 0)


@pytest.mark.data
def test_german_nouns_are_found_by_their_neighbours(data_dir, tmp_path):
    """Captions of Multi30k in lower case: which words are written with a capital letter?

    The tag that each word has most often, and small for those never seen, would be right for 87 %.
    """
    paths = {}
    for split, number in (("train", 2500), ("val", 500)):
        paths[split] = tmp_path / f"{split}.conll"
        with paths[split].open("w", encoding="utf-8") as file:
            for line in read_lines(Path(data_dir) / f"multi30k/raw/{split}.de.gz")[:number]:
                words = line.split()
                tags = ["capital" if word[0].isupper() else "small" for word in words]
                pairs = zip(words, tags, strict=True)
                file.writelines(f"{word.lower()}\t{tag}\n" for word, tag in pairs)
                file.write("\n")
    data = CoNLL(str(paths["train"]), str(paths["val"]), max_tokens=1000)
    metrics = fit(Tagging(SMALL, adam(0.01)), data, tmp_path, epochs=2)
    assert metrics["test/accuracy"] > 0.95


def test_packed_sentences_need_a_network_that_reads_them() -> None:
    spec = LabelledTokenSpec(SPEC, 3, ("a", "b", "c"))
    tokens = torch.full((2, 4), 7)
    batch = PackedTokens(tokens, torch.tensor([[0, 1, 0, 1]] * 2)), tokens % 3
    bert = partial(BertTagger, embed_dim=8, num_heads=2, num_layers=1)
    for network, options, message in (
        (bert, {}, None),
        (bert, {"output": "crf"}, "a row of PackedSentences is no sentence"),
        (SMALL, {}, "RecurrentTagger reads no PackedSentences"),
    ):
        objective = Tagging(network, spec=spec, **options)
        objective.configure_model()
        if message is None:
            assert objective.training_step(batch, 0).isfinite()
        else:
            with pytest.raises(ValueError, match=message):
                objective.training_step(batch, 0)

"""Sequence to sequence: losses by definition, generated targets, and sacrebleu's scores."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import sacrebleu
import torch
from learning_cases import quiet_trainer
from torch import Tensor

import trellis
from trellis.datamodules.engine.base import DataModule
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.copy_reverse import CopyReverse
from trellis.lightning_modules.sequence.sequence_to_sequence import SequenceToSequence
from trellis.lightning_modules.sequence.text_scores import TextScores
from trellis.networks.sequence.recurrent_seq2seq import RecurrentSeq2Seq
from trellis.networks.sequence.transformer import TransformerSeq2Seq
from trellis.sequence.batches import TokenPairs
from trellis.sequence.tokenizer import CharTokenizer, WordTokenizer
from trellis.spec import TokenPairSpec, TokenSpec

gru = partial(RecurrentSeq2Seq, embed_dim=8, hidden_size=12, dropout=0.0)
transformer = partial(
    TransformerSeq2Seq, embed_dim=16, num_heads=2, num_layers=1, feedforward_dim=32, dropout=0.0
)
adam = partial(torch.optim.Adam, lr=0.01)
SIDE = TokenSpec(9, pad_id=0, bos_id=1, eos_id=2)
SPEC = TokenPairSpec(SIDE, SIDE)
BATCH = TokenPairs(
    torch.tensor([[3, 4, 5, 2], [6, 2, 0, 0]]), torch.tensor([[1, 5, 4, 2], [1, 7, 2, 0]])
)


def built(network: Any = transformer, **options: Any) -> SequenceToSequence:
    L.seed_everything(0, verbose=False)
    objective = SequenceToSequence(network, adam, spec=SPEC, **options)
    objective.configure_model()
    return objective


def by_hand(logits: Tensor, smoothing: float) -> float:
    """Mean over the five labels of BATCH, from the definition of label smoothing."""
    losses = []
    for row, labels in enumerate(BATCH.target[:, 1:].tolist()):
        for t, label in enumerate(labels):
            if label != 0:
                log_probs = logits[row, t].log_softmax(-1)
                true, spread = -float(log_probs[label]), -float(log_probs.mean())
                losses.append((1 - smoothing) * true + smoothing * spread)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_training_loss_is_the_definition(smoothing: float) -> None:
    objective = built(label_smoothing=smoothing)
    loss = objective.training_step(BATCH, 0)
    logits = objective(BATCH.source, BATCH.target[:, :-1]).detach()
    assert loss.item() == pytest.approx(by_hand(logits, smoothing), rel=1e-5)


def test_sampling_nothing_is_teacher_forcing() -> None:
    objective = built(gru)
    forced = objective(BATCH.source, BATCH.target[:, :-1])
    torch.testing.assert_close(objective._sampled_logits(BATCH, 0.0), forced)


def test_sampling_everything_reads_what_was_written() -> None:
    """Greedy decoding, implemented once more with whole forward passes."""
    objective = built(gru, scheduled_sampling=1.0)
    read = BATCH.target[:, :1]
    for _ in range(2):
        read = torch.cat([read, objective(BATCH.source, read)[:, -1:].argmax(-1)], dim=1)
    expected = objective(BATCH.source, read)
    logits = objective._sampled_logits(BATCH, 1.0)
    torch.testing.assert_close(logits, expected)
    loss = objective.training_step(BATCH, 0)
    loss.backward()
    assert all(weight.grad is not None for weight in objective.network.parameters())


def test_sampling_grows_to_its_probability() -> None:
    class Trainer:
        global_step = 30

    objective = built(gru, scheduled_sampling=0.5, scheduled_sampling_steps=60)
    assert objective._sampling_probability() == 0  # the first step
    objective.trainer = Trainer()  # type: ignore[assignment]
    assert objective._sampling_probability() == pytest.approx(0.25)
    Trainer.global_step = 600
    assert objective._sampling_probability() == 0.5
    constant = built(gru, scheduled_sampling=0.5)
    assert constant._sampling_probability() == 0.5


class Texts(DataModule):
    """Two pairs of texts in words; the vocabulary lacks one of the reference's words."""

    def __init__(self, scores: str = "translation") -> None:
        super().__init__()
        self.tokenizer = WordTokenizer(["a man is sitting on a bench .", "two dogs run"])
        self.spec = TokenPairSpec(self.tokenizer.spec, self.tokenizer.spec, scores)
        self.references = ("a man is sitting on a red bench .", "two dogs run .")

    def loader(self, split: str) -> Loader[TokenPairs]:
        begin, end = self.tokenizer.bos_id, self.tokenizer.eos_id
        rows = [[begin, *self.tokenizer.encode(text), end] for text in self.references]
        rows[1] += [self.tokenizer.pad_id] * (len(rows[0]) - len(rows[1]))
        target, references = torch.tensor(rows), self.references
        if self.spec.scores == "pronunciation":
            references = (("a man",), ("two dogs", "two dogs run"))
        return Loader(1, lambda _: TokenPairs(target[:, 1:], target, references))


class Parrot(torch.nn.Module):
    """Generates given tokens, whatever the source."""

    def __init__(self, source_tokens: int, target_tokens: int, *, source_pad_id: int,
                 target_pad_id: int, says: list[list[int]]) -> None:  # fmt: skip
        super().__init__()
        self.says, self.num_tokens = torch.tensor(says), target_tokens
        self.scale = torch.nn.Parameter(torch.tensor(5.0))

    def encode(self, source: Tensor) -> tuple[Any, Any]:
        return self.says, torch.zeros(len(source), 1, dtype=torch.long)

    def decode(self, tokens: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        columns = (state + torch.arange(tokens.size(1))).clamp(max=memory.size(1) - 1)
        said = memory.gather(1, columns)
        logits = torch.nn.functional.one_hot(said, self.num_tokens) * self.scale
        return logits, state + tokens.size(1)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, state = self.encode(source)
        return self.decode(target, state, memory)[0]


def test_sounds_are_scored_by_their_errors(tmp_path: Path) -> None:
    data = Texts("pronunciation")
    end = data.tokenizer.eos_id
    ids = [[*data.tokenizer.encode(text), end] for text in ("a man is", "two dogs run")]
    objective = SequenceToSequence(partial(Parrot, says=ids), adam)
    [result] = quiet_trainer(tmp_path).test(objective, datamodule=data, verbose=False)
    assert result["test/word_error_rate"] == 1 / 2  # the second is one of its pronunciations
    assert result["test/phoneme_error_rate"] == pytest.approx(1 / (2 + 3))
    assert "test/bleu" not in result


def test_scores_are_sacrebleus_against_the_raw_references(tmp_path: Path) -> None:
    data = Texts()
    said = ["a man is on a bench .", "two dogs run"]
    ids = [[*data.tokenizer.encode(text), data.tokenizer.eos_id] for text in said]
    ids[1] += [data.tokenizer.eos_id] * (len(ids[0]) - len(ids[1]))
    objective = SequenceToSequence(partial(Parrot, says=ids), adam, num_beams=2)
    [result] = quiet_trainer(tmp_path).test(objective, datamodule=data, verbose=False)
    references = [list(data.references)]
    assert result["test/bleu"] == pytest.approx(sacrebleu.corpus_bleu(said, references).score)
    assert result["test/chrf"] == pytest.approx(sacrebleu.corpus_chrf(said, references).score)
    assert result["test/exact_match"] == 0


def test_exact_match_counts_whole_targets(tmp_path: Path) -> None:
    says = BATCH.target[:, 1:].tolist()
    says[0][0] = 6

    class Pairs(DataModule):
        spec = SPEC

        def loader(self, split: str) -> Loader[TokenPairs]:
            return Loader(1, lambda _: BATCH)

    objective = SequenceToSequence(partial(Parrot, says=says), adam)
    [result] = quiet_trainer(tmp_path).test(objective, datamodule=Pairs(), verbose=False)
    assert result["test/exact_match"] == 0.5
    assert "test/bleu" not in result
    assert objective.predict_step(BATCH, 0) == [[6, 4], [7]]


def test_scores_of_no_texts_are_none() -> None:
    scores = TextScores()
    scores.update([], [])
    assert scores.compute() == {}


@pytest.mark.parametrize(
    ("network", "smoothing"), [(gru, 0.0), (transformer, 0.1)], ids=["gru", "transformer"]
)
def test_learns_to_reverse_and_reloads(tmp_path: Path, network: Any, smoothing: float) -> None:
    L.seed_everything(1, verbose=False)
    data = CopyReverse(length=3, num_symbols=4, num_train=4000, num_val=8, num_test=200)
    objective = SequenceToSequence(network, adam, label_smoothing=smoothing, max_new_tokens=6)
    trainer = quiet_trainer(tmp_path, max_epochs=3)
    trainer.fit(objective, datamodule=data)
    [result] = trainer.test(objective, datamodule=data, verbose=False)
    assert result["test/exact_match"] > 0.97
    loaded = trellis.load(trainer.checkpoint_callback.last_model_path)
    batch = next(iter(data.test_dataloader()))
    objective.eval()
    assert loaded.predict_step(batch, 0) == objective.predict_step(batch, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.5}, "label_smoothing=1.5"),
        ({"scheduled_sampling": -0.1}, "scheduled_sampling=-0.1"),
        ({"scheduled_sampling_steps": -1}, "scheduled_sampling_steps=-1"),
        ({"num_beams": 0}, "num_beams=0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
    ],
)
def test_bad_numbers_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceToSequence(**options)


def test_a_spec_without_special_ids_is_refused() -> None:
    objective = SequenceToSequence(spec=TokenPairSpec(SIDE, TokenSpec(9, pad_id=0, bos_id=1)))
    with pytest.raises(ValueError, match="the spec has no eos_id"):
        objective.configure_model()


@pytest.mark.parametrize("penalty", [0.0, 0.3, 2.0])
def test_the_length_penalty_divides_the_scores(penalty: float) -> None:
    found = built(num_beams=2, length_penalty=penalty, max_new_tokens=5).generate(BATCH.source)
    lengths = found.lengths + found.finished
    torch.testing.assert_close(found.normalized, found.scores / lengths**penalty)


def test_what_is_generated_ends_with_the_learned_positions() -> None:
    learned = partial(transformer, positions="learned", max_length=6)
    objective = built(learned, max_new_tokens=50)
    objective.eval()
    objective.network.output.bias.data[2] = -1e9  # never ends by itself
    assert [len(ids) for ids in objective.generate(BATCH.source).best()] == [6, 6]


class TwoVocabularies(CopyReverse):
    """As many tokens on either side, but not the same ones."""

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        other = CharTokenizer(["ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:4]], special=True)
        if self.spec.target != other.spec:
            self.spec = TokenPairSpec(self.spec.source, other.spec)


@pytest.mark.parametrize("tie", ["none", "target", "all"])
def test_embeddings_of_two_vocabularies_are_not_tied(tmp_path: Path, tie: str) -> None:
    objective = SequenceToSequence(partial(transformer, tie=tie), adam)
    sizes = {"num_symbols": 4, "length": 3, "num_train": 64, "num_val": 8, "num_test": 8}
    data = TwoVocabularies(**sizes)
    trainer = quiet_trainer(tmp_path, max_steps=1)
    if tie != "all":
        trainer.fit(objective, datamodule=data)
        return
    with pytest.raises(ValueError, match=r"two vocabularies \(tokenizer: another vocabulary\)"):
        trainer.fit(objective, datamodule=data)
    one = CopyReverse(**sizes)
    trainer = quiet_trainer(tmp_path, max_steps=1)
    trainer.fit(SequenceToSequence(partial(transformer, tie=tie), adam), datamodule=one)

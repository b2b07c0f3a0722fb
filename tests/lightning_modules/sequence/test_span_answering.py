"""Answers to questions: windows put together, scores of torchmetrics, facts that are learnt."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from torch import Tensor, nn
from torchmetrics.text import SQuAD as Scores

from trellis.datamodules.sequence import FactQuestions
from trellis.datamodules.sequence.squad import SQuAD
from trellis.lightning_modules.engine.checkpoint import load
from trellis.lightning_modules.sequence import SpanAnswering
from trellis.networks.sequence import BertAnswering
from trellis.sequence.answers import PassageWindows, Question
from trellis.spec import QuestionSpec, TokenSpec

SPEC = QuestionSpec(TokenSpec(50, pad_id=0, bos_id=1, eos_id=2))
SMALL = partial(BertAnswering, embed_dim=8, num_heads=2, num_layers=1)
FEW = {"num_train": 40, "num_val": 12, "num_test": 12}


class Matcher(nn.Module):
    """Compares each token and its neighbours with the question, as a whole.

    Args:
        reads: whether it sees the question.
    """

    def __init__(self, num_tokens: int, *, pad_id: int, reads: bool = True) -> None:
        super().__init__()
        self.reads = reads
        self.tokens = nn.Embedding(num_tokens, 32)
        self.near = nn.Conv1d(32, 64, 11, padding=5)
        self.asked = nn.Linear(32, 2 * 64)

    def forward(self, tokens: Tensor, segments: Tensor) -> Tensor:
        x = self.tokens(tokens)
        inside = segments.unsqueeze(2)
        near = self.near((x * inside).transpose(1, 2)).transpose(1, 2)  # [B, T, 64]
        question = (x * (1 - inside)).sum(1) * self.reads
        first, last = self.asked(question).chunk(2, -1)
        return torch.stack([(near * each.unsqueeze(1)).sum(2) for each in (first, last)], -1)


class Fixed(nn.Module):
    """Gives logits that a test has set."""

    logits: Tensor

    def __init__(self, num_tokens: int, *, pad_id: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, segments: Tensor) -> Tensor:
        return self.logits


def windows(*rows: list[tuple[int, int]], asked: list[int], passage: str) -> PassageWindows:
    """A batch of windows whose tokens have these places."""
    places = torch.tensor(rows)
    zero = torch.zeros(len(rows), dtype=torch.long)
    count = max(asked) + 1
    questions = tuple(Question(f"q{n}", passage, "Who?") for n in range(count))
    tokens = torch.ones(places.shape[:2], dtype=torch.long)
    return PassageWindows(tokens, tokens, places, zero, zero, torch.tensor(asked), questions)


def fixed(logits: Tensor, spec: QuestionSpec = SPEC, **options: Any) -> SpanAnswering:
    objective = SpanAnswering(Fixed, spec=spec, **options)
    objective.configure_model()
    objective.network.logits = logits
    return objective


def test_the_loss_is_the_mean_of_two_cross_entropies_over_the_passage() -> None:
    torch.manual_seed(0)
    data = FactQuestions(**FEW)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    objective = SpanAnswering(SMALL, spec=data.spec)
    objective.configure_model()
    objective.eval()
    logits = objective(batch.tokens, batch.segments)
    expected = []
    for row, first, last in zip(range(len(batch.tokens)), batch.starts, batch.ends, strict=True):
        allowed = [0, *batch.inside[row].nonzero().flatten().tolist()]
        for column, label in enumerate((first, last)):
            scores = logits[row, allowed, column]
            expected.append(-scores.log_softmax(0)[allowed.index(int(label))])
    loss = objective.training_step(batch, 0)
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_the_best_window_answers() -> None:
    passage = "Ada is in Rome now"
    one, other = [(0, 0), (0, 3), (4, 6), (7, 9)], [(0, 0), (7, 9), (10, 14), (15, 18)]
    batch = windows(one, other, one, asked=[0, 0, 1], passage=passage)
    logits = torch.zeros(3, 4, 2)
    logits[0, 1:, :] = 1.0
    logits[1, 2] = 3.0  # Rome
    logits[2, 1, 0], logits[2, 2, 1] = 2.0, 2.0  # Ada is
    assert fixed(logits).predict_step(batch, 0) == ["Rome", "Ada is"]
    assert fixed(logits, max_answer_length=1).predict_step(batch, 0) == ["Rome", "Ada"]


@pytest.mark.parametrize(
    ("null", "margin", "expected"),
    [((9.0, 9.0), 0.0, ""), ((9.0, 1.0), 0.0, "Ada"), ((9.0, 9.0), 20.0, "Ada")],
)
def test_no_answer_has_to_win_in_each_window(
    null: tuple[float, float], margin: float, expected: str
) -> None:
    batch = windows(*[[(0, 0), (0, 3)]] * 2, asked=[0, 0], passage="Ada")
    logits = torch.zeros(2, 2, 2)
    logits[:, 1] = 2.0
    logits[0, 0], logits[1, 0] = null
    spec = QuestionSpec(SPEC.tokens, unanswerable=True)
    assert fixed(logits, spec, null_margin=margin).predict_step(batch, 0) == [expected]
    assert fixed(logits, null_margin=margin).predict_step(batch, 0) == ["Ada"]


def test_scores_are_those_of_torchmetrics(tmp_path: Path) -> None:
    L.seed_everything(0, verbose=False)
    data = FactQuestions(**FEW, max_length=40, stride=8, max_tokens=160)
    objective = SpanAnswering(SMALL, partial(torch.optim.Adam, lr=0.01))
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(objective, datamodule=data)
    (found,) = trainer.test(objective, datamodule=data, verbose=False)
    answers = [text for batch in trainer.predict(objective, datamodule=data) for text in batch]
    questions = data.read("test")
    assert len(answers) == len(questions)
    assert all(a in question.passage for a, question in zip(answers, questions, strict=True))
    scores = Scores()
    for answer, question in zip(answers, questions, strict=True):
        right = {"answer_start": [question.begin], "text": list(question.answers)}
        scores.update(
            {"prediction_text": answer, "id": question.name},
            {"answers": right, "id": question.name},
        )
    assert 100 * found["test/exact_match"] == pytest.approx(float(scores.compute()["exact_match"]))
    assert 100 * found["test/f1"] == pytest.approx(float(scores.compute()["f1"]), rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(("reads", "least", "most"), [(True, 0.6, 1.0), (False, 0.0, 0.25)])
def test_facts_are_found_by_who_reads_the_question(
    tmp_path: Path, reads: bool, least: float, most: float
) -> None:
    """Without the question, more than 1 of 8 is luck; by its kind alone, more than 1 of 4."""
    L.seed_everything(0, verbose=False)
    data = FactQuestions(num_train=1500, num_val=20, num_test=300, max_tokens=3000)
    objective = SpanAnswering(partial(Matcher, reads=reads), partial(torch.optim.Adam, lr=0.01))
    trainer = quiet_trainer(tmp_path, max_epochs=6)
    trainer.fit(objective, datamodule=data)
    (found,) = trainer.test(objective, datamodule=data, verbose=False)
    assert least <= found["test/exact_match"] <= most


def test_a_checkpoint_answers_new_questions(tmp_path: Path) -> None:
    passage = "Ada lives in Rome. Ben lives in New York."
    entry = {"id": "q", "question": "Where does Ada live?"}
    answered = entry | {"answers": [{"text": "Rome", "answer_start": 13}]}
    paths = []
    for name, each in (("train", answered), ("new", entry)):
        content = {"data": [{"paragraphs": [{"context": passage, "qas": [each]}]}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        paths.append(str(tmp_path / f"{name}.json"))
    sizes = {"max_length": 32, "stride": 8, "max_tokens": 64}
    L.seed_everything(0, verbose=False)
    trainer = quiet_trainer(tmp_path, max_epochs=30)
    objective = SpanAnswering(SMALL, partial(torch.optim.Adam, lr=0.03))
    trainer.fit(objective, datamodule=SQuAD(paths[0], paths[0], **sizes))
    loaded = load(trainer.checkpoint_callback.last_model_path)
    found = SQuAD(paths[0], paths[0], **sizes).inputs(paths[1], loaded.spec)
    assert [loaded.predict_step(batch, 0) for batch in found.loader] == [["Rome"]]


def test_other_data_is_refused() -> None:
    objective = SpanAnswering(SMALL, spec=SPEC)
    objective.configure_model()
    with pytest.raises(ValueError, match="learns from PassageWindows, and this data has batches"):
        objective.training_step((torch.ones(1, 2), torch.ones(1)), 0)
    bare = SpanAnswering(SMALL, spec=QuestionSpec(TokenSpec(9)))
    with pytest.raises(ValueError, match="has no pad_id"):
        bare.configure_model()
    with pytest.raises(ValueError, match="max_answer_length=0"):
        SpanAnswering(SMALL, max_answer_length=0)


def test_the_network_is_that_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
        layer_norm_eps=1e-5,
    )
    theirs = transformers.BertForQuestionAnswering(config).eval()
    ours = SMALL(50, pad_id=0).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.3)
        theirs.bert.embeddings.word_embeddings.weight[0] = 0
    body, layer = theirs.bert, theirs.bert.encoder.layer[0]
    mine = ours.body.layers[0]
    joined = [getattr(layer.attention.self, name) for name in ("query", "key", "value")]
    mine.attention.query_key_value.weight.data = torch.cat([each.weight for each in joined])
    mine.attention.query_key_value.bias.data = torch.cat([each.bias for each in joined])
    for here, there in (
        (ours.output, theirs.qa_outputs),
        (ours.body.norm, body.embeddings.LayerNorm),
        (mine.attention.output, layer.attention.output.dense),
        (mine.residual.norm, layer.attention.output.LayerNorm),
        (mine.feedforward.hidden, layer.intermediate.dense),
        (mine.feedforward.output, layer.output.dense),
        (mine.feedforward.residual.norm, layer.output.LayerNorm),
    ):
        here.load_state_dict(there.state_dict())
    ours.body.tokens.weight.data = body.embeddings.word_embeddings.weight
    ours.body.positions.weight.data = body.embeddings.position_embeddings.weight
    ours.body.segments.weight.data = body.embeddings.token_type_embeddings.weight
    tokens, segments = torch.randint(1, 50, (3, 9)), torch.randint(2, (3, 9))
    tokens[1, 6:] = 0
    kept = tokens != 0
    found = ours(tokens, segments)
    expected = theirs(tokens, token_type_ids=segments, attention_mask=kept.long())
    for column, logits in enumerate((expected.start_logits, expected.end_logits)):
        torch.testing.assert_close(found[..., column][kept], logits[kept], atol=1e-5, rtol=1e-5)

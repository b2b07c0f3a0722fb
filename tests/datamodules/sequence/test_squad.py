"""Questions about passages: what windows hold, and what is wrong with a file."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sequence_cases import check_exact_resume, written

from trellis.datamodules.sequence import FactQuestions, SQuAD
from trellis.datamodules.sequence.passage_windows import words_of
from trellis.sequence.answers import PassageWindows
from trellis.sequence.subword import BPETokenizer, WordPieceTokenizer
from trellis.sequence.tokenizer import BOS, EOS, PAD, CharTokenizer

PASSAGE = "The tower was built in 1889 by Gustave Eiffel's firm. It is 330 metres tall, in Paris."
ASKED = {"built": ("When was it built?", "1889"), "who": ("Who built it?", "Gustave Eiffel")}


def entry(name: str, question: str, answer: str | None = None, **fields: Any) -> dict[str, Any]:
    """A question as SQuAD has it; ``None`` for an answer: there is none."""
    if answer is None:
        return {"id": name, "question": question, "answers": [], "is_impossible": True, **fields}
    answers = [{"text": answer, "answer_start": PASSAGE.find(answer)}]
    return {"id": name, "question": question, "answers": answers, **fields}


def layout(*entries: dict[str, Any], passage: str = PASSAGE) -> str:
    paragraph = {"context": passage, "qas": list(entries)}
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [paragraph]}]})


WHOLE = layout(*(entry(name, *both) for name, both in ASKED.items()))


def ready(folder: Path, train: str = WHOLE, val: str = WHOLE, **options: Any) -> SQuAD:
    sizes = {"max_length": 20, "stride": 4, "max_tokens": 200, **options}
    paths = [written(folder, name, text) for name, text in (("a.json", train), ("b.json", val))]
    data = SQuAD(*paths, **sizes)
    data.prepare_data()
    data.setup()
    return data


def text_at(batch: PassageWindows, row: int, first: int, last: int) -> str:
    passage = batch.questions[int(batch.asked[row])].passage
    return passage[int(batch.places[row, first, 0]) : int(batch.places[row, last, 1])]


@pytest.mark.parametrize("tokenizer", [WordPieceTokenizer, BPETokenizer])
def test_windows_cover_the_passage_and_mark_the_answer(tmp_path: Path, tokenizer: Any) -> None:
    data = ready(tmp_path, tokenizer=tokenizer, max_length=34)
    for batch in data.val_dataloader():
        for number, question in enumerate(batch.questions):
            covered, found = set(), 0
            for row in (batch.asked == number).nonzero().flatten().tolist():
                tokens, places = batch.tokens[row].tolist(), batch.places[row].tolist()
                inside = batch.inside[row].nonzero().flatten()
                first, last = int(inside[0]), int(inside[-1])
                assert tokens[0] == BOS
                assert tokens[first - 1] == tokens[last + 1] == EOS
                assert last + 2 <= 34
                assert set(tokens[last + 2 :]) <= {PAD}
                assert batch.segments[row].tolist() == [
                    int(first <= place <= last + 1) for place in range(len(tokens))
                ]
                asked = data.tokenizer.decode(tokens[1 : first - 1])
                assert words_of(asked) == words_of(question.text.lower())
                covered |= {place for a, b in places for place in range(a, b)}
                start, end = int(batch.starts[row]), int(batch.ends[row])
                if start:
                    assert text_at(batch, row, start, end) == question.answers[0]
                    found += 1
                assert (start == 0) == (end == 0)
            letters = {i for i, c in enumerate(PASSAGE) if not c.isspace()}
            assert covered == letters
            assert found > 0


def test_training_has_each_window_once_and_resumes(tmp_path: Path) -> None:
    data = ready(tmp_path, max_tokens=40)
    windows = data.splits["train"]
    assert len(windows.windows) > 4
    batches = list(data.train_dataloader())
    assert sum(len(batch.tokens) for batch in batches) == len(windows.windows)
    assert all(batch.tokens.numel() <= 40 and batch.questions == () for batch in batches)
    served = [batch for epoch in data.val_dataloader() for batch in epoch.questions]
    assert [question.name for question in served] == list(ASKED)
    check_exact_resume(data.train_dataloader(), data.train_dataloader())


def test_a_short_passage_is_one_window(tmp_path: Path) -> None:
    data = ready(tmp_path, max_length=200, max_tokens=400)
    ((batch),) = data.val_dataloader()
    assert len(batch.tokens) == 2
    assert batch.asked.tolist() == [0, 1]


def test_unanswerable_questions_point_at_the_first_token(tmp_path: Path) -> None:
    assert not ready(tmp_path).spec.unanswerable
    both = layout(entry("who", *ASKED["who"]), entry("why", "Why was it built?"))
    data = ready(tmp_path, both, both)
    assert data.spec.unanswerable
    for batch in data.val_dataloader():
        for row, number in enumerate(batch.asked.tolist()):
            if batch.questions[number].name == "why":
                assert int(batch.starts[row]) == int(batch.ends[row]) == 0
                assert batch.questions[number].answers == ()


def test_all_answers_of_a_question_are_references(tmp_path: Path) -> None:
    answers = [{"text": t, "answer_start": PASSAGE.find(t)} for t in ("1889", "in 1889")]
    data = ready(tmp_path, val=layout(entry("q", "When?", "1889") | {"answers": answers}))
    (batch,) = data.val_dataloader()
    assert batch.questions[0].answers == ("1889", "in 1889")


def test_new_questions_need_no_answers(tmp_path: Path) -> None:
    data = ready(tmp_path)
    new = layout({"id": "n1", "question": "How tall is it?"}, {"id": "n2", "question": "Where?"})
    found = data.inputs(written(tmp_path, "new.json", new), data.spec)
    assert list(found.ids) == ["n1", "n2"]
    asked = [question.text for batch in found.loader for question in batch.questions]
    assert asked == ["How tall is it?", "Where?"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"a\.json is no JSON: "),
        ("[]", r"a\.json has no 'data' that is a list"),
        ('{"data": [{}]}', r"data\[0\] has no 'paragraphs' that is a list"),
        ('{"data": []}', r"a\.json has no questions"),
        (layout(passage="x"), r"a\.json has no questions"),
        (layout({"id": 3}), r"qas\[0\] has no 'id' that is a text"),
        (layout(entry("q", "Who?", "Eiffel"), passage="  "), "context is empty"),
        (layout(entry("q", " ", "Eiffel")), r"question 'q' is empty"),
        (layout(entry("q", "Who?", "Eiffel") | {"answers": []}), "'q' has no answer: give one"),
        (
            layout(entry("q", "Who?", "Eifel")),
            r"question 'q': the answer 'Eifel' is not at answer_start=-1",
        ),
        (
            layout(entry("q", "Who?", "Eiffel") | {"answers": [
                {"text": "Eiffel", "answer_start": PASSAGE.find("Eiffel") - 1}
            ]}),
            r"'Eiffel' is not at answer_start=\d+ of its context, which has ' Eiffe' there",
        ),
        (layout(entry("q", "Who? " * 20, "Eiffel")), r"question 'q': it has \d+ tokens, which le"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_at_the_door(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ready(tmp_path, text)


def test_bad_sizes_are_refused(tmp_path: Path) -> None:
    for options, message in (
        ({"stride": 0}, "stride=0"),
        ({"max_length": 300}, "max_length=300: give 3 to max_tokens=200"),
        ({"tokenizer": CharTokenizer}, "CharTokenizer has no pad_id"),
    ):
        with pytest.raises(ValueError, match=message):
            ready(tmp_path, **options)
    with pytest.raises(ValueError, match="num_people=9: give at most 8"):
        FactQuestions(num_people=9)


def test_facts_have_one_right_answer_each() -> None:
    data = FactQuestions(num_train=300, num_val=50, num_test=50, unanswerable=0.2)
    data.setup()
    kinds = {"Where": " lives in ", "What": " works as a "}
    lacking = 0
    for question in data.read("train"):
        person = question.text.split()[2]
        said = kinds[question.text.split()[0]]
        told = [part for part in question.passage.split(".") if person + said in part]
        if question.begin < 0:
            assert not told
            lacking += 1
            continue
        (fact,) = told
        (answer,) = question.answers
        assert fact.strip() == person + said + answer
        assert question.passage[question.begin :].startswith(answer + ".")
        assert question.passage.count(answer + ".") == 1
    assert 30 < lacking < 90
    names = {question.name for split in ("train", "val", "test") for question in data.read(split)}
    assert len(names) == 400
    other = FactQuestions(num_train=300, num_val=50, num_test=50, unanswerable=0.2, seed=1)
    assert other.read("val") == data.read("val")
    assert other.read("train") != data.read("train")
    assert torch.is_tensor(next(iter(data.train_dataloader())).tokens)

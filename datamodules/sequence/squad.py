"""Questions and passages in the layout of the Stanford Question Answering Dataset."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trellis.datamodules.engine.base import Inputs, Split
from trellis.datamodules.sequence.new_lines import tokenizer_of
from trellis.datamodules.sequence.passage_windows import words_of
from trellis.datamodules.sequence.question_data import QuestionData
from trellis.datamodules.sequence.text_files import learn_tokenizer, read_text
from trellis.files import FilePath, decode_utf8, name_of, read_bytes
from trellis.sequence.answers import Question
from trellis.sequence.subword import WordPieceTokenizer
from trellis.sequence.tokenizer import Tokenizer, TokenizerFactory

_KINDS = {list: "a list", str: "a text", int: "a number"}


class SQuAD(QuestionData):
    """Questions whose answers are spans of passages, from files in SQuAD's JSON.

    Batch: ``PassageWindows``. A passage that is too long for ``max_length`` is cut into windows
    that overlap. In training and in the loss the first answer of a question counts, in evaluation
    all of them. Questions with ``is_impossible`` have none.

    Args:
        train: path of the training file, such as ``train-v2.0.json``; compressed if it ends in
            ``.gz``.
        val: path of the validation file, such as ``dev-v2.0.json``.
        test: path of the test file; ``None`` uses ``val``.
        tokenizer: learnt from the training passages and questions, and applied to runs of letters
            and digits and to single other characters.
        lowercase: convert the text to lower case; answers are as the passage has them.
        max_length: tokens of a question and a window of its passage, with three special ones.
        stride: tokens from the beginning of a window to that of the next.
        max_tokens: in a batch, padding included.
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not UTF-8, no JSON or in another layout, or has no questions; an
            answer is not in the passage at its ``answer_start``, or a question has none and is not
            ``is_impossible``, or leaves less than ``stride`` tokens for the passage: names its id.

    Source: Rajpurkar et al. 2016; Rajpurkar et al. 2018 (unanswerable questions); windows: Devlin
    et al. 2019, released code.
    """

    def __init__(
        self,
        train: FilePath,
        val: FilePath,
        test: FilePath | None = None,
        tokenizer: TokenizerFactory = WordPieceTokenizer,
        lowercase: bool = True,
        max_length: int = 384,
        stride: int = 128,
        max_tokens: int = 4608,
    ) -> None:
        super().__init__(max_length, stride, max_tokens)
        self.paths = {"train": Path(train), "val": Path(val), "test": Path(test or val)}
        self.factory, self.lowercase = tokenizer, lowercase

    def read(self, split: Split) -> list[Question]:
        return read_questions(read_text(self.paths[split]), self.source(split), answered=True)

    def source(self, split: Split) -> str:
        return str(self.paths[split])

    def learn(self, train: list[Question]) -> Tokenizer:
        texts = {question.passage: None for question in train} | {q.text: None for q in train}
        return learn_tokenizer(
            self.factory,
            [" ".join(words_of(text)) for text in texts],
            lowercase=self.lowercase,
            folder=self.paths["train"].parent,
        )

    def inputs(self, path: str, spec: Any) -> Inputs:
        """See ``DataModule``; questions need no answers."""
        text = decode_utf8(read_bytes(path, "input"), name_of(path))
        questions = read_questions(text, name_of(path), answered=False)
        windows = self.windowed(questions, tokenizer_of(spec.tokens, path), name_of(path))
        return Inputs(self.in_order(windows), [question.name for question in questions])


def read_questions(text: str, source: str, *, answered: bool) -> list[Question]:
    """The questions of a file in SQuAD's layout.

    Args:
        text: of the file.
        source: what messages call it.
        answered: whether each question has answers, or says that there is none.
    Raises:
        ValueError: see ``SQuAD``.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{source} is no JSON: {error}") from None
    questions = [
        _question(entry, passage, place, source, answered)
        for passage, entry, place in _entries(content, source)
    ]
    if not questions:
        raise ValueError(f"{source} has no questions: give it some, in data[].paragraphs[].qas[]")
    return questions


def _entries(content: Any, source: str) -> Iterator[tuple[str, Any, str]]:
    """The passage, the entry and the place of each question."""
    for i, article in enumerate(_field(content, "data", list, source)):
        at = f"{source}: data[{i}]"
        for j, paragraph in enumerate(_field(article, "paragraphs", list, at)):
            where = f"{at}.paragraphs[{j}]"
            passage = _field(paragraph, "context", str, where)
            if not words_of(passage):
                raise ValueError(f"{where}.context is empty: give it text")
            for k, entry in enumerate(_field(paragraph, "qas", list, where)):
                yield passage, entry, f"{where}.qas[{k}]"


def _field(entry: Any, name: str, kind: type, where: str) -> Any:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        layout = "SQuAD's layout has one there"
        raise ValueError(f"{where} has no {name!r} that is {_KINDS[kind]}: {layout}")
    return value


def _question(entry: Any, passage: str, place: str, source: str, answered: bool) -> Question:
    name, text = (_field(entry, field, str, place) for field in ("id", "question"))
    where = f"{source}, question {name!r}"
    if not words_of(text):
        raise ValueError(f"{where} is empty: give it text")
    if not answered or entry.get("is_impossible"):
        return Question(name, passage, text)
    answers = _field(entry, "answers", list, where)
    if not answers:
        raise ValueError(f"{where} has no answer: give one, or is_impossible: true")
    texts, begins = [], []
    for each in answers:
        answer, begin = _field(each, "text", str, where), _field(each, "answer_start", int, where)
        there = passage[max(begin, 0) : max(begin, 0) + len(answer)]
        if there != answer or begin < 0 or not words_of(answer):
            raise ValueError(
                f"{where}: the answer {answer!r} is not at answer_start={begin} of its context, "
                f"which has {there!r} there: correct one of them"
            )
        texts.append(answer)
        begins.append(begin)
    return Question(name, passage, text, tuple(texts), begins[0])

"""What data modules of questions about passages share."""

from abc import abstractmethod
from collections.abc import Sequence

from trellis.checks import at_least, at_least_one
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.budget import budget_loader, check_budget
from trellis.datamodules.sequence.passage_windows import WindowedQuestions
from trellis.datamodules.sequence.text_files import STAGES, require_ids
from trellis.sequence.answers import PassageWindows, Question
from trellis.sequence.tokenizer import Tokenizer
from trellis.spec import QuestionSpec


class QuestionData(DataModule):
    """Base of the data modules of questions whose answers are spans of passages.

    A subclass reads the questions of a split, and learns its tokenizer from the training ones.
    Training batches are windows; those of evaluation and prediction are whole questions.

    Args:
        max_length: tokens of a question and a window of its passage, with three special ones.
        stride: tokens from the beginning of a window to that of the next.
        max_tokens: in a batch, padding included.
    Raises:
        ValueError: a size is too small.
    """

    def __init__(self, max_length: int, stride: int, max_tokens: int) -> None:
        super().__init__()
        check_budget(max_tokens, max_length)
        self.max_length = at_least(5, "max_length", max_length, ", with three special tokens")
        self.stride, self.max_tokens = at_least_one("stride", stride), max_tokens
        self.splits: dict[str, WindowedQuestions] = {}

    @abstractmethod
    def read(self, split: Split) -> list[Question]:
        """The questions of a split, at least one."""

    @abstractmethod
    def learn(self, train: list[Question]) -> Tokenizer:
        """The tokenizer of all splits."""

    def source(self, split: Split) -> str:
        """What messages call the questions of a split."""
        return f"{type(self).__name__}, {split}"

    def setup(self, stage: str | None = None) -> None:
        wanted = [split for split in STAGES[stage] if split not in self.splits]
        found = {split: self.read(split) for split in wanted}
        if self.spec is None:
            train = found["train"] if "train" in found else self.read("train")
            self.tokenizer = self.learn(train)
            require_ids(self.tokenizer, "pad_id", "bos_id", "eos_id")
            lacking = any(not question.answers for question in train)
            self.spec = QuestionSpec(self.tokenizer.spec, lacking)
        for split, questions in found.items():
            self.splits[split] = self.windowed(questions, self.tokenizer, self.source(split))

    def windowed(
        self, questions: Sequence[Question], tokenizer: Tokenizer, source: str
    ) -> WindowedQuestions:
        """Windows of questions, see ``WindowedQuestions``."""
        return WindowedQuestions(questions, tokenizer, self.max_length, self.stride, source)

    def loader(self, split: Split) -> Loader[PassageWindows]:
        windows = self.splits[split]
        if split != "train":
            return self.in_order(windows)
        return budget_loader(windows.lengths, windows.training_batch, self.max_tokens, "shuffled")

    def in_order(self, windows: WindowedQuestions) -> Loader[PassageWindows]:
        """Batches of whole questions, in the order of the file."""
        lengths = windows.question_lengths()
        return budget_loader(lengths, windows.whole_questions, self.max_tokens, "as given")

"""Generated passages of facts about people, and questions about one of them."""

from random import Random

from trellis.checks import at_least, at_least_one, probability
from trellis.datamodules.engine.base import Split
from trellis.datamodules.sequence.passage_windows import words_of
from trellis.datamodules.sequence.question_data import QuestionData
from trellis.sequence.answers import Question
from trellis.sequence.tokenizer import Tokenizer, WordTokenizer

PEOPLE = (  # noqa: SIM905 - one a line would fill a screen
    "Ada Ben Carla David Emma Felix Gina Hugo Ida Jonas Karin Leo Maria Nils Olga Paul Rosa Simon "
    "Tara Viktor"
).split()
# What is said of a person, what is asked about it, and the answers.
FACTS = {
    "{} lives in {}.": (
        "Where does {} live?",
        ["Rome", "Oslo", "Lima", "New York", "Cape Town", "Paris", "Hong Kong", "Cairo", "Quito"],
    ),
    "{} works as a {}.": (
        "What does {} work as?",
        ["baker", "bus driver", "teacher", "nurse", "judge", "tour guide", "painter", "farmer"],
    ),
}


class FactQuestions(QuestionData):
    """Passages such as "Ada works as a bus driver. Ben lives in Rome. ...", with a question each.

    Batch: ``PassageWindows``. A passage says where each of its people lives and what each works
    as, in random order, and the question is about one of these facts. All answers in a passage
    differ: without the question nobody is right more often than in 1 of 2 ``num_people`` cases,
    and knowing only what kind of answer is asked for, in 1 of ``num_people``.

    Args:
        num_train: questions to train on.
        num_val: questions to validate on, the same whatever the seed.
        num_test: questions to test on, likewise.
        num_people: in a passage.
        unanswerable: share of the questions that are about somebody else.
        max_length, stride, max_tokens: see ``SQuAD``.
        seed: of the training questions.
    Raises:
        ValueError: a size is too small, or there are too many people.
    """

    def __init__(
        self,
        num_train: int = 8000,
        num_val: int = 500,
        num_test: int = 500,
        num_people: int = 4,
        unanswerable: float = 0.0,
        max_length: int = 96,
        stride: int = 32,
        max_tokens: int = 2048,
        seed: int = 0,
    ) -> None:
        super().__init__(max_length, stride, max_tokens)
        self.sizes = {"train": num_train, "val": num_val, "test": num_test}
        for split, size in self.sizes.items():
            at_least_one(f"num_{split}", size)
        most = min(len(answers) for _, answers in FACTS.values())
        if at_least(1, "num_people", num_people) > most:
            raise ValueError(f"num_people={num_people}: give at most {most}")
        self.num_people, self.seed = num_people, seed
        self.unanswerable = probability("unanswerable", unanswerable)

    def read(self, split: Split) -> list[Question]:
        seed = self.seed if split == "train" else 0
        random = Random(f"{split} {seed}")
        return [self._question(f"{split} {n}", random) for n in range(self.sizes[split])]

    def learn(self, train: list[Question]) -> Tokenizer:
        # Of all names and answers: those of the training questions might not be all.
        texts = [" ".join(PEOPLE)]
        for said, (asked, answers) in FACTS.items():
            texts += [said, asked, *answers]
        words = [" ".join(words_of(text.replace("{}", " "))) for text in texts]
        return WordTokenizer(words, split_punctuation=False)

    def _question(self, name: str, random: Random) -> Question:
        *people, other = random.sample(PEOPLE, self.num_people + 1)
        facts = [
            (said.format(person, answer), asked.format(person), answer, said)
            for said, (asked, answers) in FACTS.items()
            for person, answer in zip(people, random.sample(answers, len(people)), strict=True)
        ]
        random.shuffle(facts)
        passage = " ".join(sentence for sentence, *_ in facts)
        which = random.randrange(len(facts))
        sentence, text, answer, said = facts[which]
        if random.random() < self.unanswerable:
            return Question(name, passage, FACTS[said][0].format(other))
        before = sum(len(earlier) + 1 for earlier, *_ in facts[:which])
        begin = before + sentence.index(answer, sentence.index(" "))
        return Question(name, passage, text, (answer,), begin)

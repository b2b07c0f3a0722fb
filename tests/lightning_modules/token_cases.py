"""Small token data and networks, to test objectives on pairs, labels and tags."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.processes import rank_and_world
from trellis.sequence.batches import Ragged, SentencePair, SentencePairs
from trellis.sequence.tokenizer import WordTokenizer
from trellis.spec import LabelledTokenSpec, RatedPairSpec, TokenSpec

PAD, CLS, SEP, UNKNOWN, MASK = range(5)
NUM_WORDS = 20
SPEC = TokenSpec(
    num_tokens=5 + NUM_WORDS, pad_id=PAD, bos_id=CLS, eos_id=SEP, unknown_id=UNKNOWN, mask_id=MASK
)


class WordPairs(DataModule):
    """Pairs of sentences that repeat one word each: any other word reveals a masked one.

    A pair is in order if both repeat the same word. 37 pairs: four batches of 8, then 5.

    Args:
        noise: draw all words at random: neither words nor order can be predicted.
    """

    def __init__(
        self,
        num_pairs: int = 37,
        batch_size: int = 8,
        noise: bool = False,
        num_words: int = NUM_WORDS,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.batch_size, self.spec = batch_size, SPEC
        self.splits = {
            split: word_pairs(num_pairs, noise, num_words, seed)
            for seed, split in enumerate(("train", "val", "test"))
        }

    def loader(self, split: str) -> Loader:
        tokens, in_order = self.splits[split]

        def fetch(indices: Tensor) -> SentencePairs:
            padded = tokens.padded(indices, PAD)
            ends = (padded == SEP).long()
            segments = (ends.cumsum(1) - ends).where(padded != PAD, 0)
            return SentencePairs(padded, segments, in_order[indices])

        train = split == "train"
        return Loader(len(tokens), fetch, batch_size=self.batch_size, shuffle=train)


def word_pairs(number: int, noise: bool, num_words: int, seed: int) -> tuple[Ragged, Tensor]:
    """Token ids of ``number`` pairs, and whether they are in order."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    sequences, in_order = [], torch.arange(number) % 2
    for ordered in in_order.tolist():
        first, lengths = draw(0, num_words), (draw(4, 8), draw(4, 8))
        second = (first if ordered else first + draw(1, num_words)) % num_words
        words = [[word] * length for word, length in zip((first, second), lengths, strict=True)]
        if noise:
            words = [[draw(0, num_words) for _ in part] for part in words]
        a, b = ([5 + word for word in part] for part in words)
        sequences.append([CLS, *a, SEP, *b, SEP])
    return Ragged(sequences), in_order


class LabelledWords(DataModule):
    """37 sequences of 3 to 9 words, labelled by ``label``: batches of 8, the last one of 5.

    Args:
        label: from the words ``[N, T]``, 0 where there is none, to labels ``[N]`` or ``[N, T]``.
        classes: names of the labels.
        num_words: how many there are to draw from.
    """

    def __init__(
        self,
        label: Callable[[Tensor], Tensor],
        classes: tuple[str, ...],
        number: int = 37,
        batch_size: int = 8,
        shuffled: bool = False,
        num_words: int = NUM_WORDS,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.spec = LabelledTokenSpec(SPEC, len(classes), classes)
        self.splits = {}
        for seed, split in enumerate(("train", "val", "test")):
            generator = torch.Generator().manual_seed(seed)
            words = torch.randint(5, 5 + num_words, (number, 9), generator=generator)
            lengths = torch.randint(3, 10, (number, 1), generator=generator)
            tokens = words.where(torch.arange(9) < lengths, PAD)
            labels = label(tokens)
            if shuffled:
                mixed = labels[labels >= 0]
                order = torch.randperm(len(mixed), generator=generator)
                labels[labels >= 0] = mixed[order]
            self.splits[split] = tokens, labels

    def loader(self, split: str) -> Loader:
        return tensor_loader(
            *self.splits[split], batch_size=self.batch_size, train=split == "train"
        )


class FirstWord(LabelledWords):
    """The label is the third of the vocabulary that the first word comes from."""

    def __init__(self, number: int = 37, batch_size: int = 8, shuffled: bool = False) -> None:
        super().__init__(first_word, ("low", "middle", "high"), number, batch_size, shuffled)
        self.save_hyperparameters(logger=False)


class Names(LabelledWords):
    """Word 6 begins a person, 7 a place; words 8 and 9 continue a name that has begun."""

    def __init__(self, number: int = 37, batch_size: int = 8, shuffled: bool = False) -> None:
        super().__init__(names, BIO, number, batch_size, shuffled, num_words=6)
        self.save_hyperparameters(logger=False)


class Rated(DataModule):
    """37 pairs of the sentences of ``FirstWord``, rated by whether their labels agree."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.spec = RatedPairSpec(SPEC)
        self.words = FirstWord()

    def loader(self, split: str) -> Loader:
        tokens, labels = self.words.splits[split]

        def fetch(indices: Tensor) -> tuple[SentencePair, Tensor]:
            others = (indices + 1) % len(labels)
            alike = (labels[indices] == labels[others]).float()
            return SentencePair(tokens[indices], tokens[others]), alike

        return Loader(len(labels), fetch, batch_size=8, shuffle=split == "train")


BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def first_word(tokens: Tensor) -> Tensor:
    return (tokens[:, 0] - 5) * 3 // NUM_WORDS


def names(tokens: Tensor) -> Tensor:
    tags, tag = torch.full_like(tokens, -100), torch.zeros(len(tokens), dtype=torch.long)
    for column, words in enumerate(tokens.unbind(1)):
        inside = torch.where((words == 8) | (words == 9), tag + tag % 2, 0)
        tag = torch.where(words == 6, 1, torch.where(words == 7, 3, inside))
        tags[:, column] = tag.where(words != PAD, -100)
    return tags


class WordGuesser(nn.Module):
    """Predicts a masked word from its two neighbours, the order from the mean of all words."""

    def __init__(self, num_tokens: int, *, pad_id: int, embed_dim: int = 8) -> None:
        super().__init__()
        self.words = nn.Embedding(num_tokens, embed_dim, padding_idx=pad_id)
        self.segments = nn.Embedding(2, embed_dim)
        self.dropout = nn.Dropout(0.1)
        self.guess = nn.Linear(3 * embed_dim, num_tokens)
        self.order = nn.Linear(embed_dim, 2)

    def forward(
        self, tokens: Tensor, segments: Tensor, chosen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        x = self.dropout(self.words(tokens) + self.segments(segments))
        window = torch.cat([x.roll(1, 1), x, x.roll(-1, 1)], dim=-1)
        return self.guess(window if chosen is None else window[chosen]), self.order(x.mean(1))


class WordVotes(nn.Module):
    """Each word votes for classes: the sum is the sequence's, ``each`` keeps them apart."""

    def __init__(
        self, num_tokens: int, out_channels: int, *, pad_id: int, each: bool = False
    ) -> None:
        super().__init__()
        self.votes = nn.Embedding(num_tokens, out_channels, padding_idx=pad_id)
        self.dropout, self.each = nn.Dropout(0.1), each

    def forward(self, tokens: Tensor) -> Tensor:
        votes = self.dropout(self.votes(tokens))
        return votes if self.each else votes.sum(1)


class SpelledStreams(DataModule):
    """Windows of 12 words of a Markov chain over three, in batches of 8."""

    def __init__(self, steps: int = 5) -> None:
        super().__init__()
        tokenizer = WordTokenizer(["one two three"], split_punctuation=False)
        self.spec, self.steps = tokenizer.spec, steps
        self.rows = 4 + Streams(2 * steps).rows  # after the special ids

    def loader(self, split: str) -> Loader[Tensor]:
        rows = self.rows.unfold(1, 12, 3).flatten(0, 1)
        return Loader(len(rows), lambda i: rows[i], batch_size=8, shuffle=split == "train")


class Streams(DataModule):
    """A Markov chain over three symbols in 4 rows, 10 consecutive batches of 6 tokens."""

    transitions = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.2, 0.8], [0.5, 0.25, 0.25]])

    def __init__(self, steps: int = 10, jump: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        generator = torch.Generator().manual_seed(0)
        rows = torch.zeros(4, 6 * steps + 1, dtype=torch.long)
        for t in range(6 * steps):
            rows[:, t + 1 :][:, :1] = torch.multinomial(
                self.transitions[rows[:, t]], 1, generator=generator
            )
        self.rows, self.steps, self.jump = rows, steps, jump
        self.spec = TokenSpec(3)

    def loader(self, split: str) -> Loader[Tensor]:
        _, world = rank_and_world()  # each process has rows of its own

        def fetch(index: Tensor) -> Tensor:
            step, rank = divmod(int(index), world)
            step = step * (2 if self.jump else 1) % self.steps
            return self.rows.tensor_split(world)[rank][:, 6 * step : 6 * step + 7]

        return Loader(self.steps * world, fetch)

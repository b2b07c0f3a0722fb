"""Step functions to decode with, and the same searches written naively: no batch, no cache."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

BOS, EOS = 1, 2
Row = Callable[[tuple[int, ...]], Tensor]  # from all tokens of one sequence to logits [V]


class Words:
    """A tree of words with their log-probabilities.

    What is left falls to ``~``, after which any word may follow; prefixes that the tree lacks end.
    """

    def __init__(self, tree: dict[str, dict[str, float]]) -> None:
        self.tree = tree
        words = {word for branch in tree.values() for word in branch}
        self.vocabulary = ["~", "<s>", "</s>", *sorted(words - {"</s>"})]
        self.prompt = torch.tensor([[BOS]])

    def __call__(
        self, tokens: Tensor, state: Tensor | None, memory: None
    ) -> tuple[Tensor, Tensor]:
        seen = tokens if state is None else torch.cat([state, tokens], 1)
        return torch.stack([self.row(line) for line in seen.tolist()]).unsqueeze(1), seen

    def row(self, line: list[int]) -> Tensor:
        words = self.text(line[1:])
        logits = torch.full((len(self.vocabulary),), -math.inf)
        if "~" in words:
            return logits.index_fill(0, torch.arange(3, len(logits)), 0.0)
        branch = self.tree.get(words, {"</s>": 0.0})
        left = 1 - sum(math.exp(value) for value in branch.values())
        for word, value in branch.items():
            logits[self.vocabulary.index(word)] = value
        if left > 1e-6:
            logits[0] = math.log(left)
        return logits

    def text(self, line: Sequence[int]) -> str:
        return " ".join(self.vocabulary[index] for index in line)


class SmallNet(nn.Module):
    """A random GRU that looks at a memory: what comes next depends on all there is."""

    def __init__(self, num_tokens: int, seed: int, sharpness: float = 3.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(num_tokens, 6)
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.output = nn.Linear(8, num_tokens)
        self.sharpness = sharpness

    def decode(self, tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]:
        """State ``(h [N, 8], None)``; memory ``(m [N, 1, 8],)`` or None."""
        before = None if state is None else state[0].unsqueeze(0)
        out, after = self.gru(self.embedding(tokens), before)
        if memory is not None:
            assert len(memory[0]) == len(tokens)
            out = out + memory[0]
        return self.sharpness * self.output(out), (after[0], None)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self.decode(tokens, state, None)


def alone(step: Any, state: Any = None, memory: Any = None) -> Row:
    """``step`` for one sequence that is fed whole each time."""

    def row(line: tuple[int, ...]) -> Tensor:
        with torch.no_grad():
            return step(torch.tensor([line]), state, memory)[0][0, -1]

    return row


class Found(NamedTuple):
    """A hypothesis: what follows the prompt, the end included."""

    tokens: tuple[int, ...]
    score: float
    normalized: float
    finished: bool


def ranked(found: list[Found]) -> list[Found]:
    """What ended, then what was cut off, unless the best of the latter has the larger sum."""
    ended, cut = (
        sorted((one for one in found if one.finished == kind), key=lambda one: -one.normalized)
        for kind in (True, False)
    )
    return cut + ended if ended and cut and cut[0].score > ended[0].score else ended + cut


def normalize(score: float, length: int, alpha: float) -> float:
    return score / max(length, 1) ** alpha


def naive_greedy(row: Row, prompt: tuple[int, ...], eos: int | None, limit: int) -> Found:
    tokens, score = prompt, 0.0
    while len(tokens) < len(prompt) + limit:
        logp = row(tokens).log_softmax(0)
        best = int(logp.argmax())
        tokens, score = (*tokens, best), score + float(logp[best])
        if best == eos:
            break
    new = tokens[len(prompt) :]
    return Found(new, score, score / len(new), new[-1] == eos)


def naive_beam(
    row: Row,
    prompt: tuple[int, ...],
    eos: int,
    limit: int,
    beams: int,
    alpha: float,
    count_eos: bool,
) -> tuple[list[Found], set[tuple[int, ...]]]:
    """All that ended or was cut off, best first, and every prefix that was kept on the way."""
    live, ended, kept = [((), 0.0)], [], set()
    for _ in range(limit):
        extended = []
        for tokens, score in live:
            logp = row((*prompt, *tokens)).log_softmax(0).tolist()
            extended += [((*tokens, v), score + logp[v]) for v in range(len(logp))]
        extended = [one for one in extended if one[1] > -math.inf]
        best = sorted(extended, key=lambda one: -one[1])[: beams - len(ended)]
        kept |= {tokens for tokens, _ in best}
        for tokens, score in best:
            if tokens[-1] == eos:
                length = len(tokens) - (not count_eos)
                ended.append(Found(tokens, score, normalize(score, length, alpha), True))
        live = [one for one in best if one[0][-1] != eos]
    cut = [Found(t, s, normalize(s, len(t), alpha), False) for t, s in live]
    return ranked(ended + cut), kept


def brute_force(
    row: Row, prompt: tuple[int, ...], eos: int, limit: int, alpha: float, count_eos: bool
) -> list[Found]:
    """Every sequence there is, best first."""

    def below(tokens: tuple[int, ...], score: float) -> Iterator[Found]:
        if tokens and tokens[-1] == eos:
            length = len(tokens) - (not count_eos)
            yield Found(tokens, score, normalize(score, length, alpha), True)
        elif len(tokens) == limit:
            yield Found(tokens, score, normalize(score, limit, alpha), False)
        else:
            for v, logp in enumerate(row((*prompt, *tokens)).log_softmax(0).tolist()):
                yield from below((*tokens, v), score + logp)

    return ranked(list(below((), 0.0)))


def found(hypotheses: Any, index: int = 0) -> list[Found]:
    """What a search returned for one prompt, empty places left out."""
    result = []
    for tokens, length, score, normalized, finished in zip(
        *(field[index].tolist() for field in hypotheses), strict=True
    ):
        if score > -math.inf:
            result.append(Found(tuple(tokens[: length + finished]), score, normalized, finished))
    return result


def assert_same(ours: list[Found], theirs: list[Found]) -> None:
    """The same sequences in the same order, scores to 1e-5."""
    assert [(one.tokens, one.finished) for one in ours] == [
        (one.tokens, one.finished) for one in theirs
    ]
    for column in ("score", "normalized"):
        a, b = ([getattr(one, column) for one in side] for side in (ours, theirs))
        torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=1e-5, atol=1e-5)

"""BLEU and chrF of generated texts, as sacrebleu computes them."""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

_Pair = tuple[str, str, str]  # hypothesis, reference, direction


class TextScores(Metric):
    """BLEU (13a tokens) and chrF of a whole split, 0 to 100, as sacrebleu reports them.

    Where texts have a direction, such as "de-en", each direction has scores of its own too. The
    scores are case-sensitive: convert both sides to lower case to compare with lower-case
    results. The texts of all processes are gathered when the scores are computed.

    Raises:
        ValueError: sacrebleu is not installed; says how to get it.

    Source: Papineni et al. 2002; Popovic 2015; Post 2018 (nrefs:1|tok:13a|smooth:exp).
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        if find_spec("sacrebleu") is None:
            raise ValueError("BLEU needs sacrebleu: pip install 'torch-trellis[text]'")
        self.pairs: list[_Pair] = []

    def update(
        self, hypotheses: Sequence[str], references: Sequence[str], directions: Sequence[str] = ()
    ) -> None:
        """Add texts, each with one reference, and with a direction or none."""
        directions = directions or [""] * len(hypotheses)
        self.pairs += zip(hypotheses, references, directions, strict=True)

    def compute(self) -> dict[str, Tensor]:
        """``bleu`` and ``chrf``, of all and as ``bleu_de-en``; nothing if there are no texts."""
        pairs = _gathered(self.pairs)
        if not pairs:
            return {}
        scores = _scores(pairs)
        for direction in sorted({direction for _, _, direction in pairs} - {""}):
            own = _scores([pair for pair in pairs if pair[2] == direction])
            scores |= {f"{name}_{direction}": score for name, score in own.items()}
        return scores

    def reset(self) -> None:
        """Forget all texts."""
        super().reset()
        self.pairs = []


def _scores(pairs: list[_Pair]) -> dict[str, Tensor]:
    from sacrebleu.metrics import BLEU, CHRF

    hypotheses, references, _ = map(list, zip(*pairs, strict=True))
    # Without force, texts that lack punctuation give warnings that they look tokenized.
    scores = {"bleu": BLEU(force=True), "chrf": CHRF()}
    return {
        name: torch.tensor(score.corpus_score(hypotheses, [references]).score)
        for name, score in scores.items()
    }


def _gathered(pairs: list[_Pair]) -> list[_Pair]:
    if not (dist.is_available() and dist.is_initialized()):
        return pairs
    parts: list[list[_Pair]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, pairs)
    return [pair for part in parts for pair in part]

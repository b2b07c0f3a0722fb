"""Error rates of generated pronunciations."""

from collections.abc import Sequence

from torch import Tensor
from torchmetrics.functional.text import word_error_rate

from trellis.lightning_modules.engine.evaluation import Totals


class PronunciationScores(Totals):
    """Word and phoneme error rate of a whole split, from 0.

    A word is wrong unless it is said as in one of its references. Its phoneme errors are the
    insertions, deletions and substitutions that turn it into the nearest of them, and are divided
    by the number of phonemes of these nearest references.

    Source: Rao et al. 2015, section 4.
    """

    words: Tensor
    wrong: Tensor
    errors: Tensor
    phonemes: Tensor

    def __init__(self) -> None:
        super().__init__("words", "wrong", "errors", "phonemes")

    def update(self, said: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add pronunciations, phonemes separated by spaces, each with one reference or more."""
        for one, known in zip(said, references, strict=True):
            errors, phonemes = min(map(_distance, [one] * len(known), known))
            self.words += 1
            self.wrong += one not in known
            self.errors += errors
            self.phonemes += phonemes

    def compute(self) -> dict[str, Tensor]:
        """``word_error_rate`` and ``phoneme_error_rate``; nothing where there are no words."""
        if not self.words:
            return {}
        return {
            "word_error_rate": self.wrong / self.words,
            "phoneme_error_rate": self.errors / self.phonemes,
        }


def _distance(said: str, reference: str) -> tuple[int, int]:
    """Edit distance to a reference, and the length of the reference."""
    phonemes = len(reference.split())
    if said == reference:
        return 0, phonemes
    return round(float(word_error_rate([said], [reference])) * phonemes), phonemes

"""Language models of both directions, whose states are vectors of words in context."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from trellis.nn.adaptive_softmax import AdaptiveSoftmax
from trellis.sequence.contextual_words import BidirectionalEncoder


class ELMo(nn.Module):
    """The next word from those before it, and the one before from those after it.

    Words are read by their letters, so a word that is not in the vocabulary can be read, and only
    not be predicted. Both directions share the reader and the softmax.

    Args:
        num_tokens: size of the vocabulary.
        cutoffs: where frequent words end and groups of rarer ones begin: see ``AdaptiveSoftmax``.
        body: options of ``BidirectionalEncoder``.
    Shape:
        characters ``[B, T, C]``, see ``SpelledTokens`` -> log-probabilities ``[B, T - 1, V]`` of
        words 2 to T, and of words 1 to T - 1
    Raises:
        ValueError: see ``AdaptiveSoftmax`` and ``BidirectionalEncoder``.

    Source: Peters et al. 2018, section 3.1, who sample words for the softmax.

    >>> import torch
    >>> network = ELMo(50, cutoffs=[10], hidden_size=8)
    >>> after, before = network(torch.ones(2, 5, 7, dtype=torch.long))
    >>> after.shape, before.shape
    (torch.Size([2, 4, 50]), torch.Size([2, 4, 50]))
    """

    def __init__(self, num_tokens: int, *, cutoffs: Sequence[int], **body: Any) -> None:
        super().__init__()
        self.body = BidirectionalEncoder(**body)
        self.words = AdaptiveSoftmax(num_tokens, self.body.out_features // 2, cutoffs=cutoffs)

    def forward(self, characters: Tensor) -> tuple[Tensor, Tensor]:
        after, before = self._states(characters)
        return self.words.log_prob(after), self.words.log_prob(before)

    def log_prob(self, characters: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities ``[B, T - 1]`` of ``tokens [B, T]`` alone, from either side."""
        after, before = self._states(characters)
        return (
            self.words.log_prob_of(after, tokens[:, 1:]),
            self.words.log_prob_of(before, tokens[:, :-1]),
        )

    def _states(self, characters: Tensor) -> tuple[Tensor, Tensor]:
        *_, last = self.body(characters)
        forward, backward = self.body.dropout(last).chunk(2, -1)
        return forward[:, :-1], backward[:, 1:]

"""A linear map of how often each word occurs: the baseline of what reads words in their order."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, check_sequences, check_tokens, probability


class BagOfWords(nn.Module):
    r"""Weighted counts of the words of a text, and a linear layer.

    .. math:: x_w = \mathrm{tf}_w \left(\ln \frac{1 + N}{1 + \mathrm{df}_w} + 1\right), \quad
        \text{logits} = W \frac{x}{\lVert x \rVert} + b

    where tf is how often a word occurs in the text, and df in how many of the N training texts.
    ``count`` takes these numbers from the texts; before it was called, and for words it has not
    seen, x is 0. ``SequenceClassification`` calls it before the first step, once for each training
    text.

    Args:
        num_tokens: size of the vocabulary V.
        out_channels: number of classes.
        pad_id: padding token at the end of short sequences.
        idf: multiply by the logarithm; without it, x is a plain count.
        sublinear: 1 + ln tf in place of tf.
        normalize: divide by the norm.
        min_texts: words in fewer training texts do not count.
        max_share: nor do those in more than this share of them; below 1, the tokens at both ends
            of each text are among them.
    Shape:
        tokens ``[B, T]`` -> logits ``[B, out_channels]``
    Raises:
        ValueError: a size below 1, a share outside [0, 1], an id outside the vocabulary, or a
            sequence of nothing but padding.

    Source: Salton and Buckley 1988; smoothed as in scikit-learn's ``TfidfVectorizer``, whose
    features these are. Weights begin at 0.

    >>> network = BagOfWords(9, 2, pad_id=0)
    >>> texts = torch.tensor([[4, 5, 4], [4, 6, 0]])
    >>> network.count(texts)
    >>> network.features(texts)[0, [4, 5]]  # twice a word of all texts, once one of half of them
    tensor([0.8182, 0.5750])
    """

    texts: Tensor  # N, how many were counted
    document_frequency: Tensor  # [V]

    def __init__(
        self,
        num_tokens: int,
        out_channels: int,
        *,
        pad_id: int,
        idf: bool = True,
        sublinear: bool = False,
        normalize: bool = True,
        min_texts: int = 1,
        max_share: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_tokens, self.pad_id = at_least_one("num_tokens", num_tokens), pad_id
        self.idf, self.sublinear, self.normalize = idf, sublinear, normalize
        self.min_texts = at_least_one("min_texts", min_texts)
        self.max_share = probability("max_share", max_share)
        self.register_buffer("texts", torch.zeros((), dtype=torch.long))
        self.register_buffer("document_frequency", torch.zeros(num_tokens, dtype=torch.long))
        self.output = nn.Linear(num_tokens, at_least_one("out_channels", out_channels))
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def count(self, tokens: Tensor) -> None:
        """Count the texts ``tokens [B, T]``, and those that have each word."""
        self._check(tokens)
        again = _equal_pairs(tokens).tril(-1).any(-1)
        first = (~again & (tokens != self.pad_id)).long()  # [B, T]
        self.texts += len(tokens)
        self.document_frequency.index_add_(0, tokens.flatten(), first.flatten())

    def forget(self) -> None:
        """Start to count again from nothing."""
        self.texts.zero_()
        self.document_frequency.zero_()

    def forward(self, tokens: Tensor) -> Tensor:
        shares = self._shares(tokens)
        words = F.embedding(tokens, self.output.weight.t())  # [B, T, out_channels]
        return (shares[:, :, None] * words).sum(1) + self.output.bias

    def features(self, tokens: Tensor) -> Tensor:
        """What the linear layer is applied to, x or its direction: ``[B, V]``."""
        shares = self._shares(tokens)
        return shares.new_zeros(len(tokens), self.num_tokens).scatter_add_(1, tokens, shares)

    def _shares(self, tokens: Tensor) -> Tensor:
        """What each occurrence of a word adds to its feature, ``[B, T]``."""
        self._check(tokens)
        often = _equal_pairs(tokens).sum(-1).to(self.output.weight.dtype)
        frequency, texts = self.document_frequency, self.texts
        known = (frequency >= self.min_texts) & (frequency <= self.max_share * texts)
        weight = ((1 + texts) / (1 + frequency)).log() + 1 if self.idf else known
        weight = (weight * known)[tokens].to(often.dtype) * (tokens != self.pad_id)
        shares = weight * (1 + often.log()) / often if self.sublinear else weight
        if not self.normalize:
            return shares
        # x_w is often * shares, and stands in this sum once for each occurrence.
        norm = (often * shares**2).sum(1, keepdim=True).sqrt()
        return shares / norm.where(norm > 0, 1)

    def _check(self, tokens: Tensor) -> None:
        check_tokens("tokens", tokens, self.num_tokens)
        check_sequences("tokens", tokens, self.pad_id)


def _equal_pairs(tokens: Tensor) -> Tensor:
    """Which tokens of a text are the same, ``[B, T, T]``."""
    return tokens[:, :, None] == tokens[:, None, :]

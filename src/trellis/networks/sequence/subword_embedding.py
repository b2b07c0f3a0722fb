"""Vectors of words from those of their parts."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least, at_least_one, check_below
from trellis.networks.sequence.skip_gram_embedding import SkipGramEmbedding


class SubwordEmbedding(nn.Module):
    r"""A word as the mean of a vector of its own and of those of its character n-grams.

    .. math:: u_w = \frac{1}{1 + |G_w|} \Bigl(z_w + \sum_{g \in G_w} z_g\Bigr)

    with the n-grams G of ``<word>`` that have ``min_n`` to ``max_n`` characters. A word that was
    never seen has a vector, too, the mean of its n-grams alone, see ``embed_words``. n-grams share
    ``num_buckets`` vectors by a hash; contexts are whole words, as in ``SkipGramEmbedding``.

    Args:
        num_tokens: words.
        words: of these ids, which the objective gives.
        embed_dim: length D of a vector.
        min_n: characters of the shortest n-grams, with the marks of the word's ends.
        max_n: of the longest.
        num_buckets: vectors of n-grams.
    Shape:
        center ``[B]``, context ``[B, J]`` -> ``[B, J]``
    Raises:
        ValueError: a size below 1, ``max_n`` below ``min_n``, not ``num_tokens`` words, or an id
            out of range.

    Source: Bojanowski et al. 2017, section 3.2; the hash, FNV-1a with bytes as signed numbers, is
    fastText's, which divides by the number of parts, too.

    >>> network = SubwordEmbedding(2, words=["cat", "cats"], embed_dim=4)
    >>> network.embed_words(["catty"]).shape
    torch.Size([1, 4])
    """

    places: Tensor
    starts: Tensor

    def __init__(
        self,
        num_tokens: int,
        *,
        words: Sequence[str] = (),
        embed_dim: int = 100,
        min_n: int = 3,
        max_n: int = 6,
        num_buckets: int = 100_000,
    ) -> None:
        super().__init__()
        at_least_one("num_buckets", num_buckets)
        self.min_n = at_least_one("min_n", min_n)
        self.max_n = at_least(min_n, "max_n", max_n, ", as min_n")
        if len(words) != num_tokens:
            raise ValueError(f"words: {len(words)} for num_tokens={num_tokens}: give one for each")
        self.num_tokens, self.num_buckets = num_tokens, num_buckets
        self.context = SkipGramEmbedding(num_tokens, embed_dim=embed_dim).context
        self.parts = nn.Embedding(num_tokens + num_buckets, embed_dim)
        nn.init.uniform_(self.parts.weight, -1 / embed_dim, 1 / embed_dim)
        found = [[number, *self._buckets(word)] for number, word in enumerate(words)]
        starts = torch.tensor([0, *map(len, found)]).cumsum(0)
        flat = torch.tensor([part for parts in found for part in parts])
        # They follow from the words, which the spec of a checkpoint has.
        self.register_buffer("places", flat, persistent=False)
        self.register_buffer("starts", starts, persistent=False)
        self.longest = max(map(len, found))

    def _buckets(self, word: str) -> list[int]:
        grams = ngrams(word, self.min_n, self.max_n)
        return [self.num_tokens + hashed(gram) % self.num_buckets for gram in grams]

    def embed(self, ids: Tensor) -> Tensor:
        """The vectors of ids, of any shape ``[...]`` -> ``[..., embed_dim]``."""
        check_below("id", ids, self.num_tokens, "SubwordEmbedding")
        lengths = self.starts[ids + 1] - self.starts[ids]
        beyond = torch.arange(self.longest, device=ids.device)
        parts = self.starts[ids][..., None] + beyond  # [..., longest]
        there = beyond < lengths[..., None]
        parts = self.places[parts.clamp(max=len(self.places) - 1)]
        weights = there / lengths[..., None].to(self.parts.weight.dtype)
        bags = F.embedding_bag(
            parts.flatten(0, -2),
            self.parts.weight,
            mode="sum",
            per_sample_weights=weights.flatten(0, -2),
        )
        return bags.view(*ids.shape, -1)

    def embed_words(self, words: Sequence[str]) -> Tensor:
        """Vectors ``[B, embed_dim]`` of words that need not have an id, from their n-grams.

        Raises:
            ValueError: a word has no n-gram.
        """
        rows = []
        for word in words:
            buckets = self._buckets(word)
            if not buckets:
                raise ValueError(f"word {word!r} has no {self.min_n}- to {self.max_n}-grams")
            rows.append(self.parts.weight[torch.tensor(buckets)].mean(0))
        return torch.stack(rows)

    def scores(self, vectors: Tensor, context: Tensor) -> Tensor:
        """See ``SkipGramEmbedding.scores``."""
        check_below("id", context, self.num_tokens, "SubwordEmbedding")
        return vectors @ self.context(context).transpose(1, 2)

    def forward(self, center: Tensor, context: Tensor) -> Tensor:
        return self.scores(self.embed(center).unsqueeze(1), context).squeeze(1)


def ngrams(word: str, min_n: int, max_n: int) -> list[str]:
    """The n-grams of a word with its ends marked, but for the marks alone.

    >>> ngrams("cat", 3, 4)
    ['<ca', 'cat', 'at>', '<cat', 'cat>']
    """
    marked = f"<{word}>"
    found = [
        marked[start : start + n]
        for n in range(min_n, max_n + 1)
        for start in range(len(marked) - n + 1)
    ]
    return [gram for gram in found if gram not in ("<", ">")]


def hashed(gram: str) -> int:
    """FNV-1a in 32 bits of the UTF-8 bytes, which count as signed numbers.

    >>> hashed("cat")
    108289031
    """
    value = 2166136261
    for byte in gram.encode():
        signed = byte - 256 if byte > 127 else byte
        value = ((value ^ (signed & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return value

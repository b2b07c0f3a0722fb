"""Masking of tokens for masked language modelling.

Legend: B sequences, T tokens.
"""

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -100  # the label that torch's losses ignore


class MaskedTokens(NamedTuple):
    """Inputs and targets of masked language modelling.

    Args:
        tokens: ``[B, T]``, some of them masked or replaced.
        labels: ``[B, T]``: the original token where it was chosen, else ``IGNORED``.
    """

    tokens: Tensor
    labels: Tensor


def mask_tokens(
    tokens: Tensor,
    num_tokens: int,
    mask_id: int,
    *,
    special_ids: Collection[int] = (),
    probability: float = 0.15,
    generator: torch.Generator | None = None,
) -> MaskedTokens:
    """Choose a share of the tokens; mask 80 % of them, replace 10 % and leave 10 % unchanged.

    The same share of the ordinary tokens of each sequence is chosen, rounded, but at least one. A
    replacement is any ordinary token, possibly the original one.

    Args:
        tokens: ids below ``num_tokens``.
        num_tokens: size of the vocabulary.
        mask_id: of the mask token.
        special_ids: never chosen, never a replacement; nor is ``mask_id``.
        probability: share of the ordinary tokens that is chosen, above 0.
        generator: random numbers are drawn on its device; ``None`` uses torch's global one.
    Shape:
        ``[B, T]`` -> two of ``[B, T]``
    Raises:
        ValueError: ``tokens`` has another shape, ``probability`` lies outside (0, 1], ``mask_id``
            outside the vocabulary, or every token is special.

    Source: Devlin et al. 2019, section 3.1, and the counts of its published code.
    Deviates: the published code also draws special tokens as replacements.

    >>> generator = torch.Generator().manual_seed(0)
    >>> masked = mask_tokens(torch.tensor([[5, 6, 7, 8]]), 9, 4, generator=generator)
    >>> int((masked.labels != -100).sum())
    1
    """
    specials = {*special_ids, mask_id}
    _check(tokens, num_tokens, mask_id, specials, probability)
    device = tokens.device if generator is None else generator.device

    def uniform() -> Tensor:
        drawn = torch.rand(tokens.shape, generator=generator, device=device)
        return drawn.to(tokens.device)

    candidate = torch.ones_like(tokens, dtype=torch.bool)  # [B, T]
    num_ordinary = num_tokens - len(specials)
    replacement = (uniform() * num_ordinary).long()
    for special in sorted(specials):
        candidate &= tokens != special
        replacement += replacement >= special  # skips the special token
    count = (candidate.sum(1, keepdim=True) * probability).round().clamp(min=1)
    rank = uniform().masked_fill(~candidate, 2.0).argsort(1).argsort(1)
    chosen = candidate & (rank < count)
    fate = uniform()
    changed = torch.where(fate < 0.8, mask_id, replacement)
    return MaskedTokens(
        changed.where(chosen & (fate < 0.9), tokens), tokens.where(chosen, IGNORED)
    )


def known_first(known: Tensor) -> tuple[Tensor, Tensor]:
    """How to move the tokens that are known to the front of each row, in order.

    Args:
        known: ``[B, T]``.
    Returns:
        Their positions and then those of the others ``[B, T]``, and where there is one of them.

    >>> known_first(torch.tensor([[False, True, False, True]]))
    (tensor([[1, 3, 0, 2]]), tensor([[ True,  True, False, False]]))
    """
    order = (~known).int().argsort(dim=1, stable=True)
    return order, torch.arange(known.size(1), device=known.device) < known.sum(1, keepdim=True)


def _check(
    tokens: Tensor, num_tokens: int, mask_id: int, specials: set[int], probability: float
) -> None:
    if tokens.dim() != 2:
        raise ValueError(f"tokens {list(tokens.shape)}: give [B, T]")
    if not 0 < probability <= 1:
        raise ValueError(f"probability={probability}: give a share of the tokens in (0, 1]")
    if not all(0 <= token < num_tokens for token in specials):
        raise ValueError(
            f"mask_id={mask_id} and special_ids={sorted(specials - {mask_id})} are not all in the "
            f"vocabulary of num_tokens={num_tokens}: give ids below it"
        )
    if len(specials) == num_tokens:
        raise ValueError(f"all {num_tokens} tokens are special: there is nothing to mask")

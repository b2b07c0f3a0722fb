"""Maps and networks in which an output sees only some inputs: the conditioners of autoregressions.

Legend: B examples, D features, C context features, H hidden units, P parameters per feature.
Feature j has rank ``order[j]``, 0 to D - 1. A hidden unit of degree m sees the features of ranks
below m, and the parameters of a feature see the units whose degree is at most its rank: so they
know the features that come before, and no other.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, check_vectors
from trellis.nn.activation import Activation, activation_module


class MaskedLinear(nn.Linear):
    r"""An affine map some of whose weights are zero for ever.

    .. math:: y = (M \odot W) x + b

    Args:
        in_features: width of the input.
        out_features: width of the output.
        mask: M, ``[out_features, in_features]``, of zeros and ones; not part of a checkpoint.
    Shape:
        x ``[*, in_features]`` -> ``[*, out_features]``
    Raises:
        ValueError: a mask of another shape.

    Source: Germain et al. 2015, eq. 9.

    >>> layer = MaskedLinear(2, 1, torch.tensor([[1, 0]]))
    >>> bool(layer(torch.tensor([[3.0, 5.0]])) == layer(torch.tensor([[3.0, 7.0]])))
    True
    """

    mask: Tensor

    def __init__(self, in_features: int, out_features: int, mask: Tensor) -> None:
        super().__init__(in_features, out_features)
        if mask.shape != self.weight.shape:
            raise ValueError(
                f"mask {list(mask.shape)}: give [out_features, in_features], "
                f"{list(self.weight.shape)}"
            )
        # As floats: a product with booleans would convert them at every step.
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)
        self.is_full = bool(mask.all())

    def masked_weight(self) -> Tensor:
        """The weights that count, zeros for the others."""
        return self.weight if self.is_full else self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.masked_weight(), self.bias)


def spread_degrees(width: int, num_features: int, *, with_context: bool = False) -> Tensor:
    """Degrees of ``width`` hidden units, rising and evenly spread over the ranks.

    Degree 0 sees the context alone, so without one it is given only where there is no other.
    Spread, not counted round, so that each feature is seen by some unit that early ones feed even
    where there are fewer units than features.

    Shape:
        -> ``[width]``

    >>> spread_degrees(6, 4)
    tensor([1, 1, 2, 2, 3, 3])
    >>> spread_degrees(3, 7)
    tensor([1, 3, 5])
    """
    least = 0 if with_context else min(1, num_features - 1)
    return least + torch.arange(width) * (num_features - least) // width


class MaskedMLP(nn.Module):
    """Parameters for each feature, out of the features before it.

    Args:
        in_features: D.
        num_parameters: P, the numbers each feature needs.
        hidden_sizes: widths of the hidden layers.
        activation: of the hidden layers; one that works number by number.
        order: rank of each feature, a permutation of 0 to D - 1; as they stand by default.
        context_features: C, numbers that every parameter may see.
        degrees: of the units of each hidden layer, rising; evenly spread by default.
    Shape:
        x ``[B, D]``, context ``[B, C]`` -> ``[B, D, P]``
    Raises:
        ValueError: a size below 1, an order that is none, or degrees that fall; in ``forward``:
            x of another width, or a context too many or too few.

    Source: Germain et al. 2015, section 4, with several parameters per feature as in Papamakarios
    et al. 2017, section 3.4.
    Deviates: degrees are spread evenly, not drawn, and rise with the unit's number.

    >>> MaskedMLP(3, 2, hidden_sizes=(8,))(torch.zeros(5, 3)).shape
    torch.Size([5, 3, 2])
    """

    order: Tensor

    def __init__(
        self,
        in_features: int,
        num_parameters: int,
        *,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        order: Tensor | None = None,
        context_features: int = 0,
        degrees: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.in_features = at_least_one("in_features", in_features)
        self.num_parameters = at_least_one("num_parameters", num_parameters)
        self.context_features = context_features
        for width in hidden_sizes:
            at_least_one("hidden_sizes", width)
        order = torch.arange(in_features) if order is None else order
        if order.sort().values.tolist() != list(range(in_features)):
            raise ValueError(
                f"order={order.tolist()}: give each rank from 0 to {in_features - 1} once"
            )
        self.register_buffer("order", order, persistent=False)
        if degrees is None:
            degrees = [
                spread_degrees(width, in_features, with_context=context_features > 0)
                for width in hidden_sizes
            ]
        elif any((units.diff() < 0).any() for units in degrees):
            raise ValueError("degrees: give rising numbers for each hidden layer")
        self.degrees = [units.tolist() for units in degrees]
        self.layers = nn.ModuleList(
            MaskedLinear(mask.size(1), mask.size(0), mask) for mask in self._masks(degrees)
        )
        self.activation = activation_module(activation)

    def _masks(self, degrees: Sequence[Tensor]) -> list[Tensor]:
        context = self.order.new_full((self.context_features,), -1)  # before every rank
        seen = torch.cat([self.order, context])
        masks = []
        for number, units in enumerate(degrees):
            # A unit of degree m sees ranks below m, and units of degrees up to m.
            least = seen if number else seen + 1
            masks.append(least <= units[:, None])
            seen = units
        last = seen <= self.order[:, None] if degrees else seen < self.order[:, None]
        return [*masks, last.repeat_interleave(self.num_parameters, 0)]

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        check_vectors(x, self.in_features, "MaskedMLP")
        self._check_context(context)
        hidden = x if context is None else torch.cat([x, context], 1)
        *layers, last = self.layers
        for layer in layers:
            hidden = self.activation(layer(hidden))
        return last(hidden).view(-1, self.in_features, self.num_parameters)

    def generate(
        self,
        choose: Callable[[Tensor, Tensor], Tensor],
        batch_size: int,
        context: Tensor | None = None,
    ) -> Tensor:
        """Features one after another, each chosen from the parameters those before it give.

        A hidden unit is computed once, when the last feature it sees is known; so all D features
        cost about as much as a single ``forward``, not D of them.

        Args:
            choose: from parameters ``[B, n, P]`` and the numbers of the features ``[n]`` they
                are for, ascending in rank, to values ``[B, n]``. Features whose parameters wait
                for nothing new are asked for together.
            batch_size: B.
            context: as of ``forward``.
        Shape:
            -> ``[B, D]``
        """
        self._check_context(context)
        by_rank, starts = self.order.argsort(), self._starts()
        weights, biases = self._by_rank(by_rank)
        if context is None:
            context = weights[0].new_empty(batch_size, 0)
        # What each layer reads, as far as it is known; the context comes first.
        known = [context, *(weights[0].new_empty(batch_size, 0) for _ in self.degrees)]
        for start, stop in pairwise([*starts, self.in_features]):
            for number, degrees in enumerate(self.degrees):
                done, until = known[number + 1].size(1), bisect_right(degrees, start)
                if until > done:
                    weight = weights[number][done:until, : known[number].size(1)]
                    units = self.activation(
                        F.linear(known[number], weight, biases[number][done:until])
                    )
                    known[number + 1] = torch.cat([known[number + 1], units], 1)
            rows = slice(start * self.num_parameters, stop * self.num_parameters)
            weight = weights[-1][rows, : known[-1].size(1)]
            parameters = F.linear(known[-1], weight, biases[-1][rows])
            parameters = parameters.unflatten(1, (stop - start, self.num_parameters))
            values = choose(parameters, by_rank[start:stop])
            known[0] = torch.cat([known[0], values], 1)
        return known[0][:, self.context_features :][:, self.order]

    def _starts(self) -> list[int]:
        """Ranks whose parameters wait for something new: the first, and where units join."""
        if not self.degrees:
            return list(range(self.in_features))
        return sorted({0, *(m for m in self.degrees[-1] if m < self.in_features)})

    def _by_rank(self, by_rank: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases, with the context before the features and these by their ranks."""
        layers = cast(Sequence[MaskedLinear], self.layers)
        weights = [layer.masked_weight() for layer in layers]
        biases: list[Tensor] = [layer.bias for layer in layers]
        features, context = weights[0].split([self.in_features, self.context_features], 1)
        weights[0] = torch.cat([context, features[:, by_rank]], 1)
        each = (self.in_features, self.num_parameters)
        weights[-1] = weights[-1].unflatten(0, each)[by_rank].flatten(0, 1)
        biases[-1] = biases[-1].unflatten(0, each)[by_rank].flatten(0, 1)
        return weights, biases

    def _check_context(self, context: Tensor | None) -> None:
        given = 0 if context is None else context.size(-1)
        if given != self.context_features:
            raise ValueError(
                f"context of {given} features: this network was built with "
                f"context_features={self.context_features}"
            )

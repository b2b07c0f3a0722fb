"""Masked networks, in which an output depends on some inputs only: autoregressive conditioners.

Legend: B examples, D features, C context features, H hidden units, P parameters per feature.
Feature j has rank ``order[j]``, 0 to D - 1. A hidden unit of degree m depends on the features of
ranks below m, and the parameters of a feature on the units whose degree is at most its rank.
They therefore depend on the features of lower rank, and on no others.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, check_permutation, check_shape, check_vectors
from trellis.nn.activation import Activation, activation_module


class MaskedLinear(nn.Linear):
    r"""Affine map with a fixed mask on its weights.

    .. math:: y = (M \odot W) x + b

    Args:
        in_features: width of the input.
        out_features: width of the output.
        mask: M, ``[out_features, in_features]``, of zeros and ones; not saved in a checkpoint.
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
        check_shape("mask", mask, self.weight.shape, "each weight [out_features, in_features]")
        # Floats, because a product with booleans would convert them at every step.
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)
        self.is_full = not mask.is_meta and bool(mask.all())

    def masked_weight(self) -> Tensor:
        """The weights, with zeros where the mask has them."""
        return self.weight if self.is_full else self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.masked_weight(), self.bias)


def spread_degrees(width: int, num_features: int, *, with_context: bool = False) -> Tensor:
    """Degrees of ``width`` hidden units, non-decreasing and evenly spread over the ranks.

    A unit of degree 0 depends on the context alone, so without a context degree 0 is used only
    if there is a single feature. Evenly spread degrees cover early and late features even where
    there are fewer units than features, which degrees assigned cyclically would not.

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
    """Multi-layer perceptron whose outputs for each feature depend on the features before it.

    Args:
        in_features: D.
        num_parameters: P, outputs for each feature.
        hidden_sizes: widths of the hidden layers.
        activation: of the hidden layers; elementwise.
        order: rank of each feature, a permutation of 0 to D - 1; their own order by default.
        context_features: C, on which all outputs may depend.
        degrees: of the units of each hidden layer, non-decreasing; evenly spread by default.
    Shape:
        x ``[B, D]``, context ``[B, C]`` -> ``[B, D, P]``
    Raises:
        ValueError: a size below 1, an order that is no permutation, or decreasing degrees; in
            ``forward``: x of another width, or a context that is missing or superfluous.

    Source: Germain et al. 2015, section 4, with several parameters per feature as in Papamakarios
    et al. 2017, section 3.4.
    Deviates: degrees are evenly spread and sorted, not drawn at random.

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
        check_permutation("order", order, in_features)
        self.register_buffer("order", order, persistent=False)
        if degrees is None:
            degrees = [
                spread_degrees(width, in_features, with_context=context_features > 0)
                for width in hidden_sizes
            ]
        elif any((units.diff() < 0).any() for units in degrees):
            raise ValueError("degrees: give non-decreasing numbers for each hidden layer")
        # Needed to generate, which a network without values cannot.
        self.degrees = [] if order.is_meta else [units.tolist() for units in degrees]
        # Units of each layer that depend on the ranks below each rank, and on no others.
        self._known = [
            [bisect_right(units, rank) for rank in range(in_features)] for units in self.degrees
        ]
        self.layers = nn.ModuleList(
            MaskedLinear(mask.size(1), mask.size(0), mask) for mask in self._masks(degrees)
        )
        self.activation = activation_module(activation)

    def _masks(self, degrees: Sequence[Tensor]) -> list[Tensor]:
        context = self.order.new_full((self.context_features,), -1)  # before every rank
        inputs = torch.cat([self.order, context])
        masks = []
        for number, units in enumerate(degrees):
            # A unit of degree m depends on ranks below m, and on units of degrees up to m.
            least = inputs if number else inputs + 1
            masks.append(least <= units[:, None])
            inputs = units
        last = inputs <= self.order[:, None] if degrees else inputs < self.order[:, None]
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
        """Generates the features in order, each from the parameters that depend on those before.

        Each hidden unit is computed once, as soon as the features it depends on are known. All D
        features therefore cost about as much as one ``forward``, not as much as D of them.

        Args:
            choose: from parameters ``[B, n, P]`` and the indices ``[n]`` of their features, in
                order of rank, to values ``[B, n]``. Features whose parameters depend on the same
                hidden units are generated together.
            batch_size: B.
            context: see ``forward``.
        Shape:
            -> ``[B, D]``
        """
        self._check_context(context)
        by_rank, starts = self.order.argsort(), self._starts()
        weights, biases = self._by_rank(by_rank)
        if context is None:
            context = weights[0].new_empty(batch_size, 0)
        # The inputs of each layer, as far as they are known; the context comes first.
        known = [context, *(weights[0].new_empty(batch_size, 0) for _ in self.degrees)]
        for start, stop in pairwise([*starts, self.in_features]):
            for number, counts in enumerate(self._known):
                begin, end = known[number + 1].size(1), counts[start]
                if end > begin:
                    weight = weights[number][begin:end, : known[number].size(1)]
                    units = self.activation(
                        F.linear(known[number], weight, biases[number][begin:end])
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
        """Ranks at which a group of features begins: 0, and where further units are used."""
        if not self.degrees:
            return list(range(self.in_features))
        return sorted({0, *(m for m in self.degrees[-1] if m < self.in_features)})

    def _by_rank(self, by_rank: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases with the inputs reordered: the context, then features by rank."""
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
                f"context of {given} features: this MaskedMLP was built with "
                f"context_features={self.context_features}"
            )

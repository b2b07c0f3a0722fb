"""Masked autoencoder for distribution estimation, of binary data.

Legend: B examples of shape ``shape``, D bits in each, N samples, M orderings.
"""

import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, check_examples, check_widths, choose_from, num_entries
from trellis.generative.masked import MaskedLinear, MaskedMLP
from trellis.generative.pixel_levels import as_levels
from trellis.generative.pixel_likelihood import bernoulli
from trellis.networks.generative.sampler import Sampler
from trellis.nn.activation import Activation

Order = Literal["natural", "random"]


class MADE(Sampler):
    r"""Autoregressive Bernoulli distributions, whose logits are computed in one pass.

    .. math:: \ln p(x \mid y) = \sum_d x_d \ln \sigma(l_d) + (1 - x_d) \ln \sigma(-l_d),
        \quad l_d = f_d(x_{\text{before } d}, y)

    Args:
        hidden_channels: widths of the hidden layers.
        activation: of the hidden layers.
        order: of the bits: their own, or random.
        num_masks: M orderings that share the weights. Training draws one of them for each batch;
            evaluation averages their M probabilities.
        direct: add to each logit an affine function of the bits before it.
        seed: of random orderings.
    Shape:
        x ``[B, *shape]`` of zeros and ones, y ``[B]`` -> log-probabilities ``[B]`` in nats
    Raises:
        ValueError: an impossible size or order; in ``forward``: x of another shape or with values
            other than 0 and 1, or labels that are missing, superfluous or out of range.

    Source: Germain et al. 2015, sections 3 and 4, eq. 9-14.
    Deviates: the degrees of hidden units are evenly spread and shared by all M orderings, not
    drawn at random; probabilities of whole examples are averaged, so that they still sum to 1.

    >>> MADE((3,), hidden_channels=(8,))(torch.tensor([[0.0, 1.0, 1.0]])).shape
    torch.Size([1])
    """

    discrete = True

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int = 0,
        *,
        hidden_channels: Sequence[int] = (500, 500),
        activation: Activation = "relu",
        order: Order = "natural",
        num_masks: int = 1,
        direct: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(shape, num_classes)
        choose_from("order", order, Order)
        if at_least_one("num_masks", num_masks) > 1 and order == "natural":
            raise ValueError(f"num_masks={num_masks}: several orderings need order='random'")
        check_widths(hidden_channels)
        features = num_entries(self.shape)
        generator = torch.Generator().manual_seed(seed)
        orders = [torch.arange(features)]
        if order == "random":
            orders = [torch.randperm(features, generator=generator) for _ in range(num_masks)]
        self.chains = _shared(
            [
                MaskedMLP(
                    features,
                    1,
                    hidden_sizes=hidden_channels,
                    activation=activation,
                    order=ranks,
                    context_features=num_classes,
                )
                for ranks in orders
            ]
        )
        # Without hidden layers a masked network is an affine map.
        self.direct = (
            _shared([MaskedMLP(features, 1, hidden_sizes=(), order=ranks) for ranks in orders])
            if direct
            else None
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        check_examples(x, self.shape, "MADE")
        as_levels(x, 2)
        context, x = self._one_hot(y), x.flatten(1)
        count = len(self.chains)
        if count == 1:
            return self._log_prob(0, x, context)
        if self.training:
            return self._log_prob(int(torch.randint(count, ())), x, context)
        each = torch.stack([self._log_prob(chain, x, context) for chain in range(count)])
        return each.logsumexp(0) - math.log(count)

    log_prob = forward

    def _log_prob(self, chain: int, x: Tensor, context: Tensor | None) -> Tensor:
        return bernoulli(x, self._logits(chain, x, context).unsqueeze(1))

    def _logits(self, chain: int, x: Tensor, context: Tensor | None) -> Tensor:
        """Logit of every bit given those before it, ``[B, D]``."""
        logits = self.chains[chain](x, context)
        if self.direct is not None:
            logits = logits + self.direct[chain](x)
        return logits.squeeze(2)

    def _draw(self, count: int, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Examples ``[N, *shape]``, at the cost of about one ``forward``."""
        context = self._one_hot(y)
        device, orders = next(self.parameters()).device, len(self.chains)
        if orders == 1:
            chosen = torch.zeros(count, dtype=torch.long, device=device)
        else:
            chosen = torch.randint(orders, (count,), generator=generator, device=device)
        x = torch.empty(count, num_entries(self.shape), device=device)
        for chain in chosen.unique().tolist():
            rows = chosen == chain
            some = None if context is None else context[rows]
            x[rows] = self._sample(chain, int(rows.sum()), some, generator)
        return x.view(count, *self.shape)

    def _sample(
        self, chain: int, count: int, context: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        network = cast(MaskedMLP, self.chains[chain])
        if self.direct is None:

            def choose(logits: Tensor, _: Tensor) -> Tensor:
                return torch.bernoulli(logits.squeeze(2).sigmoid(), generator=generator)

            return network.generate(choose, count, context)
        layer = cast(MaskedLinear, cast(MaskedMLP, self.direct[chain]).layers[0])
        weight, bias = layer.masked_weight(), layer.bias
        x = weight.new_zeros(count, network.in_features)

        def choose_directly(logits: Tensor, features: Tensor) -> Tensor:
            # One by one, because the affine map depends on those of the same group, too.
            for number, feature in enumerate(features.tolist()):
                logit = logits[:, number, 0] + F.linear(x, weight[feature]) + bias[feature]
                x[:, feature] = torch.bernoulli(logit.sigmoid(), generator=generator)
            return x[:, features]

        return network.generate(choose_directly, count, context)


def _shared(networks: list[MaskedMLP]) -> nn.ModuleList:
    """The networks with the weights of the first and masks of their own."""
    for network in networks[1:]:
        for layer, first in zip(network.layers, networks[0].layers, strict=True):
            layer.weight, layer.bias = first.weight, first.bias
    return nn.ModuleList(networks)

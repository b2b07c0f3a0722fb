"""What a network is conditioned on: labels, one-hot or embedded, or real numbers.

Legend: B examples, C channels, K classes or context features.
"""

import torch
from torch import Tensor, nn

from trellis.checks import check_labels, not_negative
from trellis.labels import one_hot


def one_hot_labels(y: Tensor | None, num_classes: int, network: str) -> Tensor | None:
    """Labels as one-hot vectors; ``None`` for an unconditional network.

    Args:
        y: labels, ``None`` where ``num_classes`` is 0.
        num_classes: K; 0 for an unconditional network.
        network: name of the network, for the errors.
    Shape:
        y ``[B]`` -> ``[B, K]``, of floats
    Raises:
        ValueError: labels that are missing, superfluous or out of range.

    >>> one_hot_labels(torch.tensor([1, 0]), 2, "MAF")
    tensor([[0., 1.],
            [1., 0.]])
    """
    check_labels(y, num_classes, network)
    return None if y is None else one_hot(y, num_classes)


def real_context(y: Tensor | None, context_features: int, network: str) -> Tensor:
    """Real numbers as the context of a network.

    Args:
        y: one vector for each example; of a single number also without its axis.
        context_features: K, at least 1.
        network: name of the network, for the errors.
    Shape:
        y ``[B, K]``, or ``[B]`` where K is 1 -> ``[B, K]``
    Raises:
        ValueError: y is missing, has another shape or holds integers.

    >>> real_context(torch.tensor([0.5, 2.0]), 1, "MAF").shape
    torch.Size([2, 1])
    """
    owner, wanted = f"{network}(context_features={context_features})", f"[B, {context_features}]"
    if y is None:
        raise ValueError(f"{owner} is conditional: give real numbers y {wanted}")
    if y.ndim == 1 and context_features == 1:
        y = y.unsqueeze(1)
    if y.ndim != 2 or y.size(1) != context_features or not y.is_floating_point():
        raise ValueError(
            f"y {list(y.shape)} of {y.dtype} does not fit {owner}: give real numbers {wanted}"
        )
    return y


def labels_or_numbers(network: str, num_classes: int, context_features: int) -> None:
    """Refuse a network that would be given both.

    Raises:
        ValueError: names both sizes.
    """
    if num_classes and context_features:
        raise ValueError(
            f"num_classes={num_classes}, context_features={context_features}: {network} is given "
            f"labels or real numbers, give one of them"
        )


def append_context(x: Tensor, context: Tensor | None) -> Tensor:
    """``x [B, C, ...]`` with ``context [B, K]`` as further channels, ``[B, C + K, ...]``.

    >>> append_context(torch.zeros(2, 3, 8, 8), torch.ones(2, 4)).shape
    torch.Size([2, 7, 8, 8])
    """
    if context is None:
        return x
    planes = context.view(*context.shape, *(1 for _ in x.shape[2:]))
    return torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], 1)


class Condition(nn.Module):
    """Appends labels to examples, as one-hot vectors or as learnt embeddings.

    Args:
        network: name of the network, for the errors.
        num_classes: K; 0 takes no labels and changes nothing.
        embed_dim: width of the embedding of a class; 0 appends one-hot vectors.
    Shape:
        x ``[B, C]`` or ``[B, C, H, W]``, y ``[B]`` -> x with ``C + width`` channels
    Raises:
        ValueError: a number below 0, or labels that are missing, superfluous or out of range,
            or not one for each example.
    """

    def __init__(self, network: str, num_classes: int = 0, embed_dim: int = 0) -> None:
        super().__init__()
        not_negative("class_embed_dim", embed_dim)
        self.network, self.num_classes = network, not_negative("num_classes", num_classes)
        self.width = (embed_dim or num_classes) if num_classes else 0
        self.embedding = nn.Embedding(num_classes, embed_dim) if self.width and embed_dim else None

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        check_labels(y, self.num_classes, self.network)
        if y is None:
            return x
        if y.size(0) != x.size(0):
            raise ValueError(f"y {list(y.shape)}: give one label for each of {len(x)} examples")
        label = self.embedding(y) if self.embedding else one_hot(y, self.num_classes)
        return append_context(x, label.to(x.dtype))

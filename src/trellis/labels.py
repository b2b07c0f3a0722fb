"""Class labels that conditional networks are given."""

import torch
import torch.nn.functional as F
from torch import Tensor


def one_hot(y: Tensor, num_classes: int) -> Tensor:
    """One-hot vectors of labels.

    Shape:
        y ``[B]`` -> ``[B, num_classes]``, of torch's default type

    >>> one_hot(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    return F.one_hot(y, num_classes).to(torch.get_default_dtype())


def balanced_labels(
    num_samples: int, num_classes: int, device: torch.device | str | None = None
) -> Tensor:
    """Labels 0 to ``num_classes - 1``, over and over: all classes about equally often.

    Shape:
        -> ``[num_samples]``

    >>> balanced_labels(5, 3)
    tensor([0, 1, 2, 0, 1])
    """
    return torch.arange(num_samples, device=device) % num_classes

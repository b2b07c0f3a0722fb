"""What a linear classifier reads from frozen embeddings."""

from typing import Any

import torch
from torch import Tensor


def linear_probe(
    train_x: Tensor, train_y: Tensor, x: Tensor, *, inverse_strength: float = 1.0
) -> Tensor:
    """Classes that a logistic regression of scikit-learn predicts; it draws no random numbers.

    Args:
        train_x: embeddings to learn from, on any device.
        train_y: their labels.
        x: embeddings to predict.
        inverse_strength: C of scikit-learn, of the penalty on the squared weights.
    Shape:
        train_x ``[A, D]``, train_y ``[A]``, x ``[B, D]`` -> ``[B]``
    Raises:
        ValueError: the labels to learn from are of one class only.

    >>> points = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
    >>> linear_probe(points, torch.tensor([3, 3, 5, 5]), torch.tensor([[-4.0], [0.5]]))
    tensor([3, 5])
    """
    from sklearn.linear_model import LogisticRegression

    if int(train_y.min()) == int(train_y.max()):
        raise ValueError(
            f"linear_probe: all {len(train_y)} labels to learn from are {int(train_y[0])}; give "
            f"two classes or more"
        )
    model = LogisticRegression(C=inverse_strength, max_iter=1000)
    model.fit(_plain(train_x), train_y.cpu().numpy())
    return torch.from_numpy(model.predict(_plain(x))).to(x.device)


def _plain(x: Tensor) -> Any:
    # In double precision: in single the solver stops early, and where depends on the machine.
    return x.detach().double().cpu().numpy()

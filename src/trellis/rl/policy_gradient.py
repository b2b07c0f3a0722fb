r"""Losses of policies and of values, from what actions turned out to be worth.

B counts steps. A log_prob is that of the action taken; advantages say how much better it was than
the state it was taken in, and carry no gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.rl.returns import importance_ratio


def standardized(values: Tensor) -> Tensor:
    """``values`` less their mean, divided by their standard deviation; one alone becomes 0.

    Shape:
        ``[B]`` -> ``[B]``

    >>> standardized(torch.tensor([1.0, 2.0, 3.0]))
    tensor([-1.,  0.,  1.])
    """
    centred = values - values.mean()
    return centred / (centred.std() + 1e-8) if len(values) > 1 else centred


def policy_gradient_loss(log_prob: Tensor, advantages: Tensor) -> Tensor:
    r"""What falls along the gradient of the expected return.

    .. math:: -\frac1B \sum_i A_i \log \pi(a_i \mid s_i)

    Args:
        log_prob: of the actions taken.
        advantages: or returns.
    Shape:
        ``[B]`` each -> ``[]``
    Raises:
        ValueError: shapes differ.

    Source: Williams 1992; Sutton and Barto 2018, eq. 13.8.
    """
    _same(log_prob, advantages)
    return log_prob.dot(advantages.detach()) / -len(log_prob)


def clipped_surrogate_loss(
    log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, clip: float
) -> Tensor:
    r"""The policy gradient, until the policy has gone far enough from the one that acted.

    .. math:: -\frac1B \sum_i \min\bigl(\rho_i A_i,
        \text{clip}(\rho_i, 1 - \epsilon, 1 + \epsilon) A_i\bigr)

    with the ratio :math:`\rho` of the probabilities now and then.

    Args:
        log_prob: of the actions taken, under the policy that learns.
        old_log_prob: under the one that acted.
        advantages: A.
        clip: epsilon.
    Shape:
        ``[B]`` each -> ``[]``
    Raises:
        ValueError: shapes differ.

    Source: Schulman et al. 2017, eq. 7.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> clipped_surrogate_loss(one, zero, one, clip=0.2)
    tensor(-1.2000)
    """
    _same(log_prob, advantages)
    ratio = importance_ratio(log_prob, old_log_prob)
    advantages = advantages.detach()
    with torch.no_grad():  # the gradient of a minimum takes three times as long
        near = ratio.clamp(1 - clip, 1 + clip)
        enough = (ratio - near) * advantages > 0
    return torch.where(enough, near, ratio).dot(advantages) / -len(ratio)


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    r"""Half the squared error, where going further from the old value makes up for nothing.

    .. math:: \frac1{2B} \sum_i \max\bigl((V_i - G_i)^2,
        (V^\text{old}_i + \text{clip}(V_i - V^\text{old}_i, \pm\epsilon) - G_i)^2\bigr)

    Args:
        values: of the network that learns.
        old_values: of the one that acted.
        returns: G, the targets.
        clip: epsilon.
    Shape:
        ``[B]`` each -> ``[]``
    Raises:
        ValueError: shapes differ.

    Source: Engstrom et al. 2020, section 3; the code of Schulman et al. 2017.
    """
    _same(values, returns)
    returns = returns.detach()
    with torch.no_grad():
        near = old_values + (values - old_values).clamp(-clip, clip)
        farther = (near - returns).abs() > (values - returns).abs()
    return F.mse_loss(torch.where(farther, near, values), returns) / 2


def _same(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise ValueError(
            f"{list(one.shape)} beside {list(other.shape)}: give one number for each step"
        )

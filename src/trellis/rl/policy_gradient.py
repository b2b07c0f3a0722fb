r"""Losses of policies and values, from the advantages and returns of the actions taken.

B counts steps. A log_prob is that of the action taken; no gradient flows into advantages and
returns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import check_same_shape
from trellis.rl.returns import importance_ratio

ONE_EACH = "give one number for each step"


def standardized(values: Tensor) -> Tensor:
    """``values`` with mean 0 and standard deviation 1; a single one becomes 0.

    Shape:
        ``[B]`` -> ``[B]``

    >>> standardized(torch.tensor([1.0, 2.0, 3.0]))
    tensor([-1.,  0.,  1.])
    """
    centred = values - values.mean()
    return centred / (centred.std() + 1e-8) if len(values) > 1 else centred


def policy_gradient_loss(log_prob: Tensor, advantages: Tensor) -> Tensor:
    r"""A loss whose negative gradient estimates the gradient of the expected return.

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
    check_same_shape(ONE_EACH, log_prob=log_prob, advantages=advantages)
    return log_prob.dot(advantages.detach()) / -len(log_prob)


def clipped_surrogate_loss(
    log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, clip: float
) -> Tensor:
    r"""The policy gradient, without a reward for moving far from the policy that acted.

    .. math:: -\frac1B \sum_i \min\bigl(\rho_i A_i,
        \text{clip}(\rho_i, 1 - \epsilon, 1 + \epsilon) A_i\bigr)

    with the ratio :math:`\rho` of the new and old probabilities.

    Args:
        log_prob: of the actions taken, under the current policy.
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
    check_same_shape(ONE_EACH, log_prob=log_prob, advantages=advantages)
    ratio = importance_ratio(log_prob, old_log_prob)
    advantages = advantages.detach()
    with torch.no_grad():  # the gradient of a minimum takes three times as long
        clipped = ratio.clamp(1 - clip, 1 + clip)
        use_clipped = (ratio - clipped) * advantages > 0
    return torch.where(use_clipped, clipped, ratio).dot(advantages) / -len(ratio)


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    r"""Half the squared error, without a reward for moving far from the old value.

    .. math:: \frac1{2B} \sum_i \max\bigl((V_i - G_i)^2,
        (V^\text{old}_i + \text{clip}(V_i - V^\text{old}_i, \pm\epsilon) - G_i)^2\bigr)

    Args:
        values: of the current network.
        old_values: of the one that acted.
        returns: G, the targets.
        clip: epsilon.
    Shape:
        ``[B]`` each -> ``[]``
    Raises:
        ValueError: shapes differ.

    Source: Engstrom et al. 2020, section 3; the code of Schulman et al. 2017.
    """
    check_same_shape(ONE_EACH, values=values, returns=returns)
    returns = returns.detach()
    with torch.no_grad():
        clipped = old_values + (values - old_values).clamp(-clip, clip)
        use_clipped = (clipped - returns).abs() > (values - returns).abs()
    return F.mse_loss(torch.where(use_clipped, clipped, values), returns) / 2

"""Likelihoods in units that compare: bits for each dimension of the bytes behind an example."""

import math
from typing import get_args

import torch.nn.functional as F
from torch import Tensor

from trellis.spec import Values


def bits_per_dim(log_prob: Tensor, x: Tensor, values: Values, alpha: float = 0.0) -> Tensor:
    r"""Bits per dimension out of a log-likelihood in nats.

    .. math:: b = -\frac{\ln P(k)}{D \ln 2}

    =========== =====================================================================
    values      ln P(k) of the bytes or bits k
    =========== =====================================================================
    binary      ``log_prob``
    unit        ``log_prob``, which has to be that of the 256 levels
    dequantized ``log_prob`` - D ln 256, since x is 256 times as dense as k + u
    logit       as dequantized, of x = (sigmoid(l) - alpha) / (1 - 2 alpha), whose
                density is that of l times :math:`\prod (1 - 2\alpha) / (s (1 - s))`
                with s = sigmoid(l)
    =========== =====================================================================

    For dequantized values and logits ln P(k) is a lower bound, and so the bits an upper one.

    Args:
        log_prob: nats of each example, summed over its dimensions.
        x: the examples, for which D and, of logits, the change of density are needed.
        values: what the numbers in x are.
        alpha: of ``logit`` values.
    Shape:
        log_prob ``[B]``, x ``[B, *shape]`` -> ``[B]``
    Raises:
        ValueError: ``values`` that are no bytes, or shapes that do not fit.

    Source: Theis et al. 2016, section 3.1 (the bound); Papamakarios et al. 2017, appendix E.2
    (logits).

    >>> bits_per_dim(torch.tensor([-math.log(2)]), torch.ones(1, 4), "binary")
    tensor([0.2500])
    """
    if values not in get_args(Values) or values == "real":
        raise ValueError(
            f"values={values!r} have no bits per dimension: choose from unit, binary, "
            f"dequantized, logit"
        )
    if log_prob.shape != x.shape[:1]:
        raise ValueError(
            f"log_prob {list(log_prob.shape)} and x {list(x.shape)} do not fit: give [B] and "
            f"[B, *shape]"
        )
    flat = x.flatten(1)
    bits = -log_prob / (flat.size(1) * math.log(2))
    if values == "logit":
        # ln s(l) + ln s(-l), of which neither overflows.
        squeezed = (F.logsigmoid(flat) + F.logsigmoid(-flat)).mean(1)
        bits = bits + (squeezed - math.log1p(-2 * alpha)) / math.log(2)
    return bits + 8 if values in ("dequantized", "logit") else bits

"""Log-likelihoods in bits per dimension of the original binary or 8-bit data."""

import math
from typing import get_args

import torch.nn.functional as F
from torch import Tensor

from trellis.checks import does_not_fit
from trellis.spec import Values


def bits_per_dim(log_prob: Tensor, x: Tensor, values: Values, alpha: float = 0.0) -> Tensor:
    r"""Bits per dimension, from a log-likelihood in nats.

    .. math:: b = -\frac{\ln P(k)}{D \ln 2}

    =========== =====================================================================
    values      ln P(k) of the bytes or bits k
    =========== =====================================================================
    binary      ``log_prob``
    unit        ``log_prob``, which must be a probability of the 256 levels
    dequantized ``log_prob`` - D ln 256, since x = (k + u) / 256
    logit       as dequantized, of x = (sigmoid(l) - alpha) / (1 - 2 alpha), whose
                density is that of l times :math:`\prod (1 - 2\alpha) / (s (1 - s))`
                with s = sigmoid(l)
    =========== =====================================================================

    For dequantized values and logits this ln P(k) is a lower bound, so the bits per dimension
    are an upper bound.

    Args:
        log_prob: of each example in nats, summed over its dimensions.
        x: the examples, which give D and, for logits, the change of variables.
        values: what the numbers in x are.
        alpha: of ``logit`` values.
    Shape:
        log_prob ``[B]``, x ``[B, *shape]`` -> ``[B]``
    Raises:
        ValueError: ``values`` that do not stand for bits or bytes, or shapes that do not fit.

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
        raise does_not_fit("log_prob", log_prob, f"x {list(x.shape)}", "[B] and x [B, *shape]")
    flat = x.flatten(1)
    bits = -log_prob / (flat.size(1) * math.log(2))
    if values == "logit":
        # ln s + ln(1 - s), neither of which overflows.
        log_derivative = (F.logsigmoid(flat) + F.logsigmoid(-flat)).mean(1)
        bits = bits + (log_derivative - math.log1p(-2 * alpha)) / math.log(2)
    return bits + 8 if values in ("dequantized", "logit") else bits

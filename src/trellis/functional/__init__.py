"""Pure functions of general use: tensors in, tensors out."""

from trellis.functional.divergence import (
    Transport,
    adversarial,
    bregman_divergence,
    chi2_divergence,
    f_divergence,
    js_divergence,
    kl_divergence,
    negative_entropy,
    optimal_transport,
    squared_deviation,
    wasserstein_1d,
)
from trellis.functional.estimators import leave_one_out, reparameterize, score_function
from trellis.functional.likelihood import gaussian_nll, gumbel_nll, heteroscedastic_gaussian_nll

__all__ = [
    "Transport",
    "adversarial",
    "bregman_divergence",
    "chi2_divergence",
    "f_divergence",
    "gaussian_nll",
    "gumbel_nll",
    "heteroscedastic_gaussian_nll",
    "js_divergence",
    "kl_divergence",
    "leave_one_out",
    "negative_entropy",
    "optimal_transport",
    "reparameterize",
    "score_function",
    "squared_deviation",
    "wasserstein_1d",
]

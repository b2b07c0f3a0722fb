"""Pure functions of general use: tensors in, tensors out."""

from trellis.functional.augmentation import (
    cut_out,
    flip_images,
    mix_up,
    recolour_images,
    rotate_images,
    shift_images,
)
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
from trellis.functional.skip_gram import (
    Noise,
    Probe,
    SkipGramBatch,
    context_windows,
    skip_gram_loss,
)

__all__ = [
    "Noise",
    "Probe",
    "SkipGramBatch",
    "Transport",
    "adversarial",
    "bregman_divergence",
    "chi2_divergence",
    "context_windows",
    "cut_out",
    "f_divergence",
    "flip_images",
    "gaussian_nll",
    "gumbel_nll",
    "heteroscedastic_gaussian_nll",
    "js_divergence",
    "kl_divergence",
    "leave_one_out",
    "mix_up",
    "negative_entropy",
    "optimal_transport",
    "recolour_images",
    "reparameterize",
    "rotate_images",
    "score_function",
    "shift_images",
    "skip_gram_loss",
    "squared_deviation",
    "wasserstein_1d",
]

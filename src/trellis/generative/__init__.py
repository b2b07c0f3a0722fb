"""Generative modelling outside networks: transforms, likelihoods, bounds, adversarial losses."""

from trellis.generative.adversarial import (
    AdversarialLoss,
    HingeLoss,
    LeastSquaresLoss,
    MinimaxLoss,
    NonSaturatingLoss,
    WassersteinLoss,
    clip_weights_,
    gradient_penalty,
    instance_noise,
    interpolates,
)
from trellis.generative.autoregressive import MaskedAutoregressive
from trellis.generative.bits_per_dim import bits_per_dim
from trellis.generative.boltzmann import BoltzmannUnits, GaussianUnits, PairwiseUnits, Units
from trellis.generative.bounds import elbo, iwae
from trellis.generative.code_penalties import activation_kl, squared_jacobian
from trellis.generative.convolution import ConvolutionalDecoder, ConvolutionalEncoder
from trellis.generative.coupled_noise import couple
from trellis.generative.coupling import (
    CheckerboardCoupling,
    ConvConditioner,
    Coupling,
    MultiScale,
    Squeeze,
    checkerboard,
)
from trellis.generative.diffusion_bound import diffusion_bound
from trellis.generative.diffusion_sampling import DDIM, DiffusionSampler, ProbabilityFlow
from trellis.generative.gaussian import gaussian_kl, gaussian_log_prob
from trellis.generative.glow import ActNorm, InvertibleConvolution, glow_step
from trellis.generative.guidance import Guidance
from trellis.generative.masked import MaskedLinear, MaskedMLP
from trellis.generative.noise_schedule import NoiseSchedule
from trellis.generative.partition import (
    AnnealedImportance,
    Enumeration,
    LogPartition,
    Partition,
)
from trellis.generative.pixel_distribution import (
    LevelLogits,
    LogisticMixture,
    PixelDistribution,
)
from trellis.generative.pixel_levels import as_levels
from trellis.generative.pixel_likelihood import (
    PixelLikelihood,
    bernoulli,
    categorical,
    discretized_logistic,
    gaussian,
    unit_gaussian,
)
from trellis.generative.posterior import FlowPosterior
from trellis.generative.prior import FlowPrior, Prior, VampPrior
from trellis.generative.probability_flow import flow_log_prob, integrate, time_grid
from trellis.generative.quantizer import Quantized, VectorQuantizer
from trellis.generative.sparse_coding import fista, ista
from trellis.generative.spline import RationalQuadratic, rational_quadratic
from trellis.generative.transform import (
    Additive,
    Affine,
    Chain,
    Elementwise,
    FlatView,
    Inverse,
    Permutation,
    Scaling,
    Transform,
)

__all__ = [
    "ActNorm",
    "Additive",
    "AdversarialLoss",
    "Affine",
    "AnnealedImportance",
    "BoltzmannUnits",
    "Chain",
    "CheckerboardCoupling",
    "ConvConditioner",
    "ConvolutionalDecoder",
    "ConvolutionalEncoder",
    "Coupling",
    "DDIM",
    "DiffusionSampler",
    "Elementwise",
    "Enumeration",
    "FlatView",
    "FlowPosterior",
    "FlowPrior",
    "GaussianUnits",
    "Guidance",
    "HingeLoss",
    "Inverse",
    "InvertibleConvolution",
    "LeastSquaresLoss",
    "LevelLogits",
    "LogPartition",
    "LogisticMixture",
    "MaskedAutoregressive",
    "MaskedLinear",
    "MaskedMLP",
    "MinimaxLoss",
    "MultiScale",
    "NoiseSchedule",
    "NonSaturatingLoss",
    "PairwiseUnits",
    "Partition",
    "Permutation",
    "PixelDistribution",
    "PixelLikelihood",
    "Prior",
    "ProbabilityFlow",
    "Quantized",
    "RationalQuadratic",
    "Scaling",
    "Squeeze",
    "Transform",
    "VampPrior",
    "Units",
    "VectorQuantizer",
    "WassersteinLoss",
    "activation_kl",
    "as_levels",
    "bernoulli",
    "bits_per_dim",
    "categorical",
    "checkerboard",
    "clip_weights_",
    "couple",
    "diffusion_bound",
    "discretized_logistic",
    "elbo",
    "fista",
    "flow_log_prob",
    "gaussian",
    "gaussian_kl",
    "gaussian_log_prob",
    "glow_step",
    "gradient_penalty",
    "instance_noise",
    "integrate",
    "interpolates",
    "ista",
    "iwae",
    "rational_quadratic",
    "squared_jacobian",
    "time_grid",
    "unit_gaussian",
]

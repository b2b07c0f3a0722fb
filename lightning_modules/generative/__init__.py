"""Objectives for generative models."""

from trellis.lightning_modules.generative.autoencoder import Autoencoder
from trellis.lightning_modules.generative.cycle_gan import CycleGAN
from trellis.lightning_modules.generative.density_estimation import DensityEstimation
from trellis.lightning_modules.generative.diffusion import Diffusion
from trellis.lightning_modules.generative.energy_model import EnergyModel
from trellis.lightning_modules.generative.flow_matching import FlowMatching
from trellis.lightning_modules.generative.gan import GAN
from trellis.lightning_modules.generative.pix2pix import Pix2Pix
from trellis.lightning_modules.generative.semi_supervised import SemiSupervised
from trellis.lightning_modules.generative.variational import Variational
from trellis.lightning_modules.generative.vector_quantization import VectorQuantization

__all__ = [
    "Autoencoder",
    "CycleGAN",
    "DensityEstimation",
    "Diffusion",
    "EnergyModel",
    "FlowMatching",
    "GAN",
    "SemiSupervised",
    "Pix2Pix",
    "Variational",
    "VectorQuantization",
]

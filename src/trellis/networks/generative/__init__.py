"""Generative networks: densities, latent variables, generators and their critics."""

from trellis.networks.generative.autoencoder import ConvolutionalAutoencoder, MLPAutoencoder
from trellis.networks.generative.denoiser import MLPDenoiser
from trellis.networks.generative.flow import Flow
from trellis.networks.generative.flow_autoregressive import IAF, MAF, NSF
from trellis.networks.generative.flow_coupling import NICE, CouplingNSF, RealNVP
from trellis.networks.generative.flow_image import Glow, RealNVPImage
from trellis.networks.generative.gan import (
    DCGANDiscriminator,
    DCGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
)
from trellis.networks.generative.hierarchical_vae import HierarchicalVAE
from trellis.networks.generative.linear_factors import ICA, FactorAnalysis, SparseCoding
from trellis.networks.generative.made import MADE
from trellis.networks.generative.pixel_cnn import PixelCNN
from trellis.networks.generative.rbm import RBM, DeepBeliefNet, GaussianRBM, VisibleBoltzmann
from trellis.networks.generative.translation import (
    PatchDiscriminator,
    TranslationResNet,
    TranslationUNet,
)
from trellis.networks.generative.unet import UNet
from trellis.networks.generative.vae import VAE, ConvolutionalVAE, Latents
from trellis.networks.generative.vq_vae import VQVAE, DiscreteCodes

__all__ = [
    "ConvolutionalAutoencoder",
    "ConvolutionalVAE",
    "CouplingNSF",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DeepBeliefNet",
    "FactorAnalysis",
    "DiscreteCodes",
    "Flow",
    "GaussianRBM",
    "Glow",
    "HierarchicalVAE",
    "IAF",
    "ICA",
    "Latents",
    "MADE",
    "MAF",
    "MLPAutoencoder",
    "MLPDenoiser",
    "MLPDiscriminator",
    "MLPGenerator",
    "NICE",
    "NSF",
    "PatchDiscriminator",
    "PixelCNN",
    "RBM",
    "RealNVP",
    "RealNVPImage",
    "SparseCoding",
    "TranslationResNet",
    "TranslationUNet",
    "UNet",
    "VAE",
    "VisibleBoltzmann",
    "VQVAE",
]

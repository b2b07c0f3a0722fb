"""Data whose density is known, or is what models are compared by."""

from trellis.datamodules.generative.binary_densities import BinaryDensities
from trellis.datamodules.generative.simulated_posteriors import SimulatedPosteriors
from trellis.datamodules.generative.synthetic_densities import SyntheticDensities

__all__ = ["BinaryDensities", "SimulatedPosteriors", "SyntheticDensities"]

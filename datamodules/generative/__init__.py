"""Synthetic data with a known density."""

from trellis.datamodules.generative.synthetic_densities import SyntheticDensities

__all__ = ["SyntheticDensities"]

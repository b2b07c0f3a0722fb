"""Points drawn from known densities."""

from trellis.datamodules.generative.synthetic_densities import SyntheticDensities

__all__ = ["SyntheticDensities"]

"""Networks of vectors."""

from trellis.networks.vector.mlp import MLP

__all__ = ["MLP"]

"""Vectors with a label or a target each."""

from trellis.datamodules.vector.digits import Digits
from trellis.datamodules.vector.synthetic_points import SyntheticPoints

__all__ = ["Digits", "SyntheticPoints"]

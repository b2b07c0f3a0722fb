"""Vectors with a class label or real-valued targets each."""

from trellis.datamodules.vector.digits import Digits
from trellis.datamodules.vector.synthetic_points import SyntheticPoints
from trellis.datamodules.vector.table import Table

__all__ = ["Digits", "SyntheticPoints", "Table"]

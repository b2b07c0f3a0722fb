"""Vectors with a class label or real-valued targets each."""

from trellis.datamodules.vector.digits import Digits
from trellis.datamodules.vector.sklearn_data import SklearnData
from trellis.datamodules.vector.synthetic_points import SyntheticPoints
from trellis.datamodules.vector.table import Table
from trellis.datamodules.vector.uci import UCI

__all__ = ["UCI", "Digits", "SklearnData", "SyntheticPoints", "Table"]

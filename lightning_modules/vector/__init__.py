"""Objectives for examples with a class label or real-valued targets each."""

from trellis.lightning_modules.vector.classification import Classification
from trellis.lightning_modules.vector.regression import Regression

__all__ = ["Classification", "Regression"]

"""Optimizers and learning-rate schedules that torch does not have."""

from trellis.optim.matrix_decay import MatrixDecayAdamW
from trellis.optim.schedule import Schedule

__all__ = ["MatrixDecayAdamW", "Schedule"]

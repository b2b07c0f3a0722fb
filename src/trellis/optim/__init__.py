"""Optimizers and learning-rate schedules that torch does not have."""

from trellis.optim.matrix_decay import MatrixDecayAdamW, MatrixDecayLBFGS
from trellis.optim.muon_adamw import MuonAdamW
from trellis.optim.schedule import Schedule

__all__ = ["MatrixDecayAdamW", "MatrixDecayLBFGS", "MuonAdamW", "Schedule"]

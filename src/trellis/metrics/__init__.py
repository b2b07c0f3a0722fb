"""Metrics of the quality of samples, as functions of tensors."""

from trellis.metrics.coverage import ClassesReached, ModesReached, class_coverage, mode_coverage
from trellis.metrics.frechet import frechet_distance, kernel_distance, moments

__all__ = [
    "ClassesReached",
    "ModesReached",
    "class_coverage",
    "frechet_distance",
    "kernel_distance",
    "mode_coverage",
    "moments",
]

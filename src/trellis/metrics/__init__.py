"""Metrics of the quality of samples and of embeddings, as functions of tensors."""

from trellis.metrics.coverage import ClassesReached, ModesReached, class_coverage, mode_coverage
from trellis.metrics.frechet import frechet_distance, kernel_distance, moments
from trellis.metrics.linear_probe import linear_probe

__all__ = [
    "ClassesReached",
    "ModesReached",
    "class_coverage",
    "frechet_distance",
    "kernel_distance",
    "linear_probe",
    "mode_coverage",
    "moments",
]

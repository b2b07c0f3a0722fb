"""What a run shows: pictures, samples, scores; and which parts of a model learn."""

from trellis.lightning_modules.callbacks.embedding_picture import EmbeddingPicture
from trellis.lightning_modules.callbacks.generative_pictures import (
    CompletionGrid,
    DensityPicture,
    FlowGrid,
    SampleGrid,
)
from trellis.lightning_modules.callbacks.latent_pictures import (
    Interpolations,
    LatentTraversals,
    Reconstructions,
)
from trellis.lightning_modules.callbacks.moving_average import MovingAverage
from trellis.lightning_modules.callbacks.parameter_groups import ParameterGroups
from trellis.lightning_modules.callbacks.pictures import (
    ConfusionMatrix,
    GraphPicture,
    LearningCurves,
)
from trellis.lightning_modules.callbacks.pretrained_embedding import PretrainedEmbedding
from trellis.lightning_modules.callbacks.sample_metrics import ClassifierScores, ModeCoverage
from trellis.lightning_modules.callbacks.text import Alignments, SampledText, Translations
from trellis.lightning_modules.callbacks.translation_picture import TranslationGrid

__all__ = [
    "Alignments",
    "ClassifierScores",
    "ConfusionMatrix",
    "DensityPicture",
    "EmbeddingPicture",
    "CompletionGrid",
    "FlowGrid",
    "GraphPicture",
    "Interpolations",
    "LatentTraversals",
    "LearningCurves",
    "ModeCoverage",
    "MovingAverage",
    "ParameterGroups",
    "PretrainedEmbedding",
    "Reconstructions",
    "SampleGrid",
    "SampledText",
    "TranslationGrid",
    "Translations",
]

"""Layers that several families share."""

from trellis.nn.activation import Maxout, activation_module
from trellis.nn.attention import (
    CausalSelfAttention,
    CrossAttention,
    KeyValues,
    SelfAttention,
    attend,
    attend_causally,
    attention_weights,
    causal_mask,
)
from trellis.nn.augmentation import (
    Augmentation,
    Cutout,
    Mixup,
    RandomColour,
    RandomCrop,
    RandomFlip,
    RandomRotation,
)
from trellis.nn.initialization import initialize_, orthogonal_
from trellis.nn.linear_attention import CausalLinearAttention, attend_linearly
from trellis.nn.local_attention import attend_locally
from trellis.nn.positional import (
    LearnedPositions,
    NoPositions,
    RotaryPositions,
    SinusoidalPositions,
    rotate,
    sinusoids,
)
from trellis.nn.sparse import SparseLinear, to_csr
from trellis.nn.transformer_layer import (
    CausalLayer,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    ResidualNorm,
)

__all__ = [
    "Augmentation",
    "CausalLayer",
    "CausalLinearAttention",
    "CausalSelfAttention",
    "CrossAttention",
    "Cutout",
    "DecoderLayer",
    "EncoderLayer",
    "FeedForward",
    "KeyValues",
    "LearnedPositions",
    "Maxout",
    "Mixup",
    "NoPositions",
    "RandomColour",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "ResidualNorm",
    "RotaryPositions",
    "SelfAttention",
    "SinusoidalPositions",
    "SparseLinear",
    "activation_module",
    "attend",
    "attend_causally",
    "attend_linearly",
    "attend_locally",
    "attention_weights",
    "causal_mask",
    "initialize_",
    "orthogonal_",
    "rotate",
    "sinusoids",
    "to_csr",
]

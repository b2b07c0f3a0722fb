"""Policies and value functions."""

from trellis.networks.rl.observation_encoder import OneHot, PixelTrunk, Trunk
from trellis.networks.rl.policy import (
    CategoricalHead,
    CategoricalPolicy,
    DeterministicPolicy,
    GaussianHead,
    GaussianPolicy,
    SquashedGaussianPolicy,
)
from trellis.networks.rl.value import ActorCriticNetwork, QNetwork, StateActionValue, Value

__all__ = [
    "ActorCriticNetwork",
    "CategoricalHead",
    "CategoricalPolicy",
    "DeterministicPolicy",
    "GaussianHead",
    "GaussianPolicy",
    "OneHot",
    "PixelTrunk",
    "QNetwork",
    "SquashedGaussianPolicy",
    "StateActionValue",
    "Trunk",
    "Value",
]

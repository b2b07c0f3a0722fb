"""Policies and value functions."""

from trellis.networks.rl.observation_encoder import ObservationEncoder, OneHot, PixelEncoder
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
    "ObservationEncoder",
    "OneHot",
    "PixelEncoder",
    "QNetwork",
    "SquashedGaussianPolicy",
    "StateActionValue",
    "Value",
]

"""How signals fare through ten layers: the tables of the courses, layer by layer.

Stanford CS231n 2018, lecture 6, and Berkeley CS182, "Getting neural nets to train", print one
draw each of 1000 examples through ten layers of 500 units. tanh columns repeat within 1 % at any
depth. ReLU columns only begin alike, for the draws drift apart: over 20 seeds, layer 1 stays
within 1 % of the print, layers 2 and 3 within 15 %, layer 5 within 26 %, layer 10 within 34 %.
"""

import pytest
import torch
from torch import Tensor, nn

from trellis.networks.vector.mlp import MLP


def activations(activation: str, initialization: str, std: float | None = None) -> list[Tensor]:
    """Outputs of the ten hidden layers; ``std`` draws normal weights of that scale instead."""
    torch.manual_seed(0)
    network = MLP(
        500,
        1,
        hidden_channels=[500] * 10,
        activation=activation,
        initialization=initialization,
    )
    h, outputs = torch.randn(1000, 500), []
    with torch.no_grad():
        for layer in network.layers[:-1]:
            if std is not None and isinstance(layer, nn.Linear):
                layer.weight.normal_(std=std)
            h = layer(h)
            if not isinstance(layer, nn.Linear):
                outputs.append(h)
    return outputs


def by_layer(outputs: list[Tensor], layers: tuple[int, ...]) -> list[float]:
    return [outputs[layer - 1].std().item() for layer in layers]


LAYERS = (1, 2, 3, 5, 10)


@pytest.mark.parametrize(
    ("std", "expected"),
    [
        (0.01, [0.213081, 0.047551, 0.010630, 0.000532]),  # dies away
        (1.0, [0.981879, 0.981649, 0.981601, 0.981614, 0.981736]),  # saturates
        (None, [0.627953, 0.486051, 0.407723, 0.320917, 0.228008]),  # Xavier: lives
    ],
    ids=["small", "large", "xavier"],
)
def test_tanh_layers(std: float | None, expected: list[float]) -> None:
    outputs = activations("tanh", "xavier", std)
    assert by_layer(outputs, LAYERS)[: len(expected)] == pytest.approx(expected, rel=0.02)
    assert all(h.mean().abs() < 0.01 for h in outputs)
    assert bool(outputs[9].std() < 5e-7) is (std == 0.01)  # printed as 0.000000


@pytest.mark.parametrize(
    ("initialization", "stds", "means"),
    [
        (
            "xavier",
            [0.582273, 0.403795, 0.276912, 0.140299, 0.026697],
            [0.398623, 0.272352, 0.186076, 0.099568, 0.018408],
        ),
        (
            "he",
            [0.825232, 0.827835, 0.813855, 0.834092, 0.844523],
            [0.562488, 0.553614, 0.545867, 0.547678, 0.552531],
        ),
    ],
)
def test_relu_layers(initialization: str, stds: list[float], means: list[float]) -> None:
    outputs = activations("relu", initialization)
    tolerances = (0.02, 0.12, 0.17, 0.3, 0.45)
    for layer, std, mean, tolerance in zip(LAYERS, stds, means, tolerances, strict=True):
        h = outputs[layer - 1]
        assert h.std().item() == pytest.approx(std, rel=tolerance), layer
        assert h.mean().item() == pytest.approx(mean, rel=tolerance), layer


def test_with_relu_he_keeps_what_xavier_halves() -> None:
    """The second moment of a layer's inputs: constant with He, halved in each layer else."""
    for initialization, factor in (("he", 1.0), ("xavier", 0.5)):
        outputs = activations("relu", initialization)
        moments = [h.square().mean().item() for h in outputs]
        assert (moments[9] / moments[0]) ** (1 / 9) == pytest.approx(factor, rel=0.1)

"""Every objective gives its network inputs that fit, of any size, and outputs that have names."""

from functools import partial

import pytest
import torch
from every_objective import OBJECTIVES
from torch import Tensor, nn

from trellis.lightning_modules.export.interface import (
    PlainNetwork,
    Sizes,
    example_inputs,
    exported_network,
)
from trellis.lightning_modules.generative.density_estimation import DensityEstimation
from trellis.lightning_modules.generative.diffusion import Diffusion
from trellis.networks.generative.autoencoder import MLPAutoencoder
from trellis.networks.generative.denoiser import MLPDenoiser
from trellis.networks.generative.flow_autoregressive import MAF
from trellis.spec import TensorSpec


@pytest.mark.parametrize("name", OBJECTIVES)
def test_example_inputs_fit(name: str) -> None:
    case = OBJECTIVES[name]
    data = case.data()
    data.prepare_data()
    data.setup("fit")
    objective = case.objective()
    objective.spec = data.spec
    objective.configure_model()
    objective.eval()
    network = PlainNetwork(exported_network(objective)).eval()
    shapes = []
    for sizes in (Sizes(), Sizes(3, 6), Sizes(1, 5)):
        inputs = example_inputs(objective, network.network, sizes)
        values = [each.value for each in inputs]
        outputs = network.named(*values)
        again = network.named(*values)
        assert all(torch.equal(x, again[key]) for key, x in outputs.items()), "nothing is random"
        assert all(x.isfinite().all() for x in outputs.values())
        shapes.append([each.described()["shape"] for each in inputs])
        open_axes = {axis for each in inputs for axis in each.axes.values()}
        assert open_axes & {"batch", "nodes"}
        sizes_of = {n: x.size(a) for i in inputs if isinstance(x := i.value, Tensor)
                    for a, n in i.axes.items()}  # fmt: skip
        assert sizes_of.get("batch", sizes.batch) == sizes.batch
    assert shapes[0] == shapes[1] == shapes[2], "only open axes change"


def test_real_targets_are_an_input_of_real_numbers() -> None:
    spec = TensorSpec(3, 2, targets="real")
    objective = DensityEstimation(partial(MAF, hidden_channels=(4,)), spec=spec, conditional=True)
    objective.configure_model()
    x, y = example_inputs(objective, objective.network)
    assert (x.name, y.name) == ("x", "y")
    assert objective(x.value, y.value).shape == x.value.shape[:1]


class Asks(nn.Module):
    def forward(self, weather: Tensor) -> Tensor:
        return weather


def test_an_input_that_the_spec_does_not_know_is_named() -> None:
    objective = OBJECTIVES["Classification"].objective()
    with pytest.raises(ValueError, match="Asks.forward takes weather, of which"):
        example_inputs(objective, Asks())
    with pytest.raises(ValueError, match="Classification has no network, policy or generator"):
        exported_network(objective)
    with pytest.raises(ValueError, match="returns a str cannot be exported"):
        PlainNetwork(nn.Identity()).named("text")


def test_a_network_after_an_encoder_is_refused() -> None:
    options = {"network": partial(MLPDenoiser, hidden_channels=(4,)), "spec": TensorSpec(3, 2)}
    latent = Diffusion(**options, autoencoder=partial(MLPAutoencoder, latent_dim=2))
    latent.configure_model()
    with pytest.raises(ValueError, match="this Diffusion takes what its codes encode"):
        exported_network(latent)

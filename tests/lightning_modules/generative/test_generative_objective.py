"""What holds for every objective that draws samples."""

from functools import partial

import pytest
import torch

from trellis.lightning_modules.generative.density_estimation import DensityEstimation
from trellis.lightning_modules.generative.gan import GAN
from trellis.lightning_modules.generative.generative_objective import GenerativeObjective
from trellis.lightning_modules.generative.sampling import draw_samples
from trellis.lightning_modules.generative.variational import Variational
from trellis.networks.generative.flow_autoregressive import NSF
from trellis.networks.generative.made import MADE
from trellis.networks.generative.vae import VAE
from trellis.spec import TensorSpec

OBJECTIVES = {
    "density": partial(DensityEstimation, partial(NSF, hidden_channels=(4,))),
    "variational": partial(
        Variational, partial(VAE, hidden_channels=(4,)), likelihood="unit_gaussian"
    ),
    "gan": GAN,
}


@pytest.fixture(params=OBJECTIVES)
def make(request: pytest.FixtureRequest):
    def build(spec: TensorSpec, conditional: bool) -> GenerativeObjective:
        torch.manual_seed(0)
        objective = OBJECTIVES[request.param](spec=spec, conditional=conditional)
        objective.configure_model()
        return objective.eval()

    return build


@pytest.mark.parametrize("conditional", [False, True])
def test_a_generator_decides_what_is_drawn(make, conditional: bool) -> None:
    objective = make(TensorSpec(3, 2), conditional)
    first, second = (
        objective.sample(4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    assert first.shape == (4, 3)
    assert first.equal(objective.sample(4, generator=torch.Generator().manual_seed(0)))
    assert not first.equal(second)
    torch.manual_seed(0)
    drawn = objective.sample(4)
    torch.manual_seed(0)
    assert drawn.equal(objective.sample(4))


def test_without_labels_all_classes_are_drawn(make) -> None:
    objective = make(TensorSpec(3, 3), True)

    def drawn(y: torch.Tensor | None) -> torch.Tensor:
        return objective.sample(5, y, generator=torch.Generator().manual_seed(0))

    assert drawn(None).equal(drawn(torch.tensor([0, 1, 2, 0, 1])))
    assert not drawn(None).equal(drawn(torch.zeros(5, dtype=torch.long)))


def test_labels_need_classes(make) -> None:
    with pytest.raises(ValueError, match="conditional=True: out_channels=1: give at least 2"):
        make(TensorSpec(3, 1), True)
    make(TensorSpec(3, 2, targets="real"), False)
    with pytest.raises(ValueError, match="y is given, but conditional=False: leave y out"):
        make(TensorSpec(3, 2), False).sample(2, torch.tensor([0, 1]))


@pytest.mark.parametrize("name", ["variational", "gan"])
def test_most_networks_are_given_no_real_targets(name: str) -> None:
    objective = OBJECTIVES[name](spec=TensorSpec(3, 2, targets="real"), conditional=True)
    message = "conditional=True needs class labels, but the data has real-valued targets"
    with pytest.raises(ValueError, match=message):
        objective.configure_model()


def test_densities_are_given_real_targets() -> None:
    objective = OBJECTIVES["density"](spec=TensorSpec(3, 2, targets="real"), conditional=True)
    objective.configure_model()
    y = torch.randn(4, 2)
    assert objective.sample(4, y).shape == draw_samples(objective, 4, seed=0, labels=y).shape
    x = torch.randn(4, 3)
    assert not objective(x, y).equal(objective(x, y + 1))
    for draw in (objective.sample, partial(draw_samples, objective, seed=0)):
        with pytest.raises(ValueError, match="is conditional on 2 real targets, not on classes"):
            draw(4)
    made = DensityEstimation(MADE, spec=TensorSpec(3, 2, targets="real"), conditional=True)
    with pytest.raises(ValueError, match=r"network\(shape=..., context_features=...\), but MADE"):
        made.configure_model()

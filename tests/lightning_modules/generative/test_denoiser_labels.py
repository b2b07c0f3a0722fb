"""Labels of diffusion and flow matching: withheld in training, guided in samples only."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trellis.generative import DDIM, Guidance, ProbabilityFlow
from trellis.lightning_modules.generative.diffusion import Diffusion
from trellis.lightning_modules.generative.flow_matching import FlowMatching
from trellis.networks.generative.denoiser import MLPDenoiser
from trellis.spec import TensorSpec

OBJECTIVES = [Diffusion, FlowMatching]
SPEC = TensorSpec(2, 3)


class Listening(nn.Module):
    """A network that remembers the labels that it was told."""

    def __init__(self, shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.num_classes, self.told = num_classes, torch.zeros(0, dtype=torch.long)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.told = y
        return self.scale * x * (y[:, None] + 1)


def ready(kind: Any, **options: Any) -> Any:
    few = {"sample_steps": 3, "likelihood_steps": 3}
    if kind is Diffusion:
        few = {"sampler": partial(DDIM, 5), "likelihood": partial(ProbabilityFlow, 3)}
    options = {"network": Listening, "spec": SPEC, "conditional": True, **few, **options}
    objective = kind(**options)
    objective.configure_model()
    return objective


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_network_has_a_class_more_which_stands_for_none(kind) -> None:
    torch.manual_seed(0)
    objective = ready(kind, guidance=partial(Guidance, dropout=0.5))
    assert objective.network.num_classes == 4
    x, y = torch.randn(60, 2), torch.arange(60) % 3
    objective.loss((x, y))
    told = objective.network.told
    assert 15 < int((told == 3).sum()) < 45
    assert torch.equal(told[told < 3], y[told < 3])


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_samples_are_guided_likelihoods_are_not(kind) -> None:
    y = torch.tensor([0, 1, 2, 1])
    plain, guided = ready(kind), ready(kind, guidance=partial(Guidance, weight=2.0))
    noise = [torch.Generator().manual_seed(0) for _ in range(2)]
    free = plain.sample(4, y, generator=noise[0])
    pushed = guided.sample(4, y, generator=noise[1])
    assert torch.equal(guided.network.told, torch.tensor([0, 1, 2, 1, 3, 3, 3, 3]))
    assert not torch.allclose(free, pushed)
    x = torch.randn(4, 2)
    likelihoods = [each.predict_step((x, y), 0) for each in (plain, guided)]
    torch.testing.assert_close(*likelihoods)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_weight_of_0_draws_from_the_conditional_density(kind) -> None:
    torch.manual_seed(0)
    network = partial(MLPDenoiser, hidden_channels=(16,))
    guided = ready(kind, network=network, guidance=partial(Guidance, weight=0.0))
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    found = guided.sample(6, torch.arange(6) % 3, generator=seeds[0])
    guided.labels.guidance = None
    torch.testing.assert_close(found, guided.sample(6, torch.arange(6) % 3, generator=seeds[1]))


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_real_targets_reach_the_network_in_every_pass(kind) -> None:
    torch.manual_seed(0)
    network = partial(MLPDenoiser, hidden_channels=(16,))
    objective = ready(kind, network=network, spec=TensorSpec(2, 3, targets="real"))
    assert objective.network.context_features == 3
    x, y = torch.randn(5, 2), torch.randn(5, 3)
    together = objective.predict_step((x, y), 0)
    alone = [objective.predict_step((x[i : i + 1], y[i : i + 1]), 0) for i in range(5)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=1e-3)
    other = objective.predict_step((x, y.flip(0)), 0)
    assert not torch.allclose(together, other)
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    first = objective.sample(5, y, generator=seeds[0])
    assert not torch.allclose(first, objective.sample(5, y.flip(0), generator=seeds[1]))
    with pytest.raises(ValueError, match="guidance is by class labels"):
        ready(kind, network=network, spec=objective.spec, guidance=Guidance)


def test_a_denoiser_is_given_labels_or_numbers() -> None:
    with pytest.raises(ValueError, match="MLPDenoiser is given labels or real numbers"):
        MLPDenoiser((2,), 3, context_features=2)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_guidance_without_labels_is_refused(kind) -> None:
    with pytest.raises(ValueError, match="guidance needs labels to guide by"):
        kind(guidance=Guidance)

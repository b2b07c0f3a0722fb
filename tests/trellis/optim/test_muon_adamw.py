"""One optimiser that is torch's Muon on matrices and torch's AdamW on the rest."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from trellis.lightning_modules.engine.grouped_parameters import grouped
from trellis.lightning_modules.sequence.causal_lm import CausalLM
from trellis.networks.sequence.gpt import GPT
from trellis.optim.muon_adamw import MuonAdamW, orthogonalized
from trellis.spec import TokenSpec


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 4), nn.Conv1d(3, 5, 2), nn.Linear(3, 6), nn.LayerNorm(6))


def train(optimizers: list[torch.optim.Optimizer], module: nn.Module, steps: int = 5) -> None:
    for number in range(steps):
        torch.manual_seed(number)
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        for optimizer in optimizers:
            optimizer.step()


def equal(one: nn.Module, two: nn.Module) -> bool:
    return all(map(torch.equal, one.parameters(), two.parameters()))


def test_it_is_muon_on_matrices_and_adamw_on_the_rest() -> None:
    ours, theirs = network(), network()
    parameters = grouped(ours, {})
    optimizer = MuonAdamW(parameters, lr=0.02, weight_decay=0.3, momentum=0.9, betas=(0.8, 0.9))
    tokens, kernel, kernel_bias, matrix, *vectors = theirs.parameters()
    adamw = partial(torch.optim.AdamW, lr=0.02, betas=(0.8, 0.9), fused=True)
    references = [
        torch.optim.Muon([matrix], 0.02, 0.3, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
        adamw([tokens, kernel], weight_decay=0.3),
        adamw([kernel_bias, *vectors], weight_decay=0.0),
    ]
    train([optimizer], ours)
    train(references, theirs)
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        if one.shape == matrix.shape:  # torch rounds to bfloat16: 5 steps of 0.02 * 0.2 * 6**0.5
            torch.testing.assert_close(one, two, rtol=0, atol=0.03 * 5 * 0.02 * 0.2 * 6**0.5)
        else:
            torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(8, 8), (5, 30), (2, 40, 6)])
def test_orthogonalized_matrices_keep_their_singular_vectors(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonalized(x))
    assert values.min() > 0.3
    assert values.max() < 1.3
    before, _, after = torch.linalg.svd(x, full_matrices=False)
    polar = before @ after  # the nearest orthogonal matrix
    assert (polar * orthogonalized(x)).sum((-2, -1)).div(min(shape[-2:])).min() > 0.8


def test_groups_keep_their_options() -> None:
    optimizer = MuonAdamW(grouped(network(), {"2": {"lr": 0.5}}), lr=0.1)
    rates = {tuple(p.shape): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates[6, 3] == 0.5
    assert rates[7, 4] == 0.1


@pytest.mark.parametrize("how", ["state dict", "copy"])
def test_it_goes_on_where_it_was(how: str) -> None:
    whole, parts = network(), network()
    first = MuonAdamW(whole.parameters())
    second = MuonAdamW(parts.parameters())
    train([first], whole, 3)
    train([second], parts, 3)
    if how == "copy":
        parts, second = copy.deepcopy((parts, second))
    else:
        state = copy.deepcopy(second.state_dict())
        second = MuonAdamW(parts.parameters(), lr=9.0)
        second.load_state_dict(state)
    train([first], whole)
    train([second], parts)
    assert equal(whole, parts)


def test_schedules_reach_both() -> None:
    module = network()
    optimizer = MuonAdamW(module.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step else 1.0)
    train([optimizer], module, 1)
    schedule.step()
    before = copy.deepcopy(module)
    train([optimizer], module, 1)
    assert equal(before, module)


@pytest.mark.parametrize("kind", [nn.Linear, partial(nn.Embedding, _freeze=False), nn.LayerNorm])
def test_one_kind_of_parameters_is_enough(kind: Any) -> None:
    module = kind(4, 3) if kind is not nn.LayerNorm else kind(4)
    if kind is nn.Linear:
        module.register_parameter("bias", None)
    optimizer, before = MuonAdamW(grouped(module, {})), copy.deepcopy(module)
    train([optimizer], module, 1)
    assert not torch.equal(next(before.parameters()), next(module.parameters()))


def test_an_objective_says_what_is_an_embedding() -> None:
    gpt = partial(GPT, context=16, embed_dim=16, num_heads=2, num_layers=1)
    objective = CausalLM(gpt, partial(MuonAdamW, lr=0.01), spec=TokenSpec(5))
    objective.configure_model()
    optimizer: Any = objective.configure_optimizers()
    muon = next(group for group in optimizer.param_groups if "momentum" in group)
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    found = [names[id(parameter)] for parameter in muon["params"]]
    assert len(found) == 4
    assert all(name.startswith("network.layers.0.") for name in found)

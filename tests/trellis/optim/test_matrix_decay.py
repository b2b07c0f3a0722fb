"""Decay of matrices alone, against torch's AdamW on each kind of parameter by itself."""

import copy

import torch
from torch import nn

from trellis.optim.matrix_decay import MatrixDecayAdamW


def stepped(network: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
    torch.manual_seed(1)
    for _ in range(5):
        optimizer.zero_grad()
        network(torch.randn(8, 6)).square().sum().backward()
        optimizer.step()
    return network


def test_matrices_decay_and_vectors_do_not() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4))
    theirs = copy.deepcopy(ours)
    matrices = [p for n, p in theirs.named_parameters() if n == "0.weight"]
    vectors = [p for n, p in theirs.named_parameters() if n != "0.weight"]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    stepped(theirs, torch.optim.AdamW(groups, lr=0.1, betas=(0.8, 0.9)))
    stepped(ours, MatrixDecayAdamW(ours.parameters(), lr=0.1, betas=(0.8, 0.9), weight_decay=0.3))
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_a_network_of_matrices_alone_has_one_group() -> None:
    optimizer = MatrixDecayAdamW(nn.Linear(2, 2, bias=False).parameters())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1]


def test_groups_keep_their_options_and_are_divided() -> None:
    """As ``ParameterGroups`` makes them: a part that moves slowly, another that decays less."""
    network = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4))
    groups = [
        {"params": [*network[0].parameters()], "lr": 0.01},
        {"params": [*network[1].parameters()], "weight_decay": 0.2},
    ]
    optimizer = MatrixDecayAdamW(groups, lr=0.1, weight_decay=0.3)
    found = [(len(g["params"]), g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert found == [(1, 0.01, 0.3), (1, 0.01, 0.0), (2, 0.1, 0.0)]
    matrix = [{"params": [network[0].weight], "weight_decay": 0.2}]
    (group,) = MatrixDecayAdamW(matrix, weight_decay=0.3).param_groups
    assert group["weight_decay"] == 0.2

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

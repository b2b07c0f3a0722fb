"""Layers of readable cells: one after the other, states, those that need equal widths."""

from typing import get_args

import pytest
import torch

from trellis.networks.sequence import RecurrentLM
from trellis.sequence.recurrent_cells import unroll
from trellis.sequence.unrolled_stack import UnrolledName, UnrolledStack

CELLS = get_args(UnrolledName)


@pytest.mark.parametrize("cell", CELLS)
def test_layers_read_the_outputs_of_the_one_below_and_go_on_from_states(cell: str) -> None:
    torch.manual_seed(0)
    stack, x = UnrolledStack(4, 4, cell=cell, num_layers=2), torch.randn(3, 7, 4)
    first, (end,) = unroll(stack.cells[0], x)
    second, (last,) = unroll(stack.cells[1], first)
    outputs, (state,) = stack(x)
    assert torch.equal(outputs, second)
    assert torch.equal(state, torch.stack([end, last], 1))
    begun, middle = stack(x[:, :3])
    rest, after = stack(x[:, 3:], middle)
    torch.testing.assert_close(torch.cat([begun, rest], 1), outputs)
    torch.testing.assert_close(after[0], state)


def test_dropout_lies_between_layers_and_in_training_alone() -> None:
    torch.manual_seed(0)
    stack, x = UnrolledStack(4, 4, cell="mut3", num_layers=2, dropout=0.5), torch.randn(3, 7, 4)
    assert not torch.equal(stack(x)[0], stack(x)[0])
    stack.eval()
    assert torch.equal(stack(x)[0], stack(x)[0])


@pytest.mark.long
@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_of_each_cell_learns_what_follows(cell: str) -> None:
    """In a text of period 5, whose tokens come twice, only a state tells what is next."""
    torch.manual_seed(0)
    network = RecurrentLM(3, cell=cell, embed_dim=16, hidden_size=16)
    text = torch.tensor([[0, 1, 0, 2, 2] * 4])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(60):
        logits, _ = network(text[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits[:, 5:].flatten(0, 1), text[0, 6:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1  # 0.55 without a memory: 0 is followed by 1 or 2, 2 by 2 or 0


def test_refuses() -> None:
    with pytest.raises(ValueError, match="MUT1 adds x to the state: in_features=3"):
        UnrolledStack(3, 4, cell="mut1")
    with pytest.raises(ValueError, match="cell='mut4': choose from elman, lstm, gru, gru_before"):
        RecurrentLM(9, cell="mut4")
    with pytest.raises(ValueError, match="num_layers=0"):
        UnrolledStack(3, 4, cell="mut3", num_layers=0)

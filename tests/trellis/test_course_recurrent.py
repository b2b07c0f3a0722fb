"""Recurrence and attention with the numbers and identities of the courses."""

import math

import pytest
import torch
from torch import Tensor

from trellis.networks.sequence.recurrent import RecurrentLM
from trellis.sequence.alignment import (
    AdditiveAttention,
    GeneralAttention,
    LastState,
    ReducedRankAttention,
)
from trellis.sequence.recurrent_cells import (
    ElmanCell,
    GatedCell,
    LongShortTermCell,
    RecurrentCell,
    unroll,
)
from trellis.sequence.recurrent_stack import RecurrentStack


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def fill(cell: RecurrentCell, value: float) -> RecurrentCell:
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.fill_(value)
    return cell


# --- gated recurrent units -----------------------------------------------------------------------


def test_one_step_of_a_scalar_gru() -> None:
    """NYU Tandon (Hegde), "Recurrent nets": all weights 1, sigmoid candidate, z = 1 keeps.

    r = z = s(1 + .5) = .817574, candidate s(1 + .5 r) = .803575, h = .555380.
    """
    options = {"reset": "before", "activation": "sigmoid", "bias": False}
    x, h = torch.ones(1, 1), torch.full((1, 1), 0.5)
    (after,) = fill(GatedCell(1, 1, **options), 1.0)(x, (h,))
    assert after.item() == pytest.approx(0.555380, abs=1e-6)
    (other,) = fill(GatedCell(1, 1, update="replaces", **options), 1.0)(x, (h,))
    assert other.item() == pytest.approx(0.817574 * 0.803575 + 0.182426 * 0.5, abs=1e-6)


@pytest.mark.parametrize("reset", ["before", "after"])
def test_the_limits_of_a_gru(reset: str) -> None:
    """Columbia COMS4995, NYU Tandon: z = 1 keeps h; z = 0 is a plain RNN, with r = 0 only U x."""
    x, h = torch.randn(2, 3), torch.randn(2, 4)
    cell = GatedCell(3, 4, reset=reset)
    with torch.no_grad():
        cell.candidate.bias.zero_()

    def after(r: float, z: float) -> Tensor:
        with torch.no_grad():
            cell.input.bias[:8] = torch.tensor([r] * 4 + [z] * 4)
        return cell(x, (h,))[0]

    mapped = x @ cell.input.weight[8:].t() + cell.input.bias[8:]
    torch.testing.assert_close(after(0.0, 50.0), h)
    torch.testing.assert_close(
        after(50.0, -50.0), torch.tanh(mapped + h @ cell.candidate.weight.t())
    )
    torch.testing.assert_close(after(-50.0, -50.0), torch.tanh(mapped))


def test_the_papers_gru_and_torchs_do_not_share_weights() -> None:
    """Stanford CS231n 2018, lecture 10: r meets h before W there; torch maps first."""
    paper, torchs = (GatedCell(3, 4, reset=reset, bias=False) for reset in ("before", "after"))
    torchs.load_state_dict(paper.state_dict())
    x, h = torch.randn(2, 3), torch.randn(2, 4)
    assert not paper(x, (h,))[0].allclose(torchs(x, (h,))[0], atol=1e-3)
    zeros = torch.zeros(2, 4)
    torch.testing.assert_close(paper(x, (zeros,)), torchs(x, (zeros,)))


# --- backpropagation through time ----------------------------------------------------------------


def test_gradients_through_a_scalar_recurrence() -> None:
    """NYU Tandon, "Recurrent nets": h_t = s(x_t + w h_{t-1}), x = 1, w = 1, h_0 = 0.

    a_t = dh_t/dw = s'(.) (h_{t-1} + w a_{t-1}); cut after one step, a_3 = s'(.) h_2.
    """
    cell = fill(ElmanCell(1, 1, activation="sigmoid", bias=False), 1.0)
    outputs, _ = unroll(cell, torch.ones(1, 3, 1))
    expected = torch.tensor([0.731059, 0.849548, 0.864074])
    torch.testing.assert_close(outputs.flatten(), expected, rtol=0, atol=1e-6)
    w = cell.hidden.weight
    slopes = [torch.autograd.grad(h, w, retain_graph=True)[0].item() for h in outputs.flatten()]
    assert slopes == pytest.approx([0.0, 0.0934412, 0.110754], abs=1e-6)
    _, state = unroll(cell, torch.ones(1, 2, 1))
    (last,) = cell(torch.ones(1, 1), tuple(part.detach() for part in state))
    (truncated,) = torch.autograd.grad(last, w)
    assert truncated.item() == pytest.approx(0.0997795, abs=1e-6)


@pytest.mark.parametrize("kind", [ElmanCell, GatedCell])
def test_the_slope_over_many_steps_is_the_product_of_the_steps(kind: type) -> None:
    """Duke (Bahng): dh_t/dh_k = dh_t/dh_{t-1} ... dh_{k+1}/dh_k."""
    cell, x = kind(3, 4).double(), torch.randn(1, 5, 3, dtype=torch.double)
    start = h = torch.randn(1, 4, dtype=torch.double)
    product = torch.eye(4, dtype=torch.double)
    for t in range(5):

        def step(h: Tensor, t: int = t) -> Tensor:
            return cell(x[:, t], (h,))[0]

        product = torch.autograd.functional.jacobian(step, h)[0, :, 0] @ product
        h = step(h)
    whole = torch.autograd.functional.jacobian(lambda h: unroll(cell, x, (h,))[1][0], start)
    torch.testing.assert_close(product, whole[0, :, 0])


@pytest.mark.parametrize(("radius", "vanishes"), [(0.5, True), (2.0, False)])
def test_gradients_vanish_or_explode_with_the_spectrum(radius: float, vanishes: bool) -> None:
    """Duke (Bahng), Stanford CS231n, lecture 10: largest singular value below or above 1."""
    cell = ElmanCell(1, 4, activation="identity", bias=False)
    with torch.no_grad():
        cell.hidden.weight.copy_(radius * torch.linalg.qr(torch.randn(4, 4)).Q)
    start = torch.randn(1, 4, requires_grad=True)
    unroll(cell, torch.zeros(1, 30, 1), (start,))[1][0].norm().backward()
    assert start.grad.norm().item() == pytest.approx(radius**30, rel=1e-3)
    assert (start.grad.norm() < 1e-6) == vanishes


def test_memory_of_an_lstm_flows_back_by_its_forget_gate_alone() -> None:
    """Stanford CS231n 2018, lecture 10: from c_t to c_{t-1} only elementwise f, no matrix."""
    cell, x, h = LongShortTermCell(3, 4), torch.randn(1, 3), torch.randn(1, 4)
    f = (cell.input(x) + cell.hidden(h)).chunk(4, dim=1)[1].sigmoid()
    slope = torch.autograd.functional.jacobian(lambda c: cell(x, (h, c))[1], torch.randn(1, 4))
    torch.testing.assert_close(slope[0, :, 0], f[0].diag())


def test_an_lstm_with_open_forget_and_shut_input_gates_keeps_its_memory() -> None:
    """Duke (Bahng): f = 1 and i = 0 preserve c exactly, over any time."""
    cell = LongShortTermCell(3, 4)
    with torch.no_grad():
        cell.input.bias[:8] = torch.tensor([-200.0] * 4 + [200.0] * 4)
    c = torch.randn(2, 4)
    outputs, (_, after) = unroll(cell, torch.randn(2, 100, 3), (torch.randn(2, 4), c))
    assert after.equal(c)
    assert outputs.abs().max() < 1


# --- shapes and sizes ----------------------------------------------------------------------------


def test_shapes_of_a_stack_of_two_layers() -> None:
    """Duke (Bahng): an RNN of 10 inputs, 20 states and 2 layers; 8 tensors, 1,480 parameters."""
    stack = RecurrentStack(10, 20, cell="elman", num_layers=2)
    assert [list(p.shape) for p in stack.parameters()] == [
        [20, 10], [20, 20], [20], [20], [20, 20], [20, 20], [20], [20]
    ]  # fmt: skip
    assert sum(p.numel() for p in stack.parameters()) == 1480
    outputs, (h,) = stack(torch.randn(1, 5, 10), (torch.zeros(1, 2, 20),))
    assert outputs[0].shape == (5, 20)
    assert h[0].shape == (2, 20)


@pytest.mark.parametrize(("cell", "rows"), [("elman", 1), ("gru", 3), ("lstm", 4)])
def test_a_layer_maps_input_and_state_to_all_gates(cell: str, rows: int) -> None:
    """Stanford CS231n, lecture 10, and Berkeley CS182: W^l is n x 2n for an RNN, 4n x 2n LSTM."""
    stack = RecurrentStack(6, 6, cell=cell, num_layers=2)
    for layer in (0, 1):
        first, second = (stack.rnn.get_parameter(f"weight_{x}_l{layer}") for x in ("ih", "hh"))
        assert torch.cat((first, second), dim=1).shape == (rows * 6, 12)


def test_the_first_loss_of_a_character_model() -> None:
    """Stanford CS231n, lecture 10 (min-char-rnn): 25 steps of -ln(1/V) before it has learned."""
    lm = RecurrentLM(65, cell="elman", embed_dim=65, hidden_size=100)
    with torch.no_grad():
        lm.output.weight.mul_(0.01)
        lm.output.bias.zero_()
    tokens = torch.randint(65, (1, 26))
    logits, _ = lm(tokens[:, :-1])
    loss = torch.nn.functional.cross_entropy(logits[0], tokens[0, 1:], reduction="sum")
    assert loss.item() == pytest.approx(25 * math.log(65), rel=1e-2)


# --- attention -----------------------------------------------------------------------------------


def test_sizes_of_the_scores() -> None:
    """Duke (Bahng): s h parameters, k (s + h) of reduced rank, r (h + s + 1) of the additive."""
    s, h, k, r = 6, 10, 3, 5
    general, reduced = GeneralAttention(s, h), ReducedRankAttention(s, h, rank=k)
    additive = AdditiveAttention(s, h, attention_dim=r)
    sizes = [sum(p.numel() for p in part.parameters()) for part in (general, reduced, additive)]
    assert sizes == [s * h, k * (s + h), r * (h + s + 1) + r]  # and a bias, which they leave out


def test_reduced_rank_is_general_with_a_product_for_a_matrix() -> None:
    """Duke (Bahng), Berkeley CS182: s^T (U^T V) h = (U s)^T (V h)."""
    reduced, general = ReducedRankAttention(6, 10, rank=3), GeneralAttention(6, 10)
    with torch.no_grad():
        general.key.weight.copy_(reduced.query.weight.t() @ reduced.key.weight)
    query, values, mask = torch.randn(2, 4, 6), torch.randn(2, 5, 10), torch.ones(2, 5).bool()
    expected = reduced(query, reduced.keys(values), values, mask)
    torch.testing.assert_close(general(query, general.keys(values), values, mask), expected)


def test_two_maps_are_one_of_the_concatenation() -> None:
    """NYU Tandon, "Transformers": W1 tanh(W2 [h, s])."""
    attention = AdditiveAttention(6, 10, attention_dim=5)
    s, h = torch.randn(6), torch.randn(10)
    together = torch.cat((attention.key.weight, attention.query.weight), dim=1)
    expected = attention.energy.weight @ torch.tanh(
        together @ torch.cat((h, s)) + attention.key.bias
    )
    scores = attention.score(s[None, None], attention.keys(h[None, None]))
    torch.testing.assert_close(scores.flatten(), expected)


def test_sharp_attention_reads_one_state_and_flat_attention_their_mean() -> None:
    """Berkeley CS182: softmax is a soft argmax; the context lies between the states."""
    attention = GeneralAttention(4, 4)
    query, values, mask = torch.randn(1, 1, 4), torch.randn(1, 7, 4), torch.ones(1, 7).bool()
    best = attention.score(query, attention.keys(values)).argmax()
    sharp, _ = attention(1e4 * query, attention.keys(values), values, mask)
    torch.testing.assert_close(sharp[0, 0], values[0, best])
    flat, weights = attention(0 * query, attention.keys(values), values, mask)
    torch.testing.assert_close(flat[0, 0], values[0].mean(0))
    torch.testing.assert_close(weights, torch.full((1, 1, 7), 1 / 7))


def test_without_attention_gradients_reach_the_first_word_by_the_longest_way() -> None:
    """Berkeley CS182, Duke (Bahng): attention is a short cut of one step to every word."""
    encoder = RecurrentStack(4, 8, cell="elman")
    slopes = {}
    for attention in (LastState(8, 8), GeneralAttention(8, 8)):
        words = torch.randn(1, 60, 4, requires_grad=True)
        values, _ = encoder(words)
        mask = torch.ones(1, 60).bool()
        context, _ = attention(torch.randn(1, 1, 8), attention.keys(values), values, mask)
        context.sum().backward()
        slopes[type(attention)] = words.grad[0, 0].norm().item()
    assert slopes[LastState] < 1e-6 < 1e-4 < slopes[GeneralAttention]

"""WaveNet: the formula of the paper step by step, causal, stepwise the same, decoded, learning."""

from functools import partial
from typing import Any

import pytest
import torch
from copy_task import loss_after_copying
from torch import Tensor

from trellis.networks.sequence import WaveNet
from trellis.sequence.decoding import greedy_search, language_model

small = partial(WaveNet, 9, channels=4, skip_channels=6, num_layers=3, num_stacks=2)


def tokens(length: int) -> Tensor:
    return torch.randint(9, (3, length), generator=torch.Generator().manual_seed(0))


def naive_logits(network: WaveNet, text: Tensor, kernel_size: int) -> Tensor:
    """Of one sequence: the paper's equation at each step, with zeros before the beginning."""
    channels = network.embedding.embedding_dim
    x = [network.embedding.weight[token] for token in text]
    skipped: Any = [0.0] * len(x)
    for number, layer in enumerate(network.layers):
        dilation = 2 ** (number % 3)
        v = layer.convolution.direction
        length = torch.stack([filters.norm() for filters in v])
        weight = v * (layer.convolution.length / length)[:, None, None]
        z = []
        for t in range(len(x)):
            total = layer.convolution.bias
            for lag in range(kernel_size):
                if t - lag * dilation >= 0:
                    total = total + weight[:, :, kernel_size - 1 - lag] @ x[t - lag * dilation]
            z.append(torch.tanh(total[:channels]) * torch.sigmoid(total[channels:]))
        for t in range(len(x)):
            skipped[t] = skipped[t] + layer.skip.weight[:, :, 0] @ z[t] + layer.skip.bias
            if layer.residual is not None:
                x[t] = x[t] + layer.residual.weight[:, :, 0] @ z[t] + layer.residual.bias
    first, second = network.output[2], network.output[4]
    return torch.stack(
        [second(torch.relu(first(torch.relu(each)))) for each in skipped]
    )  # fmt: skip


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_it_is_the_equation_of_the_paper(kernel_size: int) -> None:
    torch.manual_seed(0)
    network, text = small(kernel_size=kernel_size).double(), tokens(20)
    for layer in network.layers:
        layer.convolution.length.data.mul_(1.5)
    logits, _ = network(text)
    torch.testing.assert_close(logits[1], naive_logits(network, text[1], kernel_size))


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_an_output_depends_on_its_receptive_field_and_no_other_token(kernel_size: int) -> None:
    torch.manual_seed(0)
    network = small(kernel_size=kernel_size).double()
    length, t = network.receptive_field + 10, network.receptive_field + 4
    x = network.embedding(tokens(length)[:1]).detach().requires_grad_()
    network.embedding.forward = lambda _: x  # type: ignore[method-assign]
    network(tokens(length)[:1])[0][0, t].sum().backward()
    seen = x.grad[0].abs().sum(1).nonzero().flatten().tolist()  # type: ignore[index]
    assert seen == list(range(t - network.receptive_field + 1, t + 1))


def test_token_by_token_with_its_state_it_is_the_whole() -> None:
    torch.manual_seed(0)
    network, text = small().double(), tokens(30)
    state, logits = None, []
    for piece in text.split([1] * 10 + [7, 13], 1):
        step, state = network(piece, state)
        logits.append(step)
    torch.testing.assert_close(torch.cat(logits, 1), network(text)[0])


def test_the_library_decodes_it() -> None:
    torch.manual_seed(0)
    network, prompt = small().eval(), tokens(5)
    for parameter in network.parameters():
        parameter.data.mul_(2)
    new = greedy_search(language_model(network), prompt, eos_id=None, max_new_tokens=8).best()
    for row, continued in zip(prompt, new, strict=True):
        logits, _ = network(torch.cat([row, torch.tensor(continued)])[None])
        assert logits[0, 4:-1].argmax(-1).tolist() == continued


def test_every_parameter_learns() -> None:
    network = small()
    network(tokens(20))[0].square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name


def test_it_copies_what_stood_three_tokens_before_and_a_short_one_cannot() -> None:
    network = partial(WaveNet, 4, channels=16, skip_channels=24, num_stacks=1)
    assert loss_after_copying(partial(network, num_layers=2)) < 0.4  # sees 4 tokens
    assert loss_after_copying(partial(network, num_layers=1)) > 1.3  # 2 of them


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels=0: give at least 1"),
        ({"skip_channels": 0}, "skip_channels=0: give at least 1"),
        ({"num_layers": 0}, "num_layers=0: give at least 1"),
        ({"num_stacks": 0}, "num_stacks=0: give at least 1"),
        ({"kernel_size": 0}, "kernel_size=0: give at least 1"),
        ({"dropout": 2.0}, "dropout=2.0"),
    ],
)
def test_sizes_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
    with pytest.raises(ValueError, match="tokens holds id 9"):
        small()(torch.tensor([[9]]))

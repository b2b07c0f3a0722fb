import pytest
import torch
from transform_cases import (
    assert_every_parameter_learns,
    assert_log_det_is_of_the_jacobian,
    assert_one_to_one,
    shaken,
)

from trellis.generative.glow import ActNorm, InvertibleConvolution, glow_step
from trellis.generative.transform import Transform

CASES = {
    "norm": lambda: ActNorm(3).eval(),
    "convolution": lambda: InvertibleConvolution(3),
    "step": lambda: glow_step(3, hidden_channels=4, context_features=2).eval(),
}


@pytest.mark.parametrize("name", CASES)
def test_one_to_one_with_the_jacobian_of_autograd(name: str) -> None:
    torch.manual_seed(0)
    transform: Transform = shaken(CASES[name]())
    x, context = torch.randn(2, 3, 2, 3), torch.randn(2, 2)
    assert_one_to_one(transform, x, context)
    assert_log_det_is_of_the_jacobian(transform, x, context)


@pytest.mark.parametrize("shape", [(64, 3), (16, 3, 4, 5)])
def test_the_first_batch_is_standardised_and_no_other(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm = ActNorm(3)
    x = torch.randn(shape) * 4 + 7
    assert norm.eval()(x)[0].equal(x)
    z = norm.train()(x)[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(z.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(1, unbiased=False), torch.ones(3), atol=1e-4, rtol=0)
    before = norm.shift.clone()
    norm(x + 100)
    assert norm.shift.equal(before)
    assert_one_to_one(norm, x)


def test_a_resumed_norm_is_not_set_again() -> None:
    torch.manual_seed(0)
    first, resumed, fresh = ActNorm(3), ActNorm(3), ActNorm(3)
    fresh.load_state_dict(ActNorm(3).state_dict())
    x = torch.randn(20, 3) * 2
    first(x)
    resumed.load_state_dict(first.state_dict())
    other = torch.randn(20, 3) + 5
    assert resumed.train()(other)[0].equal(first(other)[0])
    # One that was saved before its first batch is still to be set.
    assert fresh.train()(other)[0].mean().abs() < 1e-5


def test_a_channel_that_does_not_vary_keeps_its_scale() -> None:
    norm = ActNorm(2)
    z, log_det = norm(torch.tensor([[5.0, 1.0], [5.0, 3.0]]))
    assert z.tolist() == [[0.0, -1.0], [0.0, 1.0]]
    assert log_det.tolist() == [0.0, 0.0]


def test_a_convolution_begins_as_a_rotation() -> None:
    torch.manual_seed(0)
    transform, x = InvertibleConvolution(4), torch.randn(2, 4, 3, 3)
    z, log_det = transform(x)
    torch.testing.assert_close(z.norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(log_det, torch.zeros(2), atol=1e-5, rtol=0)
    assert not torch.allclose(z, x)


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    step = shaken(glow_step(4, hidden_channels=4, context_features=2), 0.05)
    z, log_det = step(torch.randn(4, 4, 3, 3), torch.randn(4, 2))
    assert_every_parameter_learns(step, (z.square().sum((1, 2, 3)) - log_det).mean())


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="channels=0: give at least 1"):
        ActNorm(0)
    with pytest.raises(ValueError, match="channels=1: give at least 2, one to condition on"):
        glow_step(1)

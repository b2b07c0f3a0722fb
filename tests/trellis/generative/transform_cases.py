"""What every transform must satisfy, checked against autograd."""

import torch
from torch import Tensor, nn

from trellis.generative.transform import Transform


def shaken(transform: Transform, scale: float = 0.2) -> Transform:
    """The transform away from its initial weights, which may make it the identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return transform


def assert_one_to_one(transform: Transform, x: Tensor, context: Tensor | None = None) -> None:
    """The inverse inverts in float32, with log-determinants that cancel."""
    assert x.dtype == torch.float32
    z, log_det = transform(x, context)
    back, log_det_back = transform.inverse(z, context)
    assert back.shape == x.shape
    assert log_det.shape == log_det_back.shape == (len(x),)
    torch.testing.assert_close(back, x, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_det_back, -log_det, atol=1e-4, rtol=1e-4)


def assert_log_det_is_of_the_jacobian(
    transform: Transform, x: Tensor, context: Tensor | None = None
) -> None:
    """Forward log-determinant, one example at a time, by autograd in float64."""
    transform, x = transform.double(), x.double()
    context = None if context is None else context.double()
    _, log_det = transform(x, context)
    for number, example in enumerate(x):
        some = None if context is None else context[number : number + 1]

        def alone(example: Tensor, some: Tensor | None = some) -> Tensor:
            return transform(example[None], some)[0].flatten()

        jacobian = torch.autograd.functional.jacobian(alone, example).flatten(1)
        torch.testing.assert_close(
            log_det[number], torch.linalg.slogdet(jacobian).logabsdet, atol=1e-6, rtol=1e-6
        )


def assert_every_parameter_learns(module: nn.Module, loss: Tensor) -> None:
    """Some entry of each parameter has a gradient, and all are finite."""
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name

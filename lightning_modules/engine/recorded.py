"""Functions of one tensor whose operations are recorded once and repeated without their Python."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trellis.torch_private import tracing_errors


class Recorded:
    """A function whose tensor operations are recorded, for many calls on small inputs.

    The Python of a small policy takes longer than its arithmetic, and what ``torch.compile`` asks
    before each call takes longer still. This records the operations with ``torch.compile``'s own
    tracer and repeats them as they are: equal to the last bit, random numbers included. Whether
    they still are those of the function is asked only in the first call after ``renew``. Before
    that, and after ``stop``, the function is called as it is.

    What cannot be recorded whole is called as it is, and so is the function with further arguments
    or an input of another shape or type.

    Args:
        function: from a tensor to a tensor. Between two calls of ``renew`` nothing that it does
            may depend on anything but its input and the values of tensors that it always uses.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._asked: Callable[[Tensor], Tensor] | None = torch.compile(
            function, backend=self._keep, fullgraph=True, dynamic=False
        )
        self._operations: Callable[..., tuple[Any, ...]] | None = None
        self._last: Any = None  # operations, inputs and outputs of the last call that asked
        self._kind: tuple[Any, ...] = ()
        self._stopped = True

    def renew(self) -> None:
        """Ask in the next call whether the operations still are those of the function."""
        self._operations, self._stopped = None, False

    def stop(self) -> None:
        """From now on call the function."""
        self._stopped = True

    def __call__(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        """What the function returns."""
        if args or options or self._stopped or self._asked is None:
            return self._function(x, *args, **options)
        if self._operations is None:
            return self._record(x)
        if (x.shape, x.dtype, torch.is_grad_enabled()) != self._kind:
            return self._function(x)
        self._inputs[self._input] = x
        return self._operations(*self._inputs)[self._output]

    def _keep(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        """The backend of ``torch.compile``: calls the operations, and keeps the last call."""
        operations = graph.forward

        def call(*inputs: Any) -> tuple[Any, ...]:
            outputs = operations(*inputs)
            self._last = operations, inputs, outputs
            return outputs

        return call

    def _record(self, x: Tensor) -> Tensor:
        assert self._asked is not None
        self._last = None
        try:
            y = self._asked(x)
        except tracing_errors():
            self._asked = None
            return self._function(x)
        if self._last is not None:
            operations, inputs, outputs = self._last
            places = [place for place, each in enumerate(inputs) if each is x]
            results = [place for place, each in enumerate(outputs) if each is y]
            if len(places) == 1 and results:
                self._operations, self._inputs = operations, list(inputs)
                [self._input], self._output = places, results[0]
                self._kind = (x.shape, x.dtype, torch.is_grad_enabled())
        return y

"""Recorded operations are those of the function, until it may have changed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trellis.lightning_modules.engine.recorded import Recorded
from trellis.networks.rl.policy import SquashedGaussianPolicy
from trellis.networks.rl.value import ActorCriticNetwork, QNetwork


def greedy() -> tuple[nn.Module, Callable[[Tensor], Tensor], tuple[int, ...]]:
    network = QNetwork((4,), 3)
    return network, lambda x: network(x).argmax(-1), (2, 4)


def categorical() -> tuple[nn.Module, Callable[[Tensor], Tensor], tuple[int, ...]]:
    network = ActorCriticNetwork((4,), 3)
    return network, lambda x: network.policy(x).sample(), (5, 4)


def squashed() -> tuple[nn.Module, Callable[[Tensor], Tensor], tuple[int, ...]]:
    network = SquashedGaussianPolicy((3,), (-2.0, 0.0), (2.0, 1.0))
    return network, lambda x: network(x).sample(), (1, 3)


@pytest.mark.parametrize("make", [greedy, categorical, squashed])
def test_repeats_are_equal_to_the_last_bit(make) -> None:
    network, function, shape = make()
    recorded = Recorded(function)
    recorded.renew()
    inputs = torch.randn(20, *shape)
    with torch.inference_mode():
        for _ in range(2):
            torch.manual_seed(3)
            expected = [function(x) for x in inputs]
            torch.manual_seed(3)
            assert all(torch.equal(recorded(x), y) for x, y in zip(inputs, expected, strict=True))
            for parameter in network.parameters():  # as an optimiser does
                parameter.add_(torch.randn_like(parameter))
    assert recorded._operations is not None


def test_a_change_is_seen_after_renew() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.9))
    recorded, x = Recorded(network), torch.ones(4, 3)
    recorded.renew()
    with torch.no_grad():
        assert (recorded(x) == 0).any()
        network.eval()
        recorded.renew()
        assert torch.equal(recorded(x), network(x))
        network[0] = nn.Linear(3, 3)
        recorded.renew()
        assert torch.equal(recorded(x), network(x))


def test_nothing_is_recorded_before_renew_and_after_stop() -> None:
    network, x = nn.Dropout(0.5), torch.ones(100)
    recorded = Recorded(network)
    assert recorded._operations is None
    recorded.renew()
    assert (recorded(x) == 0).any()
    recorded.stop()
    network.eval()
    assert torch.equal(recorded(x), x)


def test_other_inputs_go_to_the_function() -> None:
    def scaled(x: Tensor, factor: float = 2.0) -> Tensor:
        return x * factor + len(x)

    recorded = Recorded(scaled)
    recorded.renew()
    assert torch.equal(recorded(torch.ones(2)), torch.full((2,), 4.0))
    assert torch.equal(recorded(torch.ones(3)), torch.full((3,), 5.0))
    assert recorded(torch.ones(2, dtype=torch.double)).dtype == torch.double
    assert torch.equal(recorded(torch.ones(2), factor=3.0), torch.full((2,), 5.0))
    assert torch.equal(recorded(torch.zeros(2)), torch.full((2,), 2.0))


def test_what_reads_values_is_called_as_it_is() -> None:
    def halting(x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x

    recorded = Recorded(halting)
    recorded.renew()
    for sign in (1, -1, 1):
        assert torch.equal(recorded(sign * torch.ones(2)), torch.ones(2))


def test_what_the_tracer_may_not_enter_is_called_each_time() -> None:
    calls = []
    note = torch.compiler.disable(calls.append)

    def noting(x: Tensor) -> Tensor:
        note(len(x))
        return x.sin()

    recorded = Recorded(noting)
    recorded.renew()
    for _ in range(3):
        assert torch.equal(recorded(torch.ones(2)), torch.ones(2).sin())
    assert calls == [2, 2, 2]


def test_errors_of_the_function_are_its_own() -> None:
    recorded = Recorded(nn.Linear(3, 2))
    recorded.renew()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        recorded(torch.ones(2, 5))


def test_a_function_that_always_changes_is_called_as_it_is_in_the_end() -> None:
    """Beyond torch's limit of graphs for one function, as with a schedule in plain Python."""

    class Schedule:
        step = 0

        def __call__(self, x: Tensor) -> Tensor:
            return x + self.step

    schedule = Schedule()
    recorded = Recorded(schedule.__call__)
    for step in range(20):
        schedule.step = step
        recorded.renew()
        for _ in range(2):
            assert torch.equal(recorded(torch.zeros(2)), torch.full((2,), float(step)))

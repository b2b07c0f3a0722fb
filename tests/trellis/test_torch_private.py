"""torch's private functions over many tensors still do what their names say."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from trellis.torch_private import (
    begin_as_root,
    copy_,
    is_transformed,
    lerp_,
    numbers_from_zero,
    scale_,
    scan,
    total_norm,
    trace_gradients,
    tracing_errors,
)

CHANGED = "torch changed a private function that trellis.torch_private uses: "


def tensors(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in ((3, 2), (5,), ())]


def test_total_norm_is_that_of_one_long_vector() -> None:
    parts = tensors(0)
    expected = torch.cat([part.flatten() for part in parts]).square().sum().sqrt()
    torch.testing.assert_close(total_norm(parts), expected, msg=f"{CHANGED}_foreach_norm")


def test_scale_multiplies_in_place() -> None:
    parts, expected = tensors(0), [part * 0.3 for part in tensors(0)]
    scale_(parts, torch.tensor(0.3))
    torch.testing.assert_close(parts, expected, msg=f"{CHANGED}_foreach_mul_")


def test_copy_and_lerp_move_the_first_towards_the_second() -> None:
    targets, sources = tensors(0), tensors(1)
    lerp_(targets, sources, 0.25)
    expected = [0.75 * a + 0.25 * b for a, b in zip(tensors(0), sources, strict=True)]
    torch.testing.assert_close(targets, expected, msg=f"{CHANGED}_foreach_lerp_")
    copy_(targets, sources)
    torch.testing.assert_close(targets, sources, msg=f"{CHANGED}_foreach_copy_")


def test_gradients_are_part_of_a_graph() -> None:
    def gradient(weight: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(weight.square().sum(), weight)[0]

    trace_gradients()
    weight = torch.randn(3, requires_grad=True)
    compiled = torch.compile(gradient, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(weight), 2 * weight.detach(), msg=f"{CHANGED}config")


def test_a_part_that_is_called_first_does_not_take_itself_for_the_root() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        x = torch.ones(1, 2)
        expected = network(x), network[0](x)
        fully_shard(network[0], mesh=mesh)
        fully_shard(network, mesh=mesh)
        begin_as_root(network)
        part = network[0](x)
        whole = network(x)  # else: the state has already been lazily initialized
        torch.testing.assert_close((whole, part), expected)
    finally:
        dist.destroy_process_group()


def test_scan_is_a_loop_of_any_length() -> None:
    class Sums(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            def step(total, each):
                return total + each, total + each

            return scan(step, x.new_zeros(2), x, backwards=True)

    x = torch.arange(6.0).view(3, 2)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(Sums(), (x,), dynamic_shapes=shapes).module()
    longer = torch.arange(10.0).view(5, 2)
    for rows in (x, longer):
        end, sums = program(rows)
        expected = rows.flip(0).cumsum(0).flip(0)
        torch.testing.assert_close(sums, expected, msg=f"{CHANGED}scan")
        torch.testing.assert_close(end, rows.sum(0), msg=f"{CHANGED}scan")


def test_a_transformation_is_seen_while_it_runs() -> None:
    seen = []
    torch.func.vmap(lambda x: seen.append(is_transformed()) or x)(torch.ones(2))
    assert seen == [True]
    assert not is_transformed()


def test_a_traced_program_takes_the_number_one() -> None:
    class Zeros(torch.nn.Module):
        def forward(self, x: torch.Tensor, count: int) -> torch.Tensor:
            return torch.nn.functional.linear(x.new_zeros(count, 2), x)

    shapes = ({0: torch.export.Dim.DYNAMIC}, torch.export.Dim.DYNAMIC)
    with numbers_from_zero():
        program = torch.export.export(Zeros(), (torch.ones(3, 2), 4), dynamic_shapes=shapes)
    for count in (5, 1):
        found = program.module()(torch.ones(3, 2), count)
        torch.testing.assert_close(found, torch.zeros(count, 3), msg=f"{CHANGED}_config")


def test_what_cannot_be_traced_raises_one_of_these_errors() -> None:
    def reads(x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x

    with pytest.raises(tracing_errors()):
        torch.compile(reads, backend="eager", fullgraph=True)(torch.ones(2))


def test_too_many_graphs_raise_one_of_these_errors() -> None:
    def power(x: torch.Tensor, number: int) -> torch.Tensor:
        return x**number

    compiled = torch.compile(power, backend="eager", fullgraph=True, dynamic=False)
    with pytest.raises(tracing_errors()):
        [compiled(torch.ones(2), number) for number in range(100)]

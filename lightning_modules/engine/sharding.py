"""Networks too large for one device: each process holds a part of the weights (FSDP2)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import (
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from trellis.lightning_modules.engine.compiling import networks
from trellis.lightning_modules.engine.lightning_private import (
    bare_optimizer,
    one_group_of_all_processes,
)
from trellis.torch_private import begin_as_root

PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "64-true")


class FullySharded(ModelParallelStrategy):
    """Weights, gradients and optimiser states in parts, one for each process: FSDP2.

    ``--trainer.strategy sharded``. A block of the network, such as a layer of a transformer, is
    whole only while it computes; see ``shard``. Everything else is as with ``ddp``: each process
    has its share of the data, and a checkpoint is one file with whole weights, like that of one
    process. It is put together in the memory of the first process.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        one_group_of_all_processes(self)
        super().setup_environment()

    def on_validation_end(self) -> None:
        # An evaluation leaves what is outside of the blocks whole; callbacks look for the parts.
        assert self.lightning_module is not None
        for network in networks(self.lightning_module):
            if isinstance(network, FSDPModule):
                network.reshard()

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        load_whole(self.lightning_module, checkpoint["state_dict"], strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, whole in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(_in_parts(whole, optimizer))

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole weights in the first process, nothing in the others; all have to call this."""
        assert self.lightning_module is not None
        return self._whole(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Whole states in the first process, nothing in the others; all have to call this."""
        return self._whole(bare_optimizer(optimizer).state_dict())

    def _whole(self, state: Any) -> Any:
        """``state`` with its shards put together, one by one, on the CPU of the first process."""
        if isinstance(state, DTensor):
            sharded: Any = state.detach()  # DTensor has more methods than torch types
            tensor = sharded.full_tensor()
            return tensor.cpu() if self.is_global_zero else None
        if isinstance(state, dict):
            return {key: self._whole(value) for key, value in state.items()}
        return [self._whole(value) for value in state] if isinstance(state, list) else state


StrategyRegistry.register("sharded", FullySharded, description=FullySharded.__doc__ or "")


def check_shardable(trainer: L.Trainer, objective: Any) -> None:
    """Refuse before the start what cannot be trained in parts.

    Raises:
        ValueError: the objective cannot, a callback copies or changes weights, the precision is
            not one of ``PRECISIONS``, or the strategy is another one that shards.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, (ModelParallelStrategy, FSDPStrategy)):
        return
    if not isinstance(strategy, FullySharded):
        raise ValueError(
            f"{type(strategy).__name__} writes checkpoints that trellis does not read: shard with "
            f"--trainer.strategy sharded"
        )
    name = type(objective).__name__
    reason = objective.why_not_sharded()
    if not objective.automatic_optimization:
        reason = "makes its own steps, with networks that are copied or called in turns"
    if reason is not None:
        raise ValueError(f"strategy=sharded: {name} {reason}; train with --trainer.strategy ddp")
    if trainer.precision not in PRECISIONS:
        raise ValueError(
            f"precision={trainer.precision}: strategy=sharded trains in {', '.join(PRECISIONS)}"
        )
    kinds = (ModelPruning, StochasticWeightAveraging, WeightAveraging)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, kinds):
            raise ValueError(
                f"strategy=sharded: {type(callback).__name__} works on whole weights, of which "
                f"each process has a part; leave it out, or train with --trainer.strategy ddp"
            )


def shard(objective: L.LightningModule) -> None:
    """Divide the networks of an objective among the processes, if its trainer shards; once.

    A network declares the classes of its blocks in ``block_classes``, and so may a part of it: all
    blocks of these classes, and what remains, become units whose weights are gathered together.
    All public methods of a block can be called in training; of the network itself only
    ``forward``, and all within ``gathered``. The weights are those of the first process.

    Args:
        objective: its ``device_mesh`` says whether and how to shard.
    Raises:
        ValueError: a network without ``block_classes``, or weights that belong to no network.
    """
    mesh = objective.device_mesh
    if mesh is None:
        return
    for network in networks(objective):
        if isinstance(network, FSDPModule):
            network.reshard()  # an evaluation leaves what is outside of the blocks whole
        elif any(True for _ in network.parameters()):
            shard_network(network, mesh["data_parallel"])
    for name, parameter in objective.named_parameters():
        if not isinstance(parameter, DTensor):
            raise ValueError(f"strategy=sharded: {name} belongs to no network of the objective")


def shard_network(network: nn.Module, mesh: DeviceMesh) -> None:
    """Divide one network over the processes of a one-dimensional mesh; see ``shard``."""
    blocks = block_modules(network)
    if not blocks:
        raise ValueError(
            f"strategy=sharded: {type(network).__name__} declares no block_classes, the classes "
            f"of its layers: train it with --trainer.strategy ddp"
        )
    for tensor in (*network.parameters(), *network.buffers()):
        value = tensor.detach().to(mesh.device_type)
        dist.broadcast(value, src=0)
        tensor.detach().copy_(value)
    for block in blocks:
        names = [name for name in dir(type(block)) if _is_own_method(type(block), name)]
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
        for name in names:
            register_fsdp_forward_method(block, name)
    # What is outside of the blocks is used at both ends of the network.
    fully_shard(network, mesh=mesh, reshard_after_forward=False)


def block_modules(network: nn.Module) -> list[nn.Module]:
    """Blocks of the classes that ``network`` and its parts declare, inner ones first."""
    classes = tuple(
        each for part in network.modules() for each in getattr(part, "block_classes", ())
    )
    found = [part for part in network.modules() if part is not network]
    return [part for part in reversed(found) if isinstance(part, classes)]


def _is_own_method(kind: type, name: str) -> bool:
    own = not name.startswith("_") and not hasattr(nn.Module, name)
    return own and callable(getattr(kind, name))


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Whole weights in each process, for calls that not all processes make alike.

    Within it nothing waits for another process: one may generate a longer text than another, or
    draw a picture alone. All have to enter it. Where nothing is sharded it does nothing.
    """
    if any(isinstance(parameter, DTensor) for parameter in module.parameters()):
        found = [module] if isinstance(module, FSDPModule) else networks(module)
    else:  # also within another ``gathered``
        found = []
    units: list[tuple[Any, list[Any]]] = [
        (root, block_modules(root)) for root in found if isinstance(root, FSDPModule)
    ]
    for root, blocks in units:
        begin_as_root(root)
        for block in blocks:
            block.set_reshard_after_forward(False, recurse=False)
        for unit in (*blocks, root):
            unit.unshard()
    try:
        yield
    finally:
        for root, blocks in units:
            for block in blocks:
                block.set_reshard_after_forward(True, recurse=False)
            for unit in (*blocks, root):
                unit.reshard()


def load_whole(module: nn.Module, weights: Mapping[str, Tensor], strict: bool = True) -> None:
    """``module.load_state_dict`` for whole weights, of which a sharded module takes its part.

    Raises:
        RuntimeError: they do not fit, as torch says.
    """
    own = module.state_dict()
    parts = {
        name: part_of(value, own[name]) if name in own else value
        for name, value in weights.items()
    }
    module.load_state_dict(parts, strict=strict)


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """The part of ``whole`` that this process holds of ``like``; all where that is not sharded."""
    if not isinstance(like, DTensor) or whole.shape != like.shape:
        return whole
    mesh = like.device_mesh
    whole = whole.to(mesh.device_type)
    return distribute_tensor(whole, mesh, like.placements, src_data_rank=None)


def local(tensor: Tensor) -> Tensor:
    """The numbers that this process holds of ``tensor``."""
    sharded: Any = tensor
    return sharded.to_local() if isinstance(tensor, DTensor) else tensor


def all_finite(tensor: Tensor) -> bool:
    """Whether no entry is NaN or infinite, in any process: all have to ask."""
    bad = (~torch.isfinite(local(tensor))).sum()
    if isinstance(tensor, DTensor):
        dist.all_reduce(bad, group=tensor.device_mesh.get_group())
    return not bad


def total_of_parts(trainer: L.Trainer, number: float) -> float:
    """Sum of what the processes found in their parts; ``number`` where nothing is sharded."""
    if not isinstance(trainer.strategy, ModelParallelStrategy):
        return number
    total = torch.tensor(number, device=trainer.strategy.root_device)
    return float(trainer.strategy.reduce(total, reduce_op="sum"))


def as_part(own: Tensor, like: Tensor) -> Tensor:
    """A tensor like ``like``, of which this process holds ``own``."""
    if not isinstance(like, DTensor):
        return own.to(like, copy=True)
    return DTensor.from_local(
        own.to(local(like), copy=True),
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )


def _in_parts(whole: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """The state of an optimiser, with this process's part of each tensor."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {
        number: {
            name: part_of(value, parameters[number]) if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        for number, values in whole["state"].items()
    }
    return {**whole, "state": state}

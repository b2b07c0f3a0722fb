"""The processes of a run, where there are several."""

from typing import Any, TypeVar

import torch.distributed as dist

Own = TypeVar("Own")


def rank_and_world() -> tuple[int, int]:
    """Number of this process, and of all processes.

    >>> rank_and_world()
    (0, 1)
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def of_all_processes(own: Own) -> list[Own]:
    """``own`` of each process, by rank: all of them call it, and all receive it.

    >>> of_all_processes("mine")
    ['mine']
    """
    _, world = rank_and_world()
    if world == 1:
        return [own]
    gathered: list[Any] = [None] * world
    dist.all_gather_object(gathered, own)
    return gathered

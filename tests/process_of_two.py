"""One of two processes that take every config, or a short run of every objective.

Usage: RANK=0 python process_of_two.py {configs,objectives} FOLDER (with torchrun's variables)
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

sys.path.insert(0, str(Path(__file__).parent / "datamodules" / "image"))
sys.path.insert(0, str(Path(__file__).parent / "lightning_modules"))
sys.path.insert(0, str(Path(__file__).parent))
from config_cases import CONFIGS, anew, fit, parsed
from every_objective import OBJECTIVES, short_run

TWO = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]


def of_config(path: Path, folder: Path) -> dict[str, Any]:
    """Metrics, and which weights differ after a resume or between the processes."""
    cli = parsed(path, folder, *TWO, "--trainer.limit_val_batches=2")
    (metrics,) = cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    fit(anew(cli), stop=2)
    last = cli.trainer.checkpoint_callback.last_model_path
    last = cli.trainer.strategy.broadcast(last)
    straight = fit(anew(cli), stop=4)
    resumed = fit(anew(cli), stop=4, ckpt_path=last)
    differ = [k for k, v in resumed.items() if not torch.equal(straight[k], v)]
    apart = differing(cli.model)
    return {"metrics": metrics, "differ_after_resume": differ, "differ_between_processes": apart}


def of_objective(name: str, folder: Path) -> str:
    """Whether both end with the same weights."""
    fitted = short_run(name, folder, devices=2, strategy="ddp", enable_checkpointing=False)
    if fitted.error is not None:
        return str(fitted.error)
    apart = differing(fitted.objective)
    return f"{apart[0]} differs between the processes" if apart else "ok"


def differing(module: nn.Module) -> list[str]:
    """Weights that are not the same in both processes."""
    # Running statistics are of each process's own data until an evaluation takes the first one's.
    weights = {k: v.detach() for k, v in module.named_parameters() if v.requires_grad}
    both: list[Any] = [None, None]
    dist.all_gather_object(both, weights)
    return [k for k in weights if not torch.equal(both[0][k], both[1][k])]


def cases(what: str, folder: Path) -> dict[str, Callable[[], Any]]:
    if what == "objectives":
        return {name: partial(of_objective, name, folder / name) for name in OBJECTIVES}
    paths = {f"{path.parent.name}/{path.name}": path for path in CONFIGS}
    return {name: partial(of_config, path, folder / path.stem) for name, path in paths.items()}


def main() -> None:
    torch.set_num_threads(1)
    what, folder, found = sys.argv[1], Path(sys.argv[2]), {}
    dist.init_process_group("gloo", timeout=timedelta(minutes=10))
    for name, case in cases(what, folder).items():
        try:
            found[name] = case()
        except Exception:
            found[name] = {"error": traceback.format_exc()}
        if os.environ["RANK"] == "0":
            (folder / "found.json").write_text(json.dumps(found))
        dist.barrier()


if __name__ == "__main__":
    main()

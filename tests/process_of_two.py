"""One of two processes that take every config: metrics, weights, an interrupted run.

Usage: RANK=0 python process_of_two.py FOLDER (with the variables that torchrun sets)
"""

import json
import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))
from config_cases import CONFIGS, anew, fit, parsed

TWO = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]


def tried(path: Path, folder: Path) -> dict[str, Any]:
    cli = parsed(path, folder, *TWO, "--trainer.limit_val_batches=2")
    (metrics,) = cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    fit(anew(cli), stop=2)
    last = cli.trainer.checkpoint_callback.last_model_path
    last = cli.trainer.strategy.broadcast(last)
    straight = fit(anew(cli), stop=4)
    resumed = fit(anew(cli), stop=4, ckpt_path=last)
    differ = [k for k, v in resumed.items() if not torch.equal(straight[k], v)]
    # Running statistics are of each process's own data until an evaluation takes the first one's.
    weights = {k: v for k, v in cli.model.named_parameters() if v.requires_grad}
    both: list[Any] = [None, None]
    dist.all_gather_object(both, {k: v.detach() for k, v in weights.items()})
    apart = [k for k in weights if not torch.equal(both[0][k], both[1][k])]
    return {"metrics": metrics, "differ_after_resume": differ, "differ_between_processes": apart}


def main() -> None:
    torch.set_num_threads(1)
    folder, found = Path(sys.argv[1]), {}
    dist.init_process_group("gloo", timeout=timedelta(minutes=10))
    for path in CONFIGS:
        name = f"{path.parent.name}/{path.name}"
        try:
            found[name] = tried(path, folder / path.stem)
        except Exception:
            found[name] = {"error": traceback.format_exc()}
        if os.environ["RANK"] == "0":
            (folder / "found.json").write_text(json.dumps(found))
        dist.barrier()


if __name__ == "__main__":
    main()

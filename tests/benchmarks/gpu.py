"""``make bench-gpu``: training on one GPU beside plain loops and peers, in one run.

Without a GPU everything runs tiny on the CPU, is marked so, and measures nothing.
"""

import argparse
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from gpu_agents import ppo, sac
from gpu_networks import flow, gcn, gpt, vae
from gpu_runs import Setting
from measurements import REPORTED, machine, table, write_section

from trellis.lightning_modules.commands.run import quieten

# What is most asked for first: what is left when the minutes are over is not run.
PARTS: dict[str, Callable[[Setting], str]] = {
    "gpt-124m": partial(gpt, what="GPT", embed_dim=768, num_layers=12, batch_size=16),
    "gpt-50m": partial(gpt, what="Small GPT", embed_dim=512, num_layers=8, batch_size=32),
    "gcn": gcn,
    "sac": sac,
    "ppo": ppo,
    "flow": flow,
    "vae": vae,
}


def main() -> None:
    """Run the parts that are named, or all, and write the section of the GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--minutes", type=float, default=5.5, help="begin nothing after (5.5)")
    parser.add_argument("--write", metavar="FILE", help="BENCHMARKS.md")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    quieten()
    warnings.filterwarnings("ignore")
    torch.set_float32_matmul_precision("high")
    found = torch.cuda.is_available()
    setting = Setting("cuda" if found else "cpu", tiny=not found)
    start, notes = time.monotonic(), []
    for name in args.parts or PARTS:
        before = time.monotonic()
        if before - start > 60 * args.minutes:
            notes.append(f"{name}: not run, {args.minutes:g} minutes were over.")
            continue
        try:
            note = PARTS[name](setting)
        except Exception as error:  # the other parts are worth their minutes
            traceback.print_exc()
            note = f"{name}: failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        notes += [note] if note else []
        print(f"{name}: {time.monotonic() - before:.0f} s", file=sys.stderr, flush=True)
    text = section(setting, notes, (time.monotonic() - start) / 60)
    print(text)
    if args.write:
        write_section(Path(args.write), "gpu", text)
    if any(": failed: " in note for note in notes):
        sys.exit(1)


def section(setting: Setting, notes: list[str], minutes: float) -> str:
    """What BENCHMARKS.md says about the GPU."""
    if setting.tiny:
        card = "- **no GPU here: sizes are tiny, the numbers only show that every part runs**"
    else:
        card = f"- {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    lines = ["## GPU\n", card, machine(), f"- {minutes:.1f} minutes", "", table(REPORTED), ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes)])


if __name__ == "__main__":
    main()

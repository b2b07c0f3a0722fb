"""A text of 1 GB: seconds to tokenise it and to the first step, and memory that training takes.

    python tests/benchmarks/corpus_scale.py FOLDER [--tokenizer BPETokenizer] [--megabytes 1000]
    python tests/benchmarks/corpus_scale.py FOLDER --pairs --tokenizer BPETokenizer

With ``--pairs``, two texts of half the size that are translated line by line. Writes them and
their tokens (up to 3 GB) into FOLDER, which it empties at the end.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

WORDS = "the of and to in a is that for it as was with be by on not he his but at are this have"

# In a process of its own, as a user's run is: what was read before is not in its memory.
RUN = """
import functools, json, sys, time
start = time.perf_counter()
import lightning as L
import torch
import trellis
from trellis import sequence
from trellis.datamodules.sequence import ParallelCorpus, TextCorpus
from trellis.lightning_modules.sequence import CausalLM, SequenceToSequence
from trellis.networks.sequence import RecurrentSeq2Seq

imported = time.perf_counter()
cache, name, steps, *paths = sys.argv[1:]


def memory():
    lines = open("/proc/self/status").read().splitlines()
    return {k: int(v.split()[0]) // 1024 for k, v in (line.split(":") for line in lines
            if line.startswith(("VmRSS", "VmHWM", "RssFile")))}


class Watch(L.Callback):
    def on_train_start(self, trainer, module):
        self.before = memory()

    def on_train_batch_end(self, trainer, module, outputs, batch, number):
        if number == 0:
            self.first = time.perf_counter()


tokenizer = getattr(sequence, name)
if len(paths) == 1:
    objective = CausalLM()
    data = TextCorpus(*paths, cache_dir=cache, tokenizer=tokenizer, context=64,
                      batch_size=32, held_out=0.01)
else:
    network = functools.partial(RecurrentSeq2Seq, embed_dim=64, hidden_size=64)
    objective = SequenceToSequence(network, max_new_tokens=5)
    data = ParallelCorpus(paths[:2], paths[2:], cache_dir=cache, tokenizer=tokenizer,
                          max_tokens=2048, sample_bytes=1 << 21)
data.prepare_data()
ready = time.perf_counter()
watch = Watch()
trainer = trellis.Trainer(max_epochs=1, accelerator="cpu", logger=False, callbacks=[watch],
                          enable_checkpointing=False, enable_progress_bar=False,
                          limit_train_batches=int(steps), limit_val_batches=2,
                          num_sanity_val_steps=0)
trainer.fit(objective, datamodule=data)
print(json.dumps({
    "import_s": round(imported - start, 1),
    "prepare_s": round(ready - imported, 1),
    "first_step_s": round(watch.first - start, 1),
    "before_MB": watch.before,
    "after_MB": memory(),
    "parameters_MB": sum(p.numel() for p in trainer.model.parameters()) * 4 // 2**20,
    "examples": data.train_dataloader().num_examples,
}))
"""


def write_texts(paths: list[Path], size: int) -> None:
    """Random words, some very frequent, most of them rare, in texts that come again and again.

    All have equally many lines: those of the second text are the words of the first in reverse.
    """
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    rare = ["".join(draw.choices(letters, k=draw.randint(3, 9))) for _ in range(50_000)]
    common = WORDS.split()
    vocabulary, weights = [*common, *rare], [3000.0] * len(common) + [1.0] * len(rare)
    texts = []
    for _ in range(100):
        words = draw.choices(vocabulary, weights, k=20_000)
        lines = (" ".join(words[i : i + 12]) for i in range(0, len(words), 12))
        texts.append("\n".join(lines) + "\n")
    with ExitStack() as stack:
        files = [stack.enter_context(open(path, "w")) for path in paths]
        written = 0
        while written < size:
            text = draw.choice(texts)
            for file, step in zip(files, (1, -1), strict=False):
                lines = (" ".join(line.split()[::step]) for line in text.splitlines())
                written += file.write("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", default="CharTokenizer")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--steps", default="200")
    parser.add_argument("--pairs", action="store_true")
    args = parser.parse_args()
    folder = args.folder / "corpus_scale"
    folder.mkdir(parents=True)
    try:
        paths = [folder / name for name in (("source", "target") if args.pairs else ("text",))]
        write_texts(paths, args.megabytes * 1_000_000)
        if args.pairs:
            paths += [folder / "val_source", folder / "val_target"]
            write_texts(paths[2:], 1)
        command = [sys.executable, "-c", RUN, str(folder), args.tokenizer, args.steps]
        command += map(str, paths)
        for what in ("tokenised now", "tokenised before"):
            start = time.perf_counter()
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            result = json.loads(done.stdout.splitlines()[-1])
            print(what, f"{time.perf_counter() - start:.1f} s", result, flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

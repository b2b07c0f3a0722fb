"""A graph of 1,000,000 nodes: seconds to read it, memory and milliseconds of sampled training.

    python tests/benchmarks/graph_scale.py FOLDER [--nodes 1000000] [--edges 10000000]

Writes its two tables (1 GB) into FOLDER, which it empties at the end. Needs pyarrow.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

FEATURES, CLASSES = 100, 10

# In a process of its own, as a user's run is: what was written before is not in its memory.
RUN = """
import functools, json, statistics, sys, time
import lightning as L
import trellis
from trellis.datamodules.graph import GraphFromFiles, SampledNodes
from trellis.lightning_modules.graph import NodeClassification
from trellis.networks.graph import GraphSAGE


def memory(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(l.split()[1]) // 1024 for l in lines if l.startswith(key))


class Watch(L.Callback):
    seconds, resident = [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, number):
        self.seconds.append(time.perf_counter() - self.last)
        self.last = time.perf_counter()
        if number % 10 == 9:
            self.resident.append(memory("VmRSS"))

    def on_train_start(self, *args):
        self.last = time.perf_counter()


nodes, edges, steps = sys.argv[1:]
start = time.perf_counter()
graph = functools.partial(GraphFromFiles, edges, nodes, undirected=False)
data = SampledNodes(graph, (15, 10), batch_size=1024)
data.prepare_data()
data.setup("fit")
read = time.perf_counter() - start
after = memory("VmRSS")
watch = Watch()
trainer = trellis.Trainer(max_epochs=1, accelerator="cpu", logger=False, callbacks=[watch],
                          enable_checkpointing=False, enable_progress_bar=False,
                          limit_train_batches=int(steps), limit_val_batches=0,
                          enable_model_summary=False)
trainer.fit(NodeClassification(GraphSAGE), datamodule=data)
print(json.dumps({
    "read_s": round(read, 1),
    "ms_a_batch": round(1000 * statistics.median(watch.seconds[5:])),
    "batches": len(watch.seconds),
    "MB_after_reading": after,
    "MB_every_10_batches": watch.resident,
    "MB_at_most": memory("VmHWM"),
}))
"""


def write_tables(folder: Path, nodes: int, edges: int) -> list[Path]:
    """Random tables: half of the edges stay within a class, and features tell a little of it."""
    import pyarrow as pa
    from pyarrow import csv

    generator = np.random.default_rng(0)
    classes = generator.integers(CLASSES, size=nodes)
    x = generator.normal(size=(nodes, FEATURES)).astype(np.float32)
    x[:, :CLASSES] += np.eye(CLASSES, dtype=np.float32)[classes]
    splits = generator.choice(["train", "val", "test"], size=nodes, p=[0.1, 0.1, 0.8])
    columns = {"id": np.arange(nodes), "label": classes, "split": splits}
    columns |= {f"f{number}": column.round(4) for number, column in enumerate(x.T)}
    source = generator.integers(nodes, size=edges)
    target = generator.integers(nodes, size=edges)
    by_class = np.argsort(classes, kind="stable")
    first = np.searchsorted(classes[by_class], np.arange(CLASSES + 1))
    near = generator.random(edges) < 0.5
    span = (first[1:] - first[:-1])[classes[source]]
    drawn = first[classes[source]] + (generator.random(edges) * span).astype(np.int64)
    target = np.where(near, by_class[drawn], target)
    paths = [folder / "nodes.csv", folder / "edges.csv"]
    csv.write_csv(pa.table(columns), paths[0])
    csv.write_csv(pa.table({"source": source, "target": target}), paths[1])
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("--steps", default="98")
    args = parser.parse_args()
    folder = args.folder / "graph_scale"
    folder.mkdir(parents=True)
    try:
        paths = write_tables(folder, args.nodes, args.edges)
        print({path.name: f"{path.stat().st_size / 1e6:,.0f} MB" for path in paths}, flush=True)
        command = [sys.executable, "-c", RUN, *map(str, paths), args.steps]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        print(json.loads(done.stdout.splitlines()[-1]))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""A GCN epoch on Cora through ``Trainer.fit`` beside the loop that PyG's examples show."""

import time
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from measurements import report
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from trellis import Trainer
from trellis.datamodules.graph.planetoid import Planetoid
from trellis.lightning_modules.graph.node_classification import NodeClassification

EPOCHS = 200


class UsualGCN(torch.nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = GCNConv(in_channels, 16), GCNConv(16, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = F.dropout(x, training=self.training)
        x = self.conv1(x, edge_index).relu()
        return self.conv2(F.dropout(x, training=self.training), edge_index)


def usual_loop(data: Data, epochs: int) -> tuple[float, float]:
    """Seconds an epoch and test accuracy at the lowest validation loss."""
    torch.manual_seed(0)
    model = UsualGCN(data.x.size(1), 7)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    best_loss, accuracy = float("inf"), 0.0
    start = time.perf_counter()
    for _ in range(epochs):
        model.train()
        optimizer.zero_grad()
        out = model(data.x, data.edge_index)
        F.cross_entropy(out[data.train_mask], data.y[data.train_mask]).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            out = model(data.x, data.edge_index)
            loss = float(F.cross_entropy(out[data.val_mask], data.y[data.val_mask]))
            hits = out.argmax(-1) == data.y
            if loss < best_loss:
                best_loss, accuracy = loss, float(hits[data.test_mask].float().mean())
    return (time.perf_counter() - start) / epochs, accuracy


@pytest.mark.data
@pytest.mark.slow
def test_gcn_epoch_is_five_times_faster_than_the_usual_loop(
    data_dir: Path, tmp_path: Path
) -> None:
    dense = Planetoid(sparse=False)
    dense.setup()
    usual_loop(dense.data, 5)
    usual, usual_accuracy = usual_loop(dense.data, 50)
    _, usual_accuracy = usual_loop(dense.data, EPOCHS)

    torch.manual_seed(0)
    optimizer = partial(torch.optim.Adam, lr=0.01, weight_decay=5e-4)
    objective = NodeClassification(optimizer=optimizer)
    trainer = Trainer(max_epochs=EPOCHS, log_every_n_steps=1, default_root_dir=tmp_path,
                      enable_model_summary=False)  # fmt: skip
    data = Planetoid()
    start = time.perf_counter()
    trainer.fit(objective, datamodule=data)
    ours = (time.perf_counter() - start) / EPOCHS
    (result,) = trainer.test(objective, datamodule=data, ckpt_path="best", verbose=False)
    print(f"\nms an epoch with evaluation: usual loop {usual * 1e3:.1f}, "
          f"Trainer.fit with logging {ours * 1e3:.1f}, {usual / ours:.1f} times faster; "
          f"accuracy {usual_accuracy:.3f} and {result['test/accuracy']:.3f}")  # fmt: skip
    sides = {"trellis": [ours * 1e3], "PyG's loop": [usual * 1e3]}
    report("GCN on Cora, an epoch with evaluation", "ms", sides)
    assert usual / ours >= 5
    assert abs(result["test/accuracy"] - usual_accuracy) < 0.02

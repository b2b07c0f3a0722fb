"""Skip-gram on walks of a graph: it learns, predicts, repeats, and says what does not fit."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch_geometric.data import Data

import trellis
from trellis.datamodules.graph import NodeWalks
from trellis.datamodules.graph.whole_graph import WholeGraph
from trellis.lightning_modules.sequence import SkipGram
from trellis.networks.sequence import SkipGramEmbedding
from trellis.spec import NodeSpec


class Blocks(WholeGraph):
    """Three communities of 20 nodes with more edges inside than between them; 5 labels each."""

    spec = NodeSpec(1, 3)

    def read(self) -> Data:
        y = torch.arange(60) // 20
        draws = torch.rand(60, 60, generator=torch.Generator().manual_seed(0))
        edges = (draws < torch.where(y[:, None] == y, 0.4, 0.02)).triu(1)
        known = torch.arange(60) % 4 == 0
        masks = {"train_mask": known, "val_mask": ~known, "test_mask": ~known}
        return Data(torch.ones(60, 1), (edges | edges.t()).nonzero().t(), y=y, **masks)


walks = partial(NodeWalks, Blocks, walk_length=10, window=2)
objective = partial(
    SkipGram, partial(SkipGramEmbedding, embed_dim=8), partial(torch.optim.Adam, lr=0.1)
)


def fitted(root: Path, epochs: int = 2, **options: int) -> tuple[L.Trainer, SkipGram, NodeWalks]:
    L.seed_everything(0, verbose=False)
    trainer = quiet_trainer(root, max_epochs=epochs, check_val_every_n_epoch=epochs)
    model, data = objective(), walks(**{"batch_size": 16, **options})
    trainer.fit(model, datamodule=data)
    return trainer, model, data


def test_embeddings_tell_communities_apart(tmp_path: Path) -> None:
    trainer, model, data = fitted(tmp_path, 20, batch_size=30)
    (found,) = trainer.test(model, datamodule=data, verbose=False)
    assert found["test/accuracy"] > 0.9
    embeddings = torch.cat(trainer.predict(model, datamodule=data))
    assert embeddings.shape == (60, 8)
    graph, x = data.graph.data, embeddings.double().numpy()
    train, test = graph.train_mask.numpy(), graph.test_mask.numpy()
    theirs = LogisticRegression(max_iter=1000).fit(x[train], graph.y[train])
    assert found["test/accuracy"] == pytest.approx(theirs.score(x[test], graph.y[test]))
    # Control: where they begin, they know nothing of the graph.
    start = objective(spec=model.spec)
    (before,) = trainer.test(start, datamodule=data, verbose=False)
    assert before["test/accuracy"] < 0.6
    assert found["test/loss"] < 0.8 * before["test/loss"]


def test_two_runs_are_bit_equal_and_a_checkpoint_knows_its_graph(tmp_path: Path) -> None:
    (trainer, one, _), (_, two, _) = fitted(tmp_path / "a"), fitted(tmp_path / "b")
    assert torch.equal(one.network.center.weight, two.network.center.weight)
    loaded = trellis.load(trainer.checkpoint_callback.last_model_path)
    assert torch.equal(loaded.network.context.weight, one.network.context.weight)
    assert loaded.spec.num_tokens == 60


class Scores(nn.Module):
    """A network that has no embeddings."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__()

    def forward(self, center: Tensor, context: Tensor) -> Tensor:
        return context.float()


def test_a_network_without_embeddings_is_refused(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match="which Scores does not have: choose SkipGramEmbedding"):
        trainer.fit(SkipGram(Scores), datamodule=walks())

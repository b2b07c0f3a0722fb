"""Skip-gram on walks of a graph: it learns, predicts, repeats, and says what does not fit."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from sklearn.linear_model import LogisticRegression
from torch import nn

import trellis
from trellis.datamodules.graph import KarateClub, NodeWalks
from trellis.lightning_modules.sequence import SkipGram
from trellis.networks.sequence import SkipGramEmbedding

walks = partial(NodeWalks, KarateClub, walk_length=10, window=2)
objective = partial(
    SkipGram, partial(SkipGramEmbedding, embed_dim=8), partial(torch.optim.Adam, lr=0.03)
)


def fitted(root: Path, epochs: int = 2, **options: int) -> tuple[L.Trainer, SkipGram, NodeWalks]:
    L.seed_everything(0, verbose=False)
    trainer = quiet_trainer(root, max_epochs=epochs, check_val_every_n_epoch=epochs)
    model, data = objective(), walks(**{"batch_size": 16, **options})
    trainer.fit(model, datamodule=data)
    return trainer, model, data


def test_embeddings_tell_the_communities_of_the_karate_club_apart(tmp_path: Path) -> None:
    trainer, model, data = fitted(tmp_path, 20, walks_per_node=2, batch_size=34)
    (found,) = trainer.test(model, datamodule=data, verbose=False)
    assert found["test/accuracy"] > 0.7  # of 30 nodes, from one label in each of four communities
    embeddings = torch.cat(trainer.predict(model, datamodule=data))
    assert embeddings.shape == (34, 8)
    graph, x = data.graph.data, embeddings.double().numpy()
    train, test = graph.train_mask.numpy(), graph.test_mask.numpy()
    theirs = LogisticRegression(max_iter=1000).fit(x[train], graph.y[train])
    assert found["test/accuracy"] == pytest.approx(theirs.score(x[test], graph.y[test]))
    # Control: where they begin, they know nothing of the graph.
    start = objective(spec=model.spec)
    (before,) = trainer.test(start, datamodule=data, verbose=False)
    assert before["test/accuracy"] < 0.5
    assert found["test/loss"] < 0.8 * before["test/loss"]


def test_two_runs_are_bit_equal_and_a_checkpoint_knows_its_graph(tmp_path: Path) -> None:
    (trainer, one, _), (_, two, _) = fitted(tmp_path / "a"), fitted(tmp_path / "b")
    assert torch.equal(one.network.center.weight, two.network.center.weight)
    loaded = trellis.load(trainer.checkpoint_callback.last_model_path)
    assert torch.equal(loaded.network.context.weight, one.network.context.weight)
    assert loaded.spec.num_tokens == 34


def test_a_network_without_embeddings_is_refused(tmp_path: Path) -> None:
    class Scores(nn.Module):
        def __init__(self, num_tokens: int) -> None:
            super().__init__()

        def forward(self, center, context):
            return context.float()

    trainer = quiet_trainer(tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match="which Scores does not have: choose SkipGramEmbedding"):
        trainer.fit(SkipGram(Scores), datamodule=walks())

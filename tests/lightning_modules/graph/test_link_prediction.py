"""Links are told from other pairs: metrics of scikit-learn, and what is learnt."""

from functools import partial
from pathlib import Path

import lightning as L
import networkx as nx
import pytest
import torch
import torch.nn.functional as F
from learning_cases import quiet_trainer
from sklearn.metrics import average_precision_score, roc_auc_score
from torch_geometric.data import Data
from torch_geometric.utils import from_networkx

import trellis
from trellis.datamodules.graph import EdgeSplit
from trellis.datamodules.graph.whole_graph import WholeGraph
from trellis.lightning_modules.engine.evaluation import between_zero_and_one
from trellis.lightning_modules.graph import LinkPrediction
from trellis.lightning_modules.graph.link_metrics import (
    LinkLoss,
    link_metrics,
)
from trellis.networks.graph import GAE, GAT, GCN, VGAE, BilinearDecoder, MLPDecoder, OverlapScore
from trellis.spec import LinkSpec, NodeSpec

adam = partial(torch.optim.Adam, lr=0.02)
encoder = partial(GCN, hidden_channels=16, dropout=0.0)


class Communities(WholeGraph):
    """Four communities of 15 nodes with most edges inside them; features are noise."""

    spec = NodeSpec(8, 4)

    def read(self) -> Data:
        graph = nx.planted_partition_graph(4, 15, 0.5, 0.02, seed=0)
        data = from_networkx(graph)
        data.x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
        return data


def split(**options: object) -> EdgeSplit:
    return EdgeSplit(Communities, 0.1, 0.2, **options)


@pytest.fixture(autouse=True)
def _seed() -> None:
    L.seed_everything(0, verbose=False)


def test_metrics_are_those_of_scikit_learn_in_any_division() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(200, generator=generator) < 0.4).long()
    # Of scores that a sigmoid in float32 would make equal, and of some that are.
    logits = (torch.randn(200, generator=generator) + 0.5 * labels).round(decimals=1) * 10 + 30
    metrics = {"loss": LinkLoss(), **link_metrics([1, 10])}
    for part in torch.arange(200).split(70):
        for name, metric in metrics.items():
            scores = logits if name == "loss" else between_zero_and_one(logits)
            metric.update(scores[part], labels[part])
    found = {name: float(metric.compute()) for name, metric in metrics.items()}
    assert found["auc"] == pytest.approx(roc_auc_score(labels, logits), abs=1e-6)
    assert found["ap"] == pytest.approx(average_precision_score(labels, logits), abs=1e-6)
    losses = [
        -F.logsigmoid(logits[labels == 1].double()).mean(),
        -F.logsigmoid(-logits[labels == 0].double()).mean(),
    ]
    assert found["loss"] == pytest.approx(float(sum(losses) / 2), rel=1e-5)
    others = logits[labels == 0]
    ranks = [
        1 + int((others > s).sum()) + 0.5 * int((others == s).sum()) for s in logits[labels == 1]
    ]
    assert found["mrr"] == pytest.approx(sum(1 / r for r in ranks) / len(ranks), rel=1e-5)
    for k in (1, 10):
        expected = sum(r <= k for r in ranks) / len(ranks)
        assert found[f"hits@{k}"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (partial(GAE, encoder=encoder), {}),
        (partial(GAE, encoder=encoder), {"negatives": "all"}),
        (partial(VGAE, encoder=encoder, decoder=BilinearDecoder), {}),
        (partial(GAE, encoder=partial(GAT, dropout=0.0), decoder=MLPDecoder), {}),
        (OverlapScore, {}),
    ],
)
def test_links_within_communities_are_found(tmp_path: Path, network, options) -> None:
    objective = LinkPrediction(network, adam, **options)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    data = split(featureless=True, steps_per_epoch=80)
    trainer.fit(objective, datamodule=data)
    [tested] = trainer.test(objective, datamodule=data, verbose=False)
    assert tested["test/auc"] > 0.75
    [predicted] = trainer.predict(objective, datamodule=data)
    assert (
        torch.stack((predicted.source, predicted.target)).tolist()
        == torch.cat((data.positives["test"], data.others["test"]), 1).tolist()
    )
    labels = torch.arange(len(predicted.probability)) < data.positives["test"].size(1)
    found = roc_auc_score(labels, predicted.probability.double())
    assert found == pytest.approx(tested["test/auc"], abs=1e-2)  # some are 1 in float32


def test_nothing_is_found_where_links_are_at_random(tmp_path: Path) -> None:
    """The control: were a link of the test to reach the network, it would be found here too."""

    class AtRandom(WholeGraph):
        def read(self) -> Data:
            data = from_networkx(nx.gnm_random_graph(120, 700, seed=0))
            data.x = torch.ones(120, 1)
            return data

    objective = LinkPrediction(partial(GAE, encoder=encoder), adam)
    data = EdgeSplit(AtRandom, 0.1, 0.4, featureless=True, steps_per_epoch=60)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(objective, datamodule=data)
    [tested] = trainer.test(objective, datamodule=data, verbose=False)
    assert 0.42 < tested["test/auc"] < 0.58


def test_two_runs_are_equal_and_a_checkpoint_makes_the_split_again(tmp_path: Path) -> None:
    def run(folder: str) -> tuple[Path, list[torch.Tensor]]:
        L.seed_everything(3, verbose=False)
        objective = LinkPrediction(partial(VGAE, encoder=encoder), adam)
        trainer = quiet_trainer(tmp_path / folder, max_epochs=2)
        trainer.fit(objective, datamodule=split(steps_per_epoch=3))
        return Path(trainer.checkpoint_callback.last_model_path), [*objective.parameters()]

    (path, one), (_, other) = run("a"), run("b")
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    loaded = trellis.load(path)
    assert loaded.spec == LinkSpec(8)
    batch = next(iter(_ready(split()).test_dataloader()))
    assert loaded.predict_step(batch, 0).probability.shape == batch.labels.shape


def _ready(data: EdgeSplit) -> EdgeSplit:
    data.setup()
    return data


def test_the_loss_over_all_pairs_is_the_papers() -> None:
    batch = next(iter(_ready(split()).train_dataloader()))
    objective = LinkPrediction(VGAE, spec=LinkSpec(8), negatives="all", beta=0.5)
    objective.configure_model()
    objective.eval()  # no noise, no dropout
    target = torch.eye(60)
    target[batch.edge_index[0], batch.edge_index[1]] = 1
    scores = objective.network(batch.x, batch.edge_index)
    total = target.sum()
    loss = (
        3600
        / ((3600 - total) * 2)
        * F.binary_cross_entropy_with_logits(
            scores.logits, target, pos_weight=(3600 - total) / total
        )
    )
    expected = loss + 0.5 * scores.kl.mean() / 60
    torch.testing.assert_close(objective.training_step(batch, 0), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": "some"}, "negatives='some': choose from sampled, all"),
        ({"beta": -1.0}, "beta=-1.0: give at least 0"),
        ({"hits_at": [0]}, "hits_at=0: give at least 1"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinkPrediction(**options)

"""What the objectives compute: losses and metrics against definitions over the whole split."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from learning_cases import (
    CASES,
    Lines,
    ManyGraphs,
    Points,
    PooledGCN,
    SmallGraph,
    adam,
    mlp,
    quiet_trainer,
    run,
)
from torch.distributions import Gumbel, Normal
from torch_geometric.data import Batch

from trellis.lightning_modules.engine.evaluation import cross_entropy
from trellis.lightning_modules.graph.graph_classification import GraphClassification
from trellis.lightning_modules.graph.node_classification import NodeClassification
from trellis.lightning_modules.vector.classification import Classification
from trellis.lightning_modules.vector.regression import Regression
from trellis.networks.graph.gnn import GCN
from trellis.spec import TensorSpec


def evaluated(objective, data, root) -> dict[str, float]:
    """Test and validation metrics after an epoch of training; both splits are the same data."""
    trainer = quiet_trainer(root, max_epochs=1)
    trainer.fit(objective, datamodule=data)
    objective.eval()
    [tested] = trainer.test(objective, datamodule=data, verbose=False)
    [validated] = trainer.validate(objective, datamodule=data, verbose=False)
    return {**tested, **validated}


def test_classification_weighs_a_short_last_batch_by_its_examples(tmp_path):
    objective, data = Classification(mlp, adam, label_smoothing=0.3), Points()
    metrics = evaluated(objective, data, tmp_path)
    with torch.no_grad():
        logits = objective(data.x)
    loss = -logits.log_softmax(-1)[torch.arange(37), data.y].mean().item()
    right = (logits.argmax(-1) == data.y).sum().item()
    for split in ("val", "test"):
        assert metrics[f"{split}/loss"] == pytest.approx(loss, rel=1e-5)
        assert metrics[f"{split}/accuracy"] == pytest.approx(right / 37)


def test_classification_trains_on_smoothed_labels():
    objective = Classification(mlp, label_smoothing=0.3, spec=TensorSpec(6, 3))
    objective.configure_model()
    objective.eval()
    data = Points()
    log_p = objective(data.x).log_softmax(-1)
    target = 0.7 * F.one_hot(data.y, 3) + 0.1
    torch.testing.assert_close(
        objective.training_step((data.x, data.y), 0), -(target * log_p).sum(-1).mean()
    )
    with pytest.raises(ValueError, match="label_smoothing=1.5"):
        Classification(mlp, label_smoothing=1.5)


def test_node_classification_counts_only_the_nodes_of_the_split(tmp_path):
    data = SmallGraph()
    objective = NodeClassification(partial(GCN, hidden_channels=8), adam)
    metrics = evaluated(objective, data, tmp_path)
    graph = data.data
    with torch.no_grad():
        logits = objective(graph.x, graph.edge_index)
    for split in ("val", "test"):
        nodes = graph[f"{split}_mask"].nonzero().flatten().tolist()
        losses = [-logits[i].log_softmax(-1)[graph.y[i]].item() for i in nodes]
        right = [logits[i].argmax() == graph.y[i] for i in nodes]
        assert metrics[f"{split}/loss"] == pytest.approx(sum(losses) / len(nodes), rel=1e-5)
        assert metrics[f"{split}/accuracy"] == pytest.approx(sum(right) / len(nodes))
    assert metrics["val/loss"] != metrics["test/loss"]
    nodes = graph.train_mask.nonzero().flatten().tolist()
    losses = [-logits[i].log_softmax(-1)[graph.y[i]] for i in nodes]
    torch.testing.assert_close(objective.training_step(graph, 0), sum(losses) / len(nodes))


def test_graph_classification_weighs_each_graph_alike(tmp_path):
    objective, data = GraphClassification(PooledGCN, adam), ManyGraphs()
    metrics = evaluated(objective, data, tmp_path)
    losses, right = [], 0
    for graph in data.graphs:
        one = torch.zeros(graph.num_nodes, dtype=torch.long)
        with torch.no_grad():
            [logits] = objective(graph.x, graph.edge_index, one)
        losses.append(-logits.log_softmax(-1)[graph.y].item())
        right += int(logits.argmax() == graph.y)
    assert metrics["test/loss"] == pytest.approx(sum(losses) / 22, rel=1e-5)
    assert metrics["test/accuracy"] == pytest.approx(right / 22)


def test_predictions_are_probabilities_of_every_example(tmp_path):
    for name, count in (("classification", 37), ("node", 20), ("graph", 22)):
        fitted = run(CASES[name], tmp_path, max_epochs=1)
        data = CASES[name].data()
        parts = fitted.trainer.predict(fitted.objective, datamodule=data)
        probabilities = torch.cat(parts)
        assert probabilities.shape == (count, fitted.objective.spec.out_channels)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(count))
    batch = Batch.from_data_list(data.graphs)
    logits = fitted.objective.eval()(batch.x, batch.edge_index, batch.batch)
    torch.testing.assert_close(probabilities, logits.exp() / logits.exp().sum(-1, keepdim=True))


EULER = 0.5772156649015329
LIKELIHOODS = {
    "gaussian": (2, lambda p: Normal(p, 1.0), lambda p: (p, torch.ones_like(p))),
    "heteroscedastic": (
        4,
        lambda p: Normal(p[:, :2], p[:, 2:].exp()),
        lambda p: (p[:, :2], p[:, 2:].exp()),
    ),
    "gumbel": (
        4,
        lambda p: Gumbel(p[:, :2], p[:, 2:].exp()),
        lambda p: (
            p[:, :2] + EULER * p[:, 2:].exp(),
            math.pi / math.sqrt(6) * p[:, 2:].exp(),
        ),
    ),
}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_regression(likelihood, tmp_path):
    width, distribution, moments = LIKELIHOODS[likelihood]
    objective, data = Regression(mlp, adam, likelihood=likelihood), Lines()
    metrics = evaluated(objective, data, tmp_path)
    with torch.no_grad():
        parameters = objective(data.x)
    assert parameters.shape == (37, width)
    nll = -distribution(parameters).log_prob(data.y).sum(-1)
    mean, deviation = moments(parameters)
    for split in ("val", "test"):
        assert metrics[f"{split}/nll_nats"] == pytest.approx(nll.mean().item(), rel=1e-5)
        rmse = (mean - data.y).square().mean().sqrt().item()
        assert metrics[f"{split}/rmse"] == pytest.approx(rmse, rel=1e-5)
    torch.testing.assert_close(
        objective.training_step((data.x[:4], data.y[:4]), 0).detach(), nll[:4].mean()
    )
    ours = objective.predict_step((data.x, data.y), 0)
    torch.testing.assert_close(ours[0].detach(), mean)
    torch.testing.assert_close(ours[1].detach(), deviation)
    torch.testing.assert_close(distribution(parameters).mean, mean)
    torch.testing.assert_close(distribution(parameters).stddev.expand_as(mean), deviation)


def test_regression_of_one_target_takes_a_vector():
    objective = Regression(mlp, spec=TensorSpec(6, 1, targets="real"))
    objective.configure_model()
    objective.eval()
    data = Lines()
    y = data.y[:, 0]
    assert torch.equal(
        objective.training_step((data.x, y), 0), objective.training_step((data.x, y[:, None]), 0)
    )
    with pytest.raises(ValueError, match=r"targets \[37, 2\] and parameters \[37, 1\]: give a"):
        objective.training_step((data.x, data.y), 0)


def test_regression_refuses_an_unknown_likelihood():
    with pytest.raises(ValueError, match="likelihood='poisson': choose from gaussian, hetero"):
        Regression(mlp, likelihood="poisson")
    assert Regression.monitor == "val/nll_nats"


def test_cross_entropy_is_torchs():
    generator = torch.Generator().manual_seed(0)
    logits, y = torch.randn(9, 4, generator=generator), torch.arange(9) % 4
    assert torch.equal(
        cross_entropy(logits, y, 0.2), F.cross_entropy(logits, y, label_smoothing=0.2)
    )
    with pytest.raises(ValueError, match=r"integers \[9\], one for each row of the logits"):
        cross_entropy(logits, y[:8])
    with pytest.raises(ValueError, match=r"labels \[9, 1\] of torch.int64 do not fit"):
        cross_entropy(logits, y[:, None])
    with pytest.raises(ValueError, match=r"labels \[9\] of torch.float32 do not fit"):
        cross_entropy(logits, y.float())
    with pytest.raises(ValueError, match=r"labels \[\] of torch.int64 do not fit logits \[4\]"):
        cross_entropy(logits[0], y[0])

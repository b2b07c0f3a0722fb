"""Losses and metrics over what was measured, against torch and scikit-learn."""

import pytest
import torch
import torch.nn.functional as F
from learning_cases import ManyGraphs, PooledGCN
from sklearn.metrics import roc_auc_score
from torch_geometric.data import Batch

from trellis.lightning_modules.graph.graph_classification import GraphClassification
from trellis.lightning_modules.graph.graph_regression import GraphRegression, GraphTasks
from trellis.spec import GraphSpec


def built(kind: type, data: ManyGraphs, **spec):
    torch.manual_seed(0)
    objective = kind(PooledGCN, spec=GraphSpec(4, 2, targets=data.spec.targets, **spec))
    objective.configure_model()
    objective.eval()
    return objective, Batch.from_data_list(data.graphs)


def test_squares_of_what_was_measured_in_standard_units() -> None:
    data = ManyGraphs("real")
    objective, batch = built(
        GraphRegression, data, target_means=(3.0, -1.0), target_scales=(2.0, 5.0)
    )
    known = ~batch.y.isnan()
    wanted = (batch.y - torch.tensor([3.0, -1.0])) / torch.tensor([2.0, 5.0])
    predicted = objective(batch)
    expected = F.mse_loss(predicted[known], wanted[known])
    torch.testing.assert_close(objective.training_step(batch, 0), expected)
    in_unit = predicted * torch.tensor([2.0, 5.0]) + torch.tensor([3.0, -1.0])
    torch.testing.assert_close(objective.predict_step(batch, 0).mean, in_unit)
    metrics = objective.metrics(objective.spec)
    objective.evaluated = lambda stage: metrics
    objective.evaluate(batch, "val")
    left = (in_unit - batch.y)[known]
    torch.testing.assert_close(metrics["rmse"].compute(), left.square().mean().sqrt())
    torch.testing.assert_close(metrics["mae"].compute(), left.abs().mean())


def test_tasks_are_averaged_over_the_answers_that_are_known() -> None:
    data = ManyGraphs("binary")
    for number, graph in enumerate(data.graphs):  # both answers to both tasks
        graph.y[0, 1] = torch.nan if number % 5 == 0 else float(number % 3 == 0)
    objective, batch = built(GraphTasks, data)
    known, logits = ~batch.y.isnan(), objective(batch)
    expected = F.binary_cross_entropy_with_logits(logits[known], batch.y[known])
    torch.testing.assert_close(objective.training_step(batch, 0), expected)
    metrics = objective.metrics(objective.spec)
    objective.evaluated = lambda stage: metrics
    objective.evaluate(batch, "val")
    areas = [
        roc_auc_score(y[mask], score[mask].detach())
        for y, score, mask in zip(batch.y.t(), logits.t(), known.t(), strict=True)
    ]
    assert float(metrics["auc"].compute()) == pytest.approx(sum(areas) / 2)
    torch.testing.assert_close(metrics["loss"].compute(), expected)


@pytest.mark.parametrize(
    ("kind", "targets", "fitting"),
    [
        (GraphRegression, "binary", "GraphTasks"),
        (GraphTasks, "labels", "GraphClassification"),
        (GraphClassification, "real", "GraphRegression"),
    ],
)
def test_other_targets_are_refused_with_the_objective_that_fits(
    kind: type, targets: str, fitting: str
) -> None:
    objective = kind(PooledGCN, spec=GraphSpec(4, 2, targets=targets))
    with pytest.raises(ValueError, match=rf"{kind.__name__} learns .*{targets}: give {fitting}"):
        objective.configure_model()

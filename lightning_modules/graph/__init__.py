"""Objectives for graphs."""

from trellis.lightning_modules.graph.graph_classification import GraphClassification
from trellis.lightning_modules.graph.link_prediction import LinkPrediction
from trellis.lightning_modules.graph.node_classification import NodeClassification
from trellis.lightning_modules.graph.node_regression import NodeRegression

__all__ = ["GraphClassification", "LinkPrediction", "NodeClassification", "NodeRegression"]

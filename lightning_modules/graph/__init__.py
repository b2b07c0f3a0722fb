"""Objectives for graphs."""

from trellis.lightning_modules.graph.graph_classification import GraphClassification
from trellis.lightning_modules.graph.graph_regression import GraphRegression, GraphTasks
from trellis.lightning_modules.graph.knowledge_graph_completion import KnowledgeGraphCompletion
from trellis.lightning_modules.graph.link_prediction import LinkPrediction
from trellis.lightning_modules.graph.node_classification import NodeClassification
from trellis.lightning_modules.graph.node_regression import NodeRegression

__all__ = [
    "GraphClassification",
    "GraphRegression",
    "GraphTasks",
    "KnowledgeGraphCompletion",
    "LinkPrediction",
    "NodeClassification",
    "NodeRegression",
]

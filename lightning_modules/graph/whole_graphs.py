"""What the objectives of whole graphs share."""

from torch import Tensor, nn
from torch_geometric.data import Batch

from trellis.lightning_modules.graph.edge_inputs import given_edges
from trellis.signature import reads
from trellis.spec import GraphSpec

FITTING = {"labels": "GraphClassification", "real": "GraphRegression", "binary": "GraphTasks"}


def of_graphs(network: nn.Module, batch: Batch, spec: GraphSpec, objective: str) -> Tensor:
    """What a network of whole graphs returns for a batch, ``[B, out_channels]``.

    Args:
        network: see ``GraphClassification``.
        batch: of B graphs.
        spec: of the data.
        objective: name of the caller.
    Raises:
        ValueError: another number of rows than there are graphs.
    """
    options = given_edges(network, batch, spec)
    if reads(network, "num_graphs"):
        options["num_graphs"] = batch.num_graphs
    rows: Tensor = network(batch.x, batch.edge_index, batch.batch, **options)
    if len(rows) != batch.num_graphs:
        raise ValueError(
            f"{objective}: {type(network).__name__} returned {len(rows)} rows for "
            f"{batch.num_graphs} graphs, the last of which may have no nodes: let its forward "
            f"take num_graphs, and return as many rows"
        )
    return rows


def require_graph_targets(spec: GraphSpec, kind: str, objective: str) -> None:
    """Refuse graphs whose targets are of another kind.

    Raises:
        ValueError: names the objective that fits.
    """
    if spec.targets != kind:
        raise ValueError(
            f"{objective} learns {kind} of graphs, but the targets of the data are "
            f"{spec.targets}: give {FITTING[spec.targets]}"
        )

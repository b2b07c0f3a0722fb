"""Networks of vectors."""

from trellis.networks.vector.mlp import MLP
from trellis.networks.vector.table_mlp import TableMLP

__all__ = ["MLP", "TableMLP"]

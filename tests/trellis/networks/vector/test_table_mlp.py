"""TableMLP: embeddings as torch's, and a category that a linear effect cannot follow."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from trellis.datamodules.vector.table import Table
from trellis.lightning_modules.vector.regression import Regression
from trellis.networks.vector.table_mlp import TableMLP


def test_a_category_picks_its_vector_and_numbers_stay() -> None:
    torch.manual_seed(0)
    network = TableMLP(7, 2, one_hot=[(4, 3), (1, 2)], embed_dim=3, hidden_channels=())
    first, second = (embedding.weight.t() for embedding in network.embeddings)  # [K, D]
    numbers, small, large = torch.randn(9, 2), torch.arange(9) % 2, torch.arange(9) % 3
    x = torch.cat(
        [numbers[:, :1], F.one_hot(small), numbers[:, 1:], F.one_hot(large)], dim=1
    )  # fmt: skip
    embedded = torch.cat(
        [numbers[:, :1], F.embedding(small, first), numbers[:, 1:], F.embedding(large, second)],
        dim=1,
    )
    (linear,) = network.mlp.layers
    torch.testing.assert_close(network(x), linear(embedded))


def test_sizes_of_embeddings_follow_the_numbers_of_categories() -> None:
    network = TableMLP(211, 1, one_hot=[(0, 3), (10, 201)])
    assert [embedding.out_features for embedding in network.embeddings] == [2, 50]
    assert network.mlp.in_channels == 2 + 7 + 50


@pytest.mark.parametrize("one_hot", [[(0, 3), (2, 2)], [(3, 3)], [(0, 0)], [(-1, 2)]])
def test_groups_that_overlap_or_leave_x_are_refused(one_hot: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"one_hot=.*in_channels=5: give start and width"):
        TableMLP(5, 1, one_hot=one_hot)


def test_a_table_tells_the_network_where_its_categories_are(tmp_path: Path) -> None:
    rows = [f"{n},{n % 3 or ''},{'abc'[n % 3]},{n}" for n in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["size,floor,place,price", *rows]))
    data = Table(
        str(tmp_path / "t.csv"), target="price", categories=["floor"], missing="indicator"
    )
    data.setup()
    # size; floor 1, floor 2 and whether it is missing; place a, b, c.
    assert data.spec.one_hot == ((1, 2), (4, 3))
    objective = Regression(TableMLP, spec=data.spec)
    objective.configure_model()
    assert [e.in_features for e in objective.network.embeddings] == [2, 3]
    x, _ = next(iter(data.loader("train")))
    assert objective(x).shape == (len(x), 1)

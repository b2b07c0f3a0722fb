"""Networks that score the triples of a knowledge graph.

Legend: Q questions, N entities, R relations, K candidates, E edges, D ``embed_dim``. Each is
called with an entity and a relation ``[Q]`` and scores candidates for the other entity: the K that
are given, the same for all, or all N. Higher is better; a softmax makes probabilities of them.
``factors`` are the sizes of what a triple is made of, ``[Q, D]`` each, to be kept small.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, probability
from trellis.graph.relational import RelationalLayer

Factors = tuple[Tensor, Tensor, Tensor]


class TripleNetwork(nn.Module, ABC):
    """Base of the networks that score triples by vectors of entities and of relations.

    Args:
        num_entities: N.
        num_relations: R.
        width: of the vectors.
    Shape:
        entity ``[Q]``, relation ``[Q]``, candidates ``[K]`` or ``None`` -> ``[Q, K]`` or
        ``[Q, N]``
    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, num_entities: int, num_relations: int, width: int) -> None:
        super().__init__()
        self.entities = _embedding("num_entities", num_entities, width)
        self.relations = _embedding("num_relations", num_relations, width)

    @abstractmethod
    def forward(
        self, entity: Tensor, relation: Tensor, *, candidates: Tensor | None = None
    ) -> Tensor:
        """Scores of candidates, or of all entities."""

    def factors(self, entity: Tensor, relation: Tensor, answer: Tensor) -> Factors:
        """Sizes of what triples are made of, ``[Q, D]`` each; those of real numbers have signs."""
        return self.entities(entity), self.relations(relation), self.entities(answer)


class DistMult(TripleNetwork):
    r"""A weight for each dimension and relation, the same in both directions.

    .. math:: s(h, r, t) = \sum_d e_{hd} \, w_{rd} \, e_{td}

    Args:
        num_entities: N.
        num_relations: R.
        embed_dim: D.
        dropout: probability for what is compared with candidates.
    Shape:
        entity ``[Q]``, relation ``[Q]``, candidates ``[K]`` or ``None`` -> ``[Q, K]`` or
        ``[Q, N]``
    Raises:
        ValueError: a size below 1, or no probability.

    Source: Yang et al. 2015.

    >>> DistMult(5, 2)(torch.tensor([0, 4]), torch.tensor([1, 1])).shape
    torch.Size([2, 5])
    """

    def __init__(
        self, num_entities: int, num_relations: int, *, embed_dim: int = 100, dropout: float = 0.0
    ) -> None:
        super().__init__(num_entities, num_relations, embed_dim)
        self.dropout = nn.Dropout(probability("dropout", dropout))

    def forward(
        self, entity: Tensor, relation: Tensor, candidates: Tensor | None = None
    ) -> Tensor:
        query = self.dropout(self.entities(entity) * self.relations(relation))
        return _products(query, self.entities.weight, candidates)


class ComplEx(TripleNetwork):
    r"""As ``DistMult`` with complex numbers, which tell the directions apart.

    .. math:: s(h, r, t) = \mathrm{Re} \sum_d e_{hd} \, w_{rd} \, \overline{e_{td}}

    Args:
        num_entities: N.
        num_relations: R.
        embed_dim: D complex numbers, so 2 D parameters each.
        dropout: probability for what is compared with candidates.
    Shape:
        entity ``[Q]``, relation ``[Q]``, candidates ``[K]`` or ``None`` -> ``[Q, K]`` or
        ``[Q, N]``
    Raises:
        ValueError: a size below 1, or no probability.

    Source: Trouillon et al. 2016, eq. 11.

    >>> ComplEx(5, 2)(torch.tensor([0, 4]), torch.tensor([1, 1])).shape
    torch.Size([2, 5])
    """

    def __init__(
        self, num_entities: int, num_relations: int, *, embed_dim: int = 100, dropout: float = 0.0
    ) -> None:
        super().__init__(num_entities, num_relations, 2 * embed_dim)  # real parts, then imaginary
        self.dropout = nn.Dropout(probability("dropout", dropout))

    def forward(
        self, entity: Tensor, relation: Tensor, candidates: Tensor | None = None
    ) -> Tensor:
        real, imaginary = self.entities(entity).chunk(2, dim=-1)
        turn_real, turn_imaginary = self.relations(relation).chunk(2, dim=-1)
        query = torch.cat(
            [
                real * turn_real - imaginary * turn_imaginary,
                real * turn_imaginary + imaginary * turn_real,
            ],
            dim=-1,
        )
        return _products(self.dropout(query), self.entities.weight, candidates)

    def factors(self, entity: Tensor, relation: Tensor, answer: Tensor) -> Factors:
        """Moduli, ``[Q, D]`` each."""
        parts = (self.entities(entity), self.relations(relation), self.entities(answer))
        head, turn, tail = (torch.stack(part.chunk(2, dim=-1)).norm(dim=0) for part in parts)
        return head, turn, tail


class TransE(TripleNetwork):
    r"""A relation is a translation.

    .. math:: s(h, r, t) = -\lVert e_h + w_r - e_t \rVert

    Args:
        num_entities: N.
        num_relations: R.
        embed_dim: D.
        norm: 1 or 2.
    Shape:
        entity ``[Q]``, relation ``[Q]``, candidates ``[K]`` or ``None`` -> ``[Q, K]`` or
        ``[Q, N]``
    Raises:
        ValueError: a size below 1, or another norm.

    Source: Bordes et al. 2013. Deviates: entities are not normalised to length 1.

    >>> TransE(5, 2)(torch.tensor([0, 4]), torch.tensor([1, 1])).shape
    torch.Size([2, 5])
    """

    def __init__(
        self, num_entities: int, num_relations: int, *, embed_dim: int = 100, norm: int = 1
    ) -> None:
        super().__init__(num_entities, num_relations, embed_dim)
        if norm not in (1, 2):
            raise ValueError(f"norm={norm}: give 1 or 2")
        self.norm = float(norm)

    def forward(
        self, entity: Tensor, relation: Tensor, candidates: Tensor | None = None
    ) -> Tensor:
        query = self.entities(entity) + self.relations(relation)
        entities = self.entities.weight if candidates is None else self.entities(candidates)
        return -torch.cdist(query, entities, p=self.norm)


class RGCN(TripleNetwork):
    r"""``DistMult`` of entities that have read their neighbours, by a matrix for each relation.

    .. math:: e' = e + \mathrm{ReLU}(\mathrm{RelationalLayer}(e))

    A training triple must not be read off its own edge: in training a share of the edges is left
    out of each step.

    Args:
        num_entities: N.
        num_relations: R.
        embed_dim: D, of all layers.
        num_layers: convolutions.
        num_bases: matrices that those of the relations are sums of.
        edge_dropout: share of the edges that is left out in training.
        dropout: probability after each layer.
    Shape:
        entity ``[Q]``, relation ``[Q]``, edge_index ``[2, E]`` and edge_type ``[E]`` (``None``: no
        edges), candidates ``[K]`` or ``None`` -> ``[Q, K]`` or ``[Q, N]``
    Raises:
        ValueError: a size below 1, or no probability.

    Source: Schlichtkrull et al. 2018, eq. 2, 3 and 6. Deviates: a residual connection around each
    layer.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        *,
        embed_dim: int = 100,
        num_layers: int = 1,
        num_bases: int = 4,
        edge_dropout: float = 0.5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_entities, num_relations, embed_dim)
        self.layers = nn.ModuleList(
            RelationalLayer(embed_dim, embed_dim, num_relations, num_bases)
            for _ in range(at_least_one("num_layers", num_layers))
        )
        self.edge_dropout = probability("edge_dropout", edge_dropout)
        self.dropout = nn.Dropout(probability("dropout", dropout))

    def embeddings(self, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        """Entities that have read their neighbours, ``[N, D]``."""
        x, kept = self.entities.weight, None
        if self.training and self.edge_dropout:
            kept = torch.rand_like(edge_type, dtype=x.dtype) >= self.edge_dropout
        for layer in self.layers:
            x = x + self.dropout(F.relu(layer(x, edge_index, edge_type, kept)))
        return x

    def forward(
        self,
        entity: Tensor,
        relation: Tensor,
        edge_index: Tensor | None = None,
        edge_type: Tensor | None = None,
        candidates: Tensor | None = None,
    ) -> Tensor:
        if edge_index is None or edge_type is None:
            edge_index, edge_type = entity.new_empty(2, 0), entity.new_empty(0)
        entities = self.embeddings(edge_index, edge_type)
        query = entities.index_select(0, entity) * self.relations(relation)
        return _products(query, entities, candidates)


def _embedding(name: str, size: int, embed_dim: int) -> nn.Embedding:
    embedding = nn.Embedding(at_least_one(name, size), at_least_one("embed_dim", embed_dim))
    nn.init.xavier_normal_(embedding.weight)
    return embedding


def _products(query: Tensor, entities: Tensor, candidates: Tensor | None) -> Tensor:
    """Scalar products of queries ``[Q, D]`` with all entities or with candidates."""
    # Not by brackets: the threads of a CPU add their gradients in whatever order.
    return query @ (entities if candidates is None else entities.index_select(0, candidates)).t()

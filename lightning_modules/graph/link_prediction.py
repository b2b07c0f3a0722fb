"""Which pairs of nodes are linked."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch_geometric.data import Data
from torchmetrics import Metric

from trellis.checks import at_least_one, choose_from, not_negative
from trellis.graph.links import all_pairs_loss, link_loss
from trellis.lightning_modules.engine.evaluation import between_zero_and_one
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.lightning_modules.graph.edge_inputs import edge_inputs, given_edges
from trellis.lightning_modules.graph.link_metrics import LinkLoss, link_metrics
from trellis.networks.graph.graph_autoencoder import GAE, LinkScores
from trellis.spec import LinkSpec

Negatives = Literal["sampled", "all"]


class LinkNetworkFactory(Protocol):
    """Builds a network of links from the features of a node; called by keyword.

    The network has ``forward(x, edge_index, links, edge_weight) -> LinkScores``.
    """

    def __call__(self, in_channels: int) -> nn.Module: ...


class LinkPredictions(NamedTuple):
    """Predictions of pairs: their nodes, and the probability of a link, ``[L]`` each."""

    source: Tensor
    target: Tensor
    probability: Tensor


class LinkPrediction(Objective):
    r"""Binary cross-entropy of linked and other pairs, which weigh the same.

    .. math:: \tfrac12 \mathrm{mean}_{linked}(-\ln \sigma(s)) +
        \tfrac12 \mathrm{mean}_{others}(-\ln \sigma(-s)) +
        \frac{\beta}{N} \mathrm{mean}_i\, \mathrm{KL}(q(z_i) \| p(z))

    Batch: a PyG ``Data`` with ``x [N, in_channels]``, ``edge_index [2, E]`` (what the network may
    see), ``links [2, L]`` and ``labels [L]`` of 1 and 0; ``edge_weight [E]`` where the spec says
    so. Reports ``auc``, ``ap``, and for the rank of each link among the pairs that are none
    (ties count half) ``mrr`` and ``hits@k``, the share of links among the first k.

    Args:
        network: from ``in_channels`` to a module ``(x, edge_index, links, [edge_weight=]) ->
            LinkScores``.
        negatives: the pairs that are no links, in training: ``sampled``, those of the batch; or
            ``all`` pairs of nodes beside its links, each node being linked to itself: the
            paper's, whose memory grows with N squared.
        beta: weight of the KL divergence of a variational network.
        hits_at: each k of ``hits@k``.
    Raises:
        ValueError: an option out of range.

    Source: Kipf and Welling 2016, "Variational graph auto-encoders", and its code.
    """

    spec_type = LinkSpec

    def __init__(
        self,
        network: LinkNetworkFactory = GAE,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: LinkSpec | None = None,
        negatives: Negatives = "sampled",
        beta: float = 1.0,
        hits_at: Sequence[int] = (10, 50),
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory = network
        self.negatives = choose_from("negatives", negatives, Negatives)
        self.beta = not_negative("beta", beta)
        self.hits_at = [at_least_one("hits_at", k) for k in hits_at]

    def build(self, spec: LinkSpec) -> None:
        sizes = {"in_channels": spec.in_channels}
        self.build_network(sizes, "x", "edge_index", "links", options=edge_inputs(spec))

    def metrics(self, spec: LinkSpec) -> Mapping[str, Metric]:
        return {"loss": LinkLoss(), **link_metrics(self.hits_at)}

    def forward(
        self, x: Tensor, edge_index: Tensor, links: Tensor | None, **edges: Tensor
    ) -> LinkScores:
        """What ``network`` returns for these inputs; ``edges`` is what else is known of them."""
        return self.network(x, edge_index, links, **edges)

    def _scores(self, batch: Data, links: Tensor | None) -> LinkScores:
        return self(
            batch.x, batch.edge_index, links, **given_edges(self.network, batch, self.spec)
        )

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        if self.negatives == "sampled":
            scores = self._scores(batch, batch.links)
            loss = link_loss(scores.logits, batch.labels.to(scores.logits.dtype))
        else:
            scores = self._scores(batch, None)
            links, weights = every_order(batch, self.spec.directed)
            loss = all_pairs_loss(scores.logits, links, weights.to(scores.logits.dtype))
        if scores.kl is not None:
            loss = loss + self.beta * scores.kl.mean() / len(scores.kl)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: Data, stage: Stage) -> None:
        logits, labels = self._scores(batch, batch.links).logits, batch.labels
        scores = between_zero_and_one(logits)
        for name, metric in self.evaluated(stage).items(keep_base=True):
            metric.update(logits if name == "loss" else scores, labels)

    def predict_step(self, batch: Data, batch_idx: int) -> LinkPredictions:
        """Probabilities of all ``links`` in ``batch``."""
        source, target = batch.links
        return LinkPredictions(source, target, self._scores(batch, batch.links).logits.sigmoid())


def every_order(batch: Data, directed: bool) -> tuple[Tensor, Tensor]:
    """The pairs of a batch, in both orders, and each node with itself; and their labels."""
    links, labels = batch.links, batch.labels
    nodes = torch.arange(batch.x.size(0), device=links.device).expand(2, -1)
    orders = (links,) if directed else (links, links.flip(0))
    ones = torch.ones_like(nodes[0])
    return torch.cat((*orders, nodes), 1), torch.cat([*[labels] * len(orders), ones])

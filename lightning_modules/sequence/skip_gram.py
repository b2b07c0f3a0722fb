"""Embeddings of words or nodes from the company they keep."""

import json
from typing import Literal, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from trellis.checks import at_least_one, choose_from
from trellis.functional.skip_gram import SkipGramBatch, skip_gram_loss
from trellis.functional.word_windows import WindowBatch, bag_of_contexts, window_loss
from trellis.lightning_modules.sequence.embedding_objective import EmbeddingObjective
from trellis.networks.sequence.skip_gram_embedding import SkipGramEmbedding
from trellis.sequence.huffman import HuffmanTree
from trellis.spec import EmbeddingSpec

Output = Literal["negative_sampling", "hierarchical_softmax"]


class EmbeddingFactory(Protocol):
    """Builds two tables of vectors for this many ids; called by keyword."""

    def __call__(self, num_tokens: int) -> nn.Module: ...


class _FromContexts(EmbeddingObjective):
    """What skip-gram and CBOW share: words are told from noise, or found in a tree.

    Args:
        output: ``negative_sampling``, or ``hierarchical_softmax`` over a Huffman tree of the
            words, whose inner nodes have the vectors of contexts; for windows of words.
        num_negatives: k, the negatives that count for each pair of a window; pairs of walks have
            as many as the data draws.
    """

    def __init__(
        self,
        network: EmbeddingFactory = SkipGramEmbedding,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: EmbeddingSpec | None = None,
        output: Output = "negative_sampling",
        num_negatives: int = 5,
    ) -> None:
        super().__init__(network, optimizer, lr_scheduler, spec)
        self.output = choose_from("output", output, Output)
        self.num_negatives = at_least_one("num_negatives", num_negatives)

    def build(self, spec: EmbeddingSpec) -> None:
        super().build(spec)
        if self.output == "hierarchical_softmax":
            if not spec.counts:
                raise ValueError(
                    "output=hierarchical_softmax needs to know how often each word occurs, which "
                    "the data does not say: choose WordContexts, or output=negative_sampling"
                )
            self.tree = HuffmanTree(torch.tensor(json.loads(spec.counts)))


class SkipGram(_FromContexts):
    r"""Skip-gram: which of these ids stood near the centre, which not.

    .. math:: L = -\ln \sigma(u_c^\top v_o) - \sum_k \ln \sigma(-u_c^\top v_k)

    as a mean over the pairs of a centre c with a context o, in nats; the k are negatives. Of words
    this is word2vec, of the nodes of random walks DeepWalk (uniform) or node2vec. With
    ``output=hierarchical_softmax`` it is :math:`-\ln p(c \mid o)` along the path to c in a Huffman
    tree, see ``HuffmanTree``.

    Batch: a ``SkipGramBatch`` of ids, whose negatives the data draws, or a ``WindowBatch`` of a
    text. See ``EmbeddingObjective`` for evaluations and predictions.

    Args:
        network: from ``num_tokens`` (and ``words``) to a module ``(center, context) -> logits``,
            whose ``embed`` maps ids to vectors, and whose ``scores`` maps vectors and ids to
            logits, if batches are windows.
        output, num_negatives: see ``WindowBatch`` data only: ``negative_sampling`` with so many
            negatives a pair, or ``hierarchical_softmax``.
    Raises:
        ValueError: a network without ``embed``, or a tree of words without counts.

    Source: Mikolov et al. 2013b, eq. 4; Perozzi et al. 2014; Grover and Leskovec 2016. Deviates:
    DeepWalk has a hierarchical softmax in place of negatives.
    """

    def loss(self, batch: SkipGramBatch | WindowBatch) -> Tensor:
        """Mean over the pairs of a batch, a scalar."""
        if isinstance(batch, WindowBatch):
            return self._loss_of_windows(batch)
        center, context, negatives = batch
        ids = torch.cat([context.clamp(min=0), negatives], 1)
        positive, negative = self.network(center, ids).split(
            [context.size(1), negatives.size(1)], 1
        )
        return skip_gram_loss(positive, negative, context >= 0)

    def _loss_of_windows(self, batch: WindowBatch) -> Tensor:
        center, context, near, negatives = batch
        if self.output == "hierarchical_softmax":
            # As word2vec.c: a context predicts the centre; a text has either pair in both orders.
            nodes = self.tree.nodes[center]  # [N, L, P]
            logits = self.network.scores(self(context), nodes.flatten(1))  # [N, C, L * P]
            logits = logits.unflatten(2, nodes.shape[1:]).transpose(1, 2)  # [N, L, C, P]
            found = self.tree.log_prob(logits, center[..., None])
            return -torch.where(near, found, 0).sum() / near.sum().clamp(min=1)
        logits = self.network.scores(self(center), torch.cat([context, negatives], 1))
        positive, negative = logits.split([context.size(1), negatives.size(1)], 2)
        return window_loss(positive, negative, near, self.num_negatives)

    def weight(self, batch: SkipGramBatch | WindowBatch) -> Tensor:
        """Pairs of a batch."""
        near = batch.near if isinstance(batch, WindowBatch) else batch.context >= 0
        return near.sum()


class CBOW(_FromContexts):
    r"""Continuous bag of words: which word has these ones around it.

    .. math:: L = -\ln \sigma(h_c^\top v_c) - \frac{k}{K} \sum_{n=1}^K \ln \sigma(-h_c^\top v_n),
        \quad h_c = \frac{1}{|O_c|} \sum_{o \in O_c} u_o

    as a mean over the words c of a text that have contexts O, in nats; or, with
    ``output=hierarchical_softmax``, :math:`-\ln p(c \mid h_c)` along the path to c.

    Batch: a ``WindowBatch``. See ``EmbeddingObjective`` for evaluations and predictions.

    Args:
        network: see ``SkipGram``; the vectors of contexts are those of ``embed``.
        output, num_negatives: see ``SkipGram``.
    Raises:
        ValueError: see ``SkipGram``.

    Source: Mikolov et al. 2013a, section 3.1; word2vec.c, which has the mean, not the sum.
    """

    needs = ("embed", "scores")

    def loss(self, batch: WindowBatch) -> Tensor:
        """Mean over the words of a batch, a scalar."""
        center, context, near, negatives = batch
        present = near.any(-1)
        hidden = bag_of_contexts(self(context), near)  # [N, L, D]
        each = hidden.flatten(0, 1).unsqueeze(1)  # [N * L, 1, D]
        if self.output == "hierarchical_softmax":
            nodes = self.tree.nodes[center].flatten(0, 1)  # [N * L, P]
            logits = self.network.scores(each, nodes).view(*center.shape, -1)
            found = -self.tree.log_prob(logits, center)
            return torch.where(present, found, 0).sum() / present.sum().clamp(min=1)
        positive = self.network.scores(each, center.flatten()[:, None]).view(*center.shape, 1)
        negative = self.network.scores(hidden, negatives)
        return window_loss(positive, negative, present[..., None], self.num_negatives)

    def weight(self, batch: WindowBatch) -> Tensor:
        """Words of a batch that have contexts."""
        return batch.near.any(-1).sum()

"""Vectors of words: each way of learning them tells two topics apart, and repeats itself."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from learning_cases import Kill, quiet_trainer
from torch import Tensor, nn
from word_cases import TOPICS, contexts, cooccurrences

import trellis
from trellis.datamodules.graph import KarateClub, NodeWalks
from trellis.datamodules.sequence import WordContexts
from trellis.functional.skip_gram import PairCounts
from trellis.functional.word_windows import WindowBatch
from trellis.lightning_modules.sequence import CBOW, GloVe, PMIFactorization, SkipGram
from trellis.lightning_modules.vector import Classification
from trellis.networks.sequence import GloVeEmbedding, SkipGramEmbedding, SubwordEmbedding
from trellis.sequence.word_vectors import read_word_vectors
from trellis.spec import EmbeddingSpec, TensorSpec

adagrad = partial(torch.optim.Adagrad, lr=0.3)
unit_steps = partial(torch.optim.SGD, lr=1.0)
two_tables = partial(SkipGramEmbedding, embed_dim=8)
tree = {"output": "hierarchical_softmax"}
subwords = partial(SubwordEmbedding, embed_dim=8, num_buckets=50)
WAYS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "skip-gram": (partial(SkipGram, two_tables, adagrad), contexts),
    "skip-gram/tree": (partial(SkipGram, two_tables, adagrad, **tree), contexts),
    "cbow": (partial(CBOW, two_tables, adagrad), contexts),
    "cbow/tree": (partial(CBOW, two_tables, adagrad, **tree), contexts),
    "fasttext": (partial(SkipGram, subwords, adagrad), contexts),
    "ppmi": (
        partial(PMIFactorization, partial(SkipGramEmbedding, embed_dim=4), unit_steps),
        partial(cooccurrences, batch_size=None),
    ),
    "glove": (partial(GloVe, partial(GloVeEmbedding, embed_dim=8), adagrad), cooccurrences),
}


def trained(way: str, root: Path, epochs: int = 6, **options: Any) -> tuple[L.Trainer, Any, Any]:
    L.seed_everything(0, verbose=False)
    make, data = WAYS[way]
    trainer = quiet_trainer(root, max_epochs=epochs, **options)
    model, words = make(), data()
    trainer.fit(model, datamodule=words)
    return trainer, model, words


@pytest.mark.parametrize("way", WAYS)
def test_topics_are_told_apart_and_a_checkpoint_knows_its_words(way: str, tmp_path: Path) -> None:
    trainer, model, data = trained(way, tmp_path)
    (found,) = trainer.test(model, datamodule=data, verbose=False)
    # Half of the pairs are of one topic: the rank correlation with two ratings has its largest
    # value below 1.
    assert found["test/rated"] > 0.8
    assert found["test/rated_unknown"] == 1
    assert found["test/analogies_unknown"] == 1
    start = WAYS[way][0](spec=model.spec)
    (before,) = trainer.test(start, datamodule=data, verbose=False)
    assert before["test/rated"] < 0.4
    assert found["test/loss"] < 0.9 * before["test/loss"]
    loaded = trellis.load(trainer.checkpoint_callback.last_model_path)
    words, vectors = loaded.word_vectors()
    assert sorted(words) == sorted(TOPICS[0] + TOPICS[1])
    assert torch.equal(vectors, model.all_vectors())
    assert torch.equal(torch.cat(trainer.predict(model, datamodule=data)), vectors)


@pytest.mark.parametrize("way", ["skip-gram", "glove"])
def test_a_run_that_was_interrupted_goes_on_bit_by_bit(way: str, tmp_path: Path) -> None:
    _, whole, _ = trained(way, tmp_path / "whole", 2)
    with pytest.raises(SystemExit):
        trained(way, tmp_path / "begun", 2, callbacks=[Kill(2)])
    (last,) = (tmp_path / "begun").rglob("last.ckpt")
    L.seed_everything(1, verbose=False)
    resumed = WAYS[way][0]()
    again = quiet_trainer(tmp_path / "resumed", max_epochs=2)
    again.fit(resumed, datamodule=WAYS[way][1](), ckpt_path=str(last))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def window_batch() -> WindowBatch:
    """Two blocks of three centres, some of which have no contexts."""
    generator = torch.Generator().manual_seed(0)
    context = torch.randint(9, (2, 5), generator=generator)
    near = torch.rand(2, 3, 5, generator=generator) < 0.5
    near[0, 1] = False
    negatives = torch.randint(9, (2, 4), generator=generator)
    return WindowBatch(context[:, 1:4], context, near, negatives)


def built(kind: type, **options: Any) -> Any:
    counts = "[9, 8, 7, 6, 5, 4, 3, 2, 1]"
    objective = kind(two_tables, spec=EmbeddingSpec(9, counts=counts), **options)
    objective.configure_model()
    nn.init.normal_(objective.network.context.weight, generator=torch.Generator().manual_seed(1))
    nn.init.normal_(objective.network.center.weight, generator=torch.Generator().manual_seed(2))
    return objective


def log_sigmoid(z: Tensor) -> float:
    return float(torch.log(1 / (1 + torch.exp(-z.detach().double()))))


def test_skip_gram_of_windows_is_the_sum_over_pairs_of_the_paper() -> None:
    model, batch = built(SkipGram, num_negatives=3), window_batch()
    u, v = model.network.center.weight, model.network.context.weight
    terms = []
    for block in range(2):
        noise = batch.negatives[block].tolist()
        for place, center in enumerate(batch.center[block].tolist()):
            for other, context in enumerate(batch.context[block].tolist()):
                if batch.near[block, place, other]:
                    expected = sum(log_sigmoid(-u[center] @ v[k]) for k in noise) * 3 / 4
                    terms.append(-log_sigmoid(u[center] @ v[context]) - expected)
    assert float(model.loss(batch)) == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert int(model.weight(batch)) == len(terms)


def test_cbow_predicts_a_word_from_the_mean_of_its_contexts() -> None:
    model, batch = built(CBOW, num_negatives=3), window_batch()
    u, v = model.network.center.weight, model.network.context.weight
    terms = []
    for block in range(2):
        noise = batch.negatives[block].tolist()
        for place, center in enumerate(batch.center[block].tolist()):
            around = batch.context[block][batch.near[block, place]]
            if len(around):
                hidden = u[around].mean(0)
                expected = sum(log_sigmoid(-hidden @ v[k]) for k in noise) * 3 / 4
                terms.append(-log_sigmoid(hidden @ v[center]) - expected)
    assert len(terms) == int(model.weight(batch)) == 5
    assert float(model.loss(batch)) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def tree_probabilities(model: Any, hidden: Tensor) -> Tensor:
    """Probabilities of all words, from all paths."""
    logits = model.network.context.weight @ hidden
    words = torch.arange(9)
    return model.tree.log_prob(logits[model.tree.nodes[words]], words).exp()


@pytest.mark.parametrize("kind", [SkipGram, CBOW])
def test_a_hierarchical_softmax_is_the_cross_entropy_of_all_words(kind: type) -> None:
    model, batch = built(kind, output="hierarchical_softmax"), window_batch()
    u, terms = model.network.center.weight, []
    for block in range(2):
        for place, center in enumerate(batch.center[block].tolist()):
            around = batch.context[block][batch.near[block, place]]
            inputs = u[around] if kind is SkipGram else u[around].mean(0, keepdim=True)
            for hidden in inputs if len(around) else ():
                p = tree_probabilities(model, hidden)
                assert float(p.sum()) == pytest.approx(1)
                terms.append(-float(p[center].log()))
    assert float(model.loss(batch)) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_glove_is_the_weighted_least_squares_of_the_paper() -> None:
    model = GloVe(partial(GloVeEmbedding, embed_dim=4), spec=EmbeddingSpec(9), x_max=10)
    model.configure_model()
    network = model.network
    batch = PairCounts(
        torch.tensor([1, 2, 3]), torch.tensor([4, 2, 8]), torch.tensor([0.5, 40.0, 10.0])
    )
    expected = 0.0
    for i, j, x in zip(*(part.tolist() for part in batch), strict=True):
        weight = (x / 10) ** 0.75 if x < 10 else 1
        z = network.center.weight[i] @ network.context.weight[j]
        z = z + network.center_bias[i] + network.context_bias[j]
        expected += weight * (float(z.detach()) - float(torch.tensor(x).log())) ** 2
    assert float(model.loss(batch)) == pytest.approx(expected / 3, rel=1e-5)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    walks = partial(NodeWalks, KarateClub, walk_length=4)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match="the network is made of words, and the data has ids"):
        trainer.fit(SkipGram(subwords), datamodule=walks())
    with pytest.raises(ValueError, match="needs to know how often each word occurs"):
        trainer.fit(SkipGram(output="hierarchical_softmax"), datamodule=walks())
    with pytest.raises(ValueError, match="output='softmax': choose from negative_sampling"):
        SkipGram(output="softmax")  # type: ignore[arg-type]
    alone = tmp_path / "alone.txt"
    alone.write_text("buffalo buffalo buffalo\n" * 9)
    with pytest.raises(ValueError, match="alone.txt: 1 of 1 words are left with min_count=5"):
        WordContexts(str(alone)).setup()


def test_export_writes_vectors_that_others_read(tmp_path: Path) -> None:
    trainer, model, _ = trained("skip-gram", tmp_path, 1)
    loaded = trellis.load(trainer.checkpoint_callback.last_model_path)
    folder = trellis.export(loaded, tmp_path / "out", formats=["word2vec"])
    words, vectors = read_word_vectors(folder / "vectors.txt")
    assert words == model.word_vectors().words
    assert torch.equal(vectors, model.all_vectors())
    graph = SkipGram(two_tables, spec=EmbeddingSpec(9))
    plain = Classification(spec=TensorSpec(2, 2))
    for each in (graph, plain):
        each.configure_model()
    with pytest.raises(ValueError, match="word2vec: .* trained on ids that are no words"):
        trellis.export(graph, tmp_path / "graph", formats=["word2vec"])
    with pytest.raises(ValueError, match="word2vec: Classification has no vectors of words"):
        trellis.export(plain, tmp_path / "plain", formats=["word2vec"])

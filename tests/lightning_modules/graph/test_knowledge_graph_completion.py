"""The loss by hand, and what is learnt from real triples."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import Family, quiet_trainer

from trellis.datamodules.graph.knowledge_graph import KnowledgeGraph
from trellis.lightning_modules.graph.knowledge_graph_completion import KnowledgeGraphCompletion
from trellis.networks.graph.knowledge_graph import ComplEx, DistMult


def built(**options) -> tuple[KnowledgeGraphCompletion, list]:
    L.seed_everything(0, verbose=False)
    data = Family()
    data.setup()
    objective = KnowledgeGraphCompletion(partial(DistMult, embed_dim=5), spec=data.spec, **options)
    objective.configure_model()
    return objective, list(data.loader("val"))


def test_the_loss_is_that_of_the_paper() -> None:
    objective, [batch, *_] = built(regularization=0.3)
    network = objective.network
    head, relation = network.entities(batch.entity), network.relations(batch.relation)
    tail = network.entities(batch.answer)
    log_prob = (head * relation @ network.entities.weight.t()).log_softmax(-1)
    nll = -log_prob[torch.arange(len(head)), batch.answer].mean()
    cubes = sum(part.abs().pow(3).sum() for part in (head, relation, tail)) / len(head)
    torch.testing.assert_close(objective.training_step(batch, 0), nll + 0.3 / 3 * cubes)


def test_negatives_are_those_of_the_batch_and_random_ones_but_not_the_answer() -> None:
    objective, [batch, *_] = built(num_negatives=30)  # of 21 entities: each is drawn again
    torch.manual_seed(1)
    loss = objective.training_step(batch, 0)
    torch.manual_seed(1)
    others = torch.randint(21, (30,)).tolist()
    scores, nll = objective.network(batch.entity, batch.relation), []
    for row, answer in zip(scores, batch.answer.tolist(), strict=True):
        wrong = [e for e in [*batch.answer.tolist(), *others] if e != answer]
        nll.append(torch.cat([row[[answer]], row[wrong]]).logsumexp(0) - row[answer])
    torch.testing.assert_close(loss, torch.stack(nll).mean())


@pytest.mark.data
def test_real_triples_are_learnt(tmp_path: Path, data_dir: str) -> None:
    L.seed_everything(0, verbose=False)
    objective = KnowledgeGraphCompletion(
        partial(ComplEx, embed_dim=50), partial(torch.optim.Adagrad, lr=0.1), regularization=0.02
    )
    data = KnowledgeGraph("nations", batch_size=128, data_dir=data_dir)
    trainer = quiet_trainer(tmp_path, max_epochs=12, check_val_every_n_epoch=12)
    trainer.fit(objective, datamodule=data)
    [tested] = trainer.test(objective, datamodule=data, verbose=False)
    # ConvE .82 (Dettmers et al. 2018); by chance among 14 entities about .3.
    assert tested["test/mrr"] > 0.65
    assert tested["test/mrr"] > tested["test/mrr_raw"] + 0.1
    lines = trainer.predict(objective, datamodule=data)[0]
    assert len(lines[0].split("\t")) == 10

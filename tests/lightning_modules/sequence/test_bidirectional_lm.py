"""Language models of both directions: against a chain that is known, and as part of a tagger."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from token_cases import SpelledStreams, Streams

from trellis.datamodules.sequence import CoNLL
from trellis.lightning_modules.sequence import BidirectionalLM, Tagging
from trellis.networks.sequence import CharacterTagger, ELMo
from trellis.sequence.contextual_words import ContextualWords
from trellis.sequence.tokenizer import WordTokenizer

BODY = {"hidden_size": 16, "character_channels": 4, "character_widths": (1, 2), "dropout": 0.0}
SMALL = partial(ELMo, cutoffs=[5], **BODY)


@pytest.fixture(autouse=True)
def _seed():
    L.seed_everything(0, verbose=False)


def adam(lr: float):
    return partial(torch.optim.Adam, lr=lr)


def entropy_rates() -> tuple[float, float]:
    """Of the chain, read forwards and backwards: they are equal."""
    chain = Streams.transitions.double()
    stationary = torch.linalg.matrix_power(chain, 200)[0]
    joint = stationary[:, None] * chain
    reversed_chain = joint.t() / stationary[:, None]
    rates = []
    for matrix in (chain, reversed_chain):
        rates.append(float(-(stationary[:, None] * torch.xlogy(matrix, matrix)).sum()))
    return rates[0], rates[1]


@pytest.mark.long
def test_both_directions_learn_what_there_is_to_know(tmp_path: Path) -> None:
    forward, backward = entropy_rates()
    assert forward == pytest.approx(backward)
    objective, data = BidirectionalLM(SMALL, adam(0.03)), SpelledStreams(steps=60)
    trainer = quiet_trainer(tmp_path, max_epochs=2, check_val_every_n_epoch=2)
    trainer.fit(objective, datamodule=data)
    [found] = trainer.test(objective, datamodule=data, verbose=False)
    tokens = data.rows.unfold(1, 12, 3).flatten(0, 1)
    with torch.no_grad():
        after, before = objective.eval().log_prob(tokens)
    for log_prob in (after, before):
        assert forward < float(-log_prob.mean()) < 1.1 * forward
    mean = float(-(after.mean() + before.mean()) / 2)
    assert found["test/loss"] == pytest.approx(mean, rel=1e-4)
    assert found["test/perplexity"] == pytest.approx(torch.tensor(mean).exp().item(), rel=1e-4)
    torch.testing.assert_close(objective.predict_step(tokens, 0), after[:, :-1] + before[:, 1:])


def test_special_tokens_of_a_text_have_no_letters() -> None:
    data = SpelledStreams()
    objective = BidirectionalLM(SMALL, spec=data.spec)
    objective.configure_model()
    letters = objective.characters(torch.arange(7).view(1, 7))[0]
    words = [bytes(x - 1 for x in row if x).decode() for row in letters.tolist()]
    assert words == ["", "", "", "", "one", "three", "two"]
    text = WordTokenizer(["one <eos> <unk>"], split_punctuation=False)
    objective = BidirectionalLM(SMALL, spec=text.spec)
    objective.configure_model()
    spelled = (objective.table.sum(1) > 0).tolist()
    assert spelled == [False] * 4 + [word == "one" for word in text.words]


def test_what_was_pretrained_is_part_of_a_tagger(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path / "lm", max_epochs=1)
    trainer.fit(BidirectionalLM(SMALL, adam(0.01)), datamodule=SpelledStreams())
    pretrained = trainer.checkpoint_callback.last_model_path
    text = "one B\ntwo O\n\nthree O\none B\nnine O\n"
    (tmp_path / "tags.txt").write_text(text * 8)
    data = CoNLL(str(tmp_path / "tags.txt"), val=2, characters=True)
    context = partial(ContextualWords, **BODY)
    objective = Tagging(partial(CharacterTagger, hidden_size=4, context=context), adam(0.01))
    tagging = quiet_trainer(tmp_path / "tags", max_epochs=2)
    names = {"network.body": "network.context.body"}
    tagging.fit(objective, datamodule=data, init_from=pretrained, init_map=names)
    before = torch.load(pretrained, weights_only=True)["state_dict"]
    after = objective.state_dict()
    taken = [name for name in before if name.startswith("network.body.")]
    assert taken
    for name in taken:
        assert torch.equal(after[f"network.context{name.removeprefix('network')}"], before[name])
    assert not torch.equal(after["network.context.mixture.weights"], torch.zeros(2))


def test_tokens_must_be_text() -> None:
    with pytest.raises(ValueError, match="these tokens are no text: give WikiText2"):
        BidirectionalLM(SMALL, spec=Streams().spec).configure_model()
    objective = BidirectionalLM(SMALL, spec=SpelledStreams().spec)
    objective.configure_model()
    with pytest.raises(ValueError, match="batches of tuple"):
        objective.training_step((torch.zeros(2, 3, dtype=torch.long),), 0)

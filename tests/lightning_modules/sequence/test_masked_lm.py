"""Masked words and the order of sentences: against definitions and known optima."""

import math
from functools import partial

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from token_cases import MASK, NUM_WORDS, SPEC, WordGuesser, WordPairs
from torch import nn

from trellis.lightning_modules.engine.checkpoint import load
from trellis.lightning_modules.sequence.masked_lm import MaskedLM
from trellis.networks.sequence.bert import BERT, BertPretraining
from trellis.sequence.batches import SentencePairs
from trellis.spec import TokenSpec


@pytest.fixture(autouse=True)
def _seed():
    L.seed_everything(0, verbose=False)


def adam(lr: float):
    return partial(torch.optim.Adam, lr=lr)


def fit(objective, data, root, epochs: int) -> dict[str, float]:
    trainer = quiet_trainer(root, max_epochs=epochs, check_val_every_n_epoch=epochs)
    trainer.fit(objective, datamodule=data)
    [tested] = trainer.test(objective, datamodule=data, verbose=False)
    return tested


class Spy(WordGuesser):
    """Records its inputs and outputs."""

    def __init__(self, num_tokens: int, *, pad_id: int) -> None:
        super().__init__(num_tokens, pad_id=pad_id)
        self.calls = []

    def forward(self, tokens, segments, chosen=None):
        said = super().forward(tokens, segments, chosen)
        self.calls.append((tokens, segments, chosen, *said))
        return said


def test_metrics_are_means_over_all_hidden_words_and_all_pairs(tmp_path):
    objective, data = MaskedLM(Spy, adam(0.01), mask_probability=1.0), WordPairs()
    metrics = fit(objective, data, tmp_path, epochs=1)
    calls, batches = objective.network.calls[-5:], list(data.test_dataloader())
    token_losses, order_losses, right = [], [], []
    for (shown, segments, chosen, said, order), batch in zip(calls, batches, strict=True):
        rows = iter(said)
        assert torch.equal(segments, batch.segments)
        for row, words in enumerate(batch.tokens.tolist()):
            order_losses.append(-order[row].log_softmax(-1)[batch.in_order[row]])
            for column, word in enumerate(words):
                if word > MASK:  # with probability 1 every word is masked, and nothing else
                    guess = next(rows)
                    token_losses.append(-guess.log_softmax(-1)[word])
                    right.append(int(guess.argmax()) == word)
                else:
                    assert shown[row, column] == word
                assert chosen[row, column] == (word > MASK)
    token_loss = float(sum(token_losses)) / len(token_losses)
    order_loss = float(sum(order_losses)) / len(order_losses)
    assert len(order_losses) == 37
    assert metrics["test/loss"] == pytest.approx(token_loss + order_loss, rel=1e-5)
    assert metrics["test/perplexity"] == pytest.approx(math.exp(token_loss), rel=1e-5)
    assert metrics["test/token_accuracy"] == pytest.approx(sum(right) / len(right))
    correct = sum(
        int((order.argmax(-1) == batch.in_order).sum())
        for (*_, order), batch in zip(calls, batches, strict=True)
    )
    assert metrics["test/order_accuracy"] == pytest.approx(correct / 37)


def test_training_adds_both_losses():
    objective = MaskedLM(Spy, mask_probability=1.0, spec=SPEC)
    objective.configure_model()
    batch = next(iter(WordPairs().val_dataloader()))
    loss = objective.training_step(batch, 0)
    [(*_, said, order)] = objective.network.calls
    token_loss = nn.functional.cross_entropy(said, batch.tokens[batch.tokens > MASK])
    order_loss = nn.functional.cross_entropy(order, batch.in_order)
    torch.testing.assert_close(loss, token_loss + order_loss)


def test_each_step_hides_other_words_and_each_evaluation_the_same(tmp_path):
    objective, data = MaskedLM(Spy, adam(0.01)), WordPairs()
    trainer = quiet_trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0)
    trainer.fit(objective, datamodule=data)
    shown = [call[0] for call in objective.network.calls]
    first, second = shown[5:10], shown[15:20]  # after 5 steps of training each
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    batch = next(iter(data.val_dataloader()))
    objective.training_step(batch, 0)
    objective.training_step(batch, 0)
    again = [call[0] for call in objective.network.calls[-2:]]
    assert not torch.equal(*again)


def test_batches_of_one_shape_are_asked_at_places_of_their_own():
    objective = MaskedLM(Spy, spec=SPEC)
    objective.configure_model()
    batch = next(iter(WordPairs().val_dataloader()))
    later = (batch.tokens - MASK) % NUM_WORDS + MASK + 1
    other = batch._replace(tokens=later.where(batch.tokens > MASK, batch.tokens))
    for pairs in (batch, other, batch):
        objective.evaluate(pairs, "val")
    first, second, third = (chosen for _, _, chosen, *_ in objective.network.calls)
    assert torch.equal(first, third)
    assert not torch.equal(first, second)


def test_evaluation_leaves_the_random_states_alone(tmp_path):
    objective = MaskedLM(WordGuesser, spec=SPEC)
    objective.configure_model()
    objective.eval()
    state = torch.get_rng_state()
    objective.evaluate(next(iter(WordPairs().val_dataloader())), "val")
    assert torch.equal(torch.get_rng_state(), state)


def test_predictions_fill_in_what_is_hidden_and_nothing_else():
    objective = MaskedLM(WordGuesser, spec=SPEC)
    objective.configure_model()
    objective.eval()
    batch = next(iter(WordPairs().val_dataloader()))
    hidden = batch._replace(tokens=batch.tokens.clone())
    places = [(0, 2), (0, 3), (5, 4)]
    for row, column in places:
        hidden.tokens[row, column] = MASK
    filled, order = objective.predict_step(hidden, 0)
    words, said = objective(hidden.tokens, batch.segments)
    expected = batch.tokens.clone()
    for row, column in places:
        expected[row, column] = words[row, column].argmax()
    assert torch.equal(filled, expected)
    torch.testing.assert_close(order, said.exp() / said.exp().sum(-1, keepdim=True))


SMALL = partial(
    BertPretraining, embed_dim=32, num_heads=2, num_layers=2, dropout=0.0, norm_first=True
)


def test_words_that_others_reveal_are_predicted_and_so_is_the_order(tmp_path):
    data = WordPairs(num_pairs=400, batch_size=20, num_words=6)
    metrics = fit(MaskedLM(SMALL, adam(0.005)), data, tmp_path, epochs=8)
    assert metrics["test/token_accuracy"] > 0.96
    assert metrics["test/perplexity"] < 1.2
    assert metrics["test/order_accuracy"] > 0.93


class WordTable(nn.Module):
    """Predicts each token from the input at its own position alone."""

    def __init__(self, num_tokens: int, *, pad_id: int) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.zeros(num_tokens, num_tokens))
        self.order = nn.Parameter(torch.zeros(num_tokens, 2))

    def forward(self, tokens, segments, chosen=None):
        shown = tokens if chosen is None else tokens[chosen]
        return self.words[shown], self.order[tokens].mean(1)


def test_of_words_drawn_at_random_only_those_that_are_shown_are_known(tmp_path):
    data = WordPairs(num_pairs=1000, batch_size=50, noise=True)
    metrics = fit(MaskedLM(WordTable, adam(0.1), mask_probability=0.5), data, tmp_path, epochs=5)
    # Of the chosen words 80 % are [MASK]: ln(NUM_WORDS). Of the others one half is the true word,
    # as is one in NUM_WORDS of the other half.
    same = (0.1 + 0.1 / NUM_WORDS) / 0.2
    other = (1 - same) / (NUM_WORDS - 1)
    entropy = -same * math.log(same) - (NUM_WORDS - 1) * other * math.log(other)
    best = 0.8 * math.log(NUM_WORDS) + 0.2 * entropy
    assert math.log(metrics["test/perplexity"]) == pytest.approx(best, abs=0.05)
    assert metrics["test/order_accuracy"] == pytest.approx(0.5, abs=0.06)


def test_pairs_without_any_word_cost_only_their_order():
    objective = MaskedLM(WordGuesser, spec=SPEC)
    objective.configure_model()
    tokens = torch.tensor([[SPEC.bos_id, SPEC.eos_id, SPEC.unknown_id, SPEC.eos_id]])
    batch = SentencePairs(tokens, torch.tensor([[0, 0, 1, 1]]), torch.tensor([1]))
    loss = objective.eval().training_step(batch, 0)
    _, order = objective(batch.tokens, batch.segments)
    torch.testing.assert_close(loss, -order.log_softmax(-1)[0, 1])


def test_a_checkpoint_is_loaded_by_its_path_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("TRELLIS_TRUST", "token_cases")
    objective, data = MaskedLM(WordGuesser, adam(0.01), mask_probability=0.3), WordPairs()
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(objective, datamodule=data)
    loaded = load(trainer.checkpoint_callback.last_model_path)
    assert (loaded.mask_probability, loaded.spec) == (0.3, SPEC)
    batch = next(iter(data.test_dataloader()))
    assert torch.equal(
        loaded(batch.tokens, batch.segments)[0],
        objective.eval()(batch.tokens, batch.segments)[0],
    )


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (TokenSpec(30, pad_id=0), "MaskedLM: spec has no mask_id; give the data's tokenizer one"),
        (TokenSpec(30, mask_id=4), "MaskedLM: spec has no pad_id"),
    ],
)
def test_data_must_have_what_hides_words(spec, match):
    with pytest.raises(ValueError, match=match):
        MaskedLM(WordGuesser, spec=spec).configure_model()


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_the_share_of_hidden_words_is_a_share(share):
    with pytest.raises(ValueError, match=f"mask_probability={share}"):
        MaskedLM(WordGuesser, mask_probability=share)


def test_a_network_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"MaskedLM calls network\(num_tokens=.*, pad_id="):
        MaskedLM(nn.Linear, spec=SPEC).configure_model()
    with pytest.raises(ValueError, match=r"MaskedLM calls network\(tokens, segments, chosen\)"):
        MaskedLM(BERT, spec=SPEC).configure_model()


def test_logits_of_the_chosen_words_are_those_among_all():
    network = SMALL(SPEC.num_tokens, pad_id=SPEC.pad_id).eval()
    batch = next(iter(WordPairs().val_dataloader()))
    chosen = torch.rand(batch.tokens.shape) < 0.3
    words, order = network(batch.tokens, batch.segments)
    asked, same_order = network(batch.tokens, batch.segments, chosen)
    torch.testing.assert_close(asked, words[chosen])
    torch.testing.assert_close(same_order, order)


def test_batches_of_another_kind_are_refused():
    objective = MaskedLM(SMALL, spec=SPEC)
    objective.configure_model()
    for step in (objective.training_step, objective.predict_step):
        with pytest.raises(ValueError, match="learns from SentencePairs, .* batches of Tensor"):
            step(torch.ones(2, 5, dtype=torch.long), 0)

"""Language models: losses by definition, states carried exactly, the entropy of a known chain."""

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from token_cases import Streams, WordPairs
from torch import Tensor, nn

import trellis
from trellis.datamodules.engine.base import DataModule
from trellis.datamodules.engine.loader import Loader
from trellis.lightning_modules.sequence import language_modelling
from trellis.lightning_modules.sequence.causal_lm import CausalLM
from trellis.networks.sequence.adaptive_lm import AdaptiveLM
from trellis.networks.sequence.gpt import GPT
from trellis.networks.sequence.recurrent import RecurrentLM
from trellis.spec import TokenSpec

gru = partial(RecurrentLM, cell="gru", embed_dim=8, hidden_size=12, dropout=0.0)
gpt = partial(GPT, context=8, embed_dim=16, num_heads=2, num_layers=1, dropout=0.0)
adaptive = partial(AdaptiveLM, cutoffs=[2, 4], hidden_size=12)  # has log_prob
adam = partial(torch.optim.Adam, lr=0.02)


def evaluated(objective: CausalLM, data: DataModule, root: Path) -> dict[str, float]:
    [result] = quiet_trainer(root).validate(objective, datamodule=data, verbose=False)
    return result


def entropy_rate(transitions: Tensor) -> float:
    """Nats a step of a stationary chain, from the chain's own definition."""
    values, vectors = torch.linalg.eig(transitions.T.double())
    share = vectors[:, values.real.argmax()].real
    share = share / share.sum()
    return float(-(share.unsqueeze(1) * torch.special.xlogy(transitions, transitions)).sum())


@pytest.mark.parametrize("network", [gpt, adaptive])
def test_loss_is_the_mean_over_tokens_that_are_not_padding(network: Any, tmp_path: Path) -> None:
    class Padded(DataModule):
        spec = TokenSpec(5, pad_id=0)
        batches = (torch.tensor([[1, 2, 3, 0], [4, 3, 0, 0]]), torch.tensor([[1, 1, 1, 1]]))

        def loader(self, split: str) -> Loader[Tensor]:
            return Loader(2, lambda index: self.batches[int(index)])

    data, objective = Padded(), CausalLM(network, spec=Padded.spec)
    objective.configure_model()
    objective.eval()
    losses = []
    for batch in data.batches:
        log_probs = objective(batch[:, :-1])[0].log_softmax(-1)
        for row, tokens in enumerate(batch.tolist()):
            for t, token in enumerate(tokens[1:]):
                if token != 0:
                    losses.append(-float(log_probs[row, t, token].detach()))
    assert len(losses) == 6
    mean = sum(losses) / len(losses)
    result = evaluated(objective, data, tmp_path)
    assert result == pytest.approx({"val/loss": mean, "val/perplexity": math.exp(mean)})
    predicted = objective.predict_step(data.batches[0], 0)
    assert float(predicted.detach().sum()) == pytest.approx(-sum(losses[:3]), abs=1e-5)
    assert predicted[0, 2] == 0


def test_carried_states_read_a_stream_as_if_it_were_one_sequence(tmp_path: Path) -> None:
    L.seed_everything(0, verbose=False)
    data = Streams()
    carried = CausalLM(gru, adam, carry_state=True, spec=data.spec)
    carried.configure_model()
    carried.eval()
    for weight in carried.parameters():
        weight.data.mul_(3)  # so that what is remembered matters
    logits, _ = carried(data.rows[:, :-1])
    whole = nn.functional.cross_entropy(logits.flatten(0, 1), data.rows[:, 1:].flatten())
    assert evaluated(carried, data, tmp_path)["val/loss"] == pytest.approx(whole.item(), rel=1e-5)
    carried.carry_state = False
    cut = evaluated(carried, data, tmp_path)["val/loss"]
    assert cut != pytest.approx(whole.item(), rel=1e-3)


def test_gradients_stop_between_batches(tmp_path: Path) -> None:
    data = Streams()
    objective = CausalLM(gru, adam, carry_state=True, spec=data.spec)
    objective.configure_model()
    batches = list(data.loader("train"))
    objective.training_step(batches[0], 0)
    loss = objective.training_step(batches[1], 1)
    loss.backward()  # would fail if the first batch's graph, freed or not, were reached twice
    objective.training_step(batches[2], 2).backward()
    assert all(not part.requires_grad for part in objective._carried.state)


@pytest.mark.parametrize("carry", [True, False])
def test_data_without_streams_is_refused_if_the_state_is_carried(
    tmp_path: Path, carry: bool
) -> None:
    objective = CausalLM(gru, adam, carry_state=carry)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    if not carry:
        trainer.fit(objective, datamodule=Streams(jump=True))
        return
    with pytest.raises(ValueError, match="does not continue the batch before"):
        trainer.fit(objective, datamodule=Streams(jump=True))


@pytest.mark.long
@pytest.mark.parametrize(("network", "carry"), [(gru, True), (gpt, False)])
def test_learns_the_entropy_of_a_chain_and_no_more(
    tmp_path: Path, network: Any, carry: bool
) -> None:
    L.seed_everything(0, verbose=False)
    data = Streams(steps=100)
    objective = CausalLM(network, adam, carry_state=carry)
    quiet_trainer(tmp_path, max_epochs=4).fit(objective, datamodule=data)
    best = entropy_rate(data.transitions)
    loss = evaluated(objective, data, tmp_path)["val/loss"]
    assert best - 0.03 < loss < best + 0.03
    assert loss < 0.75 * math.log(3)


def test_a_checkpoint_needs_no_data(tmp_path: Path) -> None:
    data = Streams()
    objective = CausalLM(gru, adam, carry_state=True)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(objective, datamodule=data)
    loaded = trellis.load(trainer.checkpoint_callback.best_model_path)
    tokens = data.rows[:, :5]
    objective.eval()
    torch.testing.assert_close(loaded(tokens)[0], objective(tokens)[0])


def test_a_vocabulary_is_in_the_checkpoint_but_not_among_logged_options(tmp_path: Path) -> None:
    data = Streams()
    data.spec = TokenSpec(3, tokenizer="x" * 1000)
    objective = CausalLM(gru, adam)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(objective, datamodule=data)
    assert objective.hparams_initial["spec"]["tokenizer"] == "(1,000 characters)"
    assert objective.hparams_initial["spec"]["num_tokens"] == 3
    assert trellis.load(trainer.checkpoint_callback.last_model_path).spec == data.spec


def test_a_network_of_another_kind_is_refused() -> None:
    objective = CausalLM(nn.Linear, adam, spec=TokenSpec(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"calls network\(num_tokens=...\), but Linear"):
        objective.configure_model()


def test_every_epoch_starts_the_stream_anew() -> None:
    data = Streams()
    objective = CausalLM(gru, adam, carry_state=True, spec=data.spec)
    objective.configure_model()
    batches = list(data.loader("train"))
    first = [objective.training_step(batch, i).item() for i, batch in enumerate(batches)]
    again = [objective.training_step(batch, i).item() for i, batch in enumerate(batches)]
    assert first == again


def test_a_run_resumed_within_a_stream_goes_on_with_its_state(tmp_path: Path) -> None:
    class SaveAtFour(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            if trainer.global_step == 4:
                trainer.save_checkpoint(tmp_path / "four.ckpt")

    def fitted(root: Path, **options: Any) -> CausalLM:
        L.seed_everything(0, verbose=False)
        objective = CausalLM(gru, adam, carry_state=True)
        callbacks = [] if options else [SaveAtFour()]
        trainer = quiet_trainer(root, max_epochs=1, callbacks=callbacks)
        trainer.fit(objective, datamodule=Streams(), **options)
        return objective

    whole = fitted(tmp_path / "whole")
    resumed = fitted(tmp_path / "resumed", ckpt_path=tmp_path / "four.ckpt")
    for name, weight in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight), name


@pytest.mark.parametrize("carry", [True, False])
def test_predictions_are_those_that_evaluation_counts(tmp_path: Path, carry: bool) -> None:
    data = Streams()
    objective = CausalLM(gru, adam, carry_state=carry, spec=data.spec)
    trainer = quiet_trainer(tmp_path)
    for _ in range(2):  # a second time starts anew
        batches = trainer.predict(objective, datamodule=data)
        log_probs = torch.cat(batches, 1)
        assert log_probs.shape == (4, 60)
        mean = -float(log_probs.mean())
        assert evaluated(objective, data, tmp_path)["val/loss"] == pytest.approx(mean, rel=1e-5)


def test_batches_of_another_kind_are_refused(tmp_path: Path) -> None:
    objective = CausalLM(gru, adam, spec=TokenSpec(25))
    objective.configure_model()
    pairs = next(iter(WordPairs().loader("train")))
    for step in (objective.training_step, objective.predict_step):
        with pytest.raises(ValueError, match=r"token ids \[B, T \+ 1\], .* of SentencePairs"):
            step(pairs, 0)


def test_each_process_goes_on_with_the_states_of_its_own_rows(monkeypatch) -> None:
    def attached() -> CausalLM:
        objective = CausalLM(gru, adam, carry_state=True)
        trainer = SimpleNamespace(state=SimpleNamespace(fn="validate"))
        monkeypatch.setattr(type(objective), "attached_trainer", trainer)
        return objective

    def both(own: list) -> list:
        return [own, [torch.ones(1), torch.tensor([2]), True]]

    monkeypatch.setattr(language_modelling, "of_all_processes", both)
    checkpoint: dict = {"hyper_parameters": {}}
    attached().on_save_checkpoint(checkpoint)
    for rank, last in ((0, None), (1, torch.tensor([2]))):
        monkeypatch.setattr(language_modelling, "rank_and_world", lambda rank=rank: (rank, 2))
        objective = attached()
        objective.on_load_checkpoint(checkpoint)
        assert objective._carried.last == last

"""Counting as an objective: each n-gram of a stream once, a fit that resumes, refusals."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from learning_cases import Kill, quiet_trainer
from token_cases import Streams, WordPairs
from torch import Tensor

import trellis
from trellis.datamodules.engine.base import DataModule
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence import TinyShakespeare
from trellis.lightning_modules.commands.generate import main as generate
from trellis.lightning_modules.sequence.causal_lm import CausalLM
from trellis.lightning_modules.sequence.counting_lm import CountingLM
from trellis.networks.sequence.ngram import AddKLM, KneserNeyLM
from trellis.networks.sequence.recurrent import RecurrentLM
from trellis.spec import TokenSpec

bigrams = partial(AddKLM, order=2, k=1e-6)


def fitted(objective: CountingLM, data: DataModule, root: Path, **options) -> CountingLM:
    quiet_trainer(root, **{"max_epochs": 1, **options}).fit(objective, datamodule=data)
    return objective


def test_each_ngram_of_a_stream_is_counted_once(tmp_path: Path) -> None:
    data = Streams()
    objective = fitted(CountingLM(partial(KneserNeyLM, order=4), carry_state=True), data, tmp_path)
    expected = KneserNeyLM(3, order=4)
    expected.count(data.rows)
    assert torch.equal(objective(data.rows)[0], expected(data.rows)[0])
    windows = fitted(CountingLM(partial(KneserNeyLM, order=4)), data, tmp_path)
    assert not torch.equal(windows(data.rows)[0], expected(data.rows)[0])


def test_another_epoch_counts_anew(tmp_path: Path) -> None:
    once, twice = (
        fitted(CountingLM(bigrams, carry_state=True), Streams(), tmp_path, max_epochs=n)
        for n in (1, 2)
    )
    assert torch.equal(once(Streams().rows)[0], twice(Streams().rows)[0])


def test_it_reaches_the_entropy_of_the_chain(tmp_path: Path) -> None:
    """The best loss of a bigram on its own text is the empirical conditional entropy."""
    data = Streams(steps=30)
    objective = fitted(CountingLM(bigrams, carry_state=True), data, tmp_path)
    [result] = quiet_trainer(tmp_path).validate(objective, datamodule=data, verbose=False)
    pairs = torch.zeros(3, 3, dtype=torch.double)
    for row in data.rows:
        for a, b in zip(row[:-1].tolist(), row[1:].tolist(), strict=True):
            pairs[a, b] += 1
    share = pairs / pairs.sum(1, keepdim=True)
    entropy = float(-torch.special.xlogy(pairs, share).sum() / pairs.sum())
    assert result["val/loss"] == pytest.approx(entropy, abs=1e-4)
    assert result["val/perplexity"] == pytest.approx(math.exp(entropy), abs=1e-3)
    single = fitted(CountingLM(partial(AddKLM, order=1), carry_state=True), data, tmp_path)
    [result] = quiet_trainer(tmp_path).validate(single, datamodule=data, verbose=False)
    assert result["val/loss"] > entropy + 0.3


def test_a_run_that_was_stopped_goes_on_to_the_same_counts(tmp_path: Path) -> None:
    build = partial(CountingLM, partial(KneserNeyLM, order=3), carry_state=True)
    whole = fitted(build(), Streams(), tmp_path)
    trainer = trellis.Trainer(
        default_root_dir=tmp_path, max_epochs=1, logger=False, callbacks=[Kill(4)],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(SystemExit):
        trainer.fit(build(), datamodule=Streams())
    last = trainer.checkpoint_callback.last_model_path
    half = trellis.load(last).state_dict()
    resumed = build()
    quiet_trainer(tmp_path, max_epochs=1).fit(resumed, datamodule=Streams(), ckpt_path=last)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert any(not torch.equal(half[k], v) for k, v in whole.state_dict().items())


def test_padding_is_not_counted(tmp_path: Path) -> None:
    class Padded(DataModule):
        spec = TokenSpec(5, pad_id=0)

        def loader(self, split: str) -> Loader[Tensor]:
            return Loader(1, lambda index: torch.tensor([[1, 2, 3, 0], [4, 3, 0, 0]]))

    objective = fitted(CountingLM(bigrams), Padded(), tmp_path)
    followers = objective.network.counts.levels()[1]
    contexts, tokens = followers.split(followers.ngrams)
    pairs = zip(followers.contexts[contexts].tolist(), tokens.tolist(), strict=True)
    assert list(pairs) == [(1, 2), (2, 3), (4, 3)]


@pytest.mark.data
@pytest.mark.long
def test_three_letters_of_shakespeare_tell_of_the_next(
    tmp_path: Path, data_dir: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = TinyShakespeare(data_dir, context=41827, batch_size=12, stream=True)
    objective = CountingLM(partial(KneserNeyLM, order=4), carry_state=True)
    trainer = trellis.Trainer(
        default_root_dir=tmp_path, max_epochs=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(objective, datamodule=data)
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(1.719, abs=0.002)
    path = trainer.checkpoint_callback.best_model_path
    generate(["generate", path, "--prompt", "ROMEO:", "--max_new_tokens", "40"])
    first = capsys.readouterr().out
    generate(["generate", path, "--prompt", "ROMEO:", "--max_new_tokens", "40"])
    assert capsys.readouterr().out == first
    assert first.startswith("ROMEO:")
    assert len(first) == len("ROMEO:") + 40 + 1


def test_refuses_what_it_cannot_count(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CountingLM counts, and RecurrentLM learns by gradients"):
        fitted(CountingLM(RecurrentLM), Streams(), tmp_path)
    with pytest.raises(ValueError, match="CausalLM learns by gradients, and KneserNeyLM counts"):
        quiet_trainer(tmp_path).fit(CausalLM(KneserNeyLM), datamodule=Streams())
    with pytest.raises(ValueError, match="CountingLM learns from token ids"):
        fitted(CountingLM(), WordPairs(), tmp_path)
    with pytest.raises(ValueError, match="does not continue the batch before"):
        fitted(CountingLM(carry_state=True), Streams(jump=True), tmp_path)
    with pytest.raises(ValueError, match="gradient_clip_val=1.0: CountingLM makes its own steps"):
        fitted(CountingLM(), Streams(), tmp_path, gradient_clip_val=1.0)
    trainer = quiet_trainer(tmp_path, devices=2, strategy="ddp")
    objective = CountingLM()
    objective.trainer = trainer
    with pytest.raises(ValueError, match="counts in one process, not in 2"):
        objective.configure_callbacks()

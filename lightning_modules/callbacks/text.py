"""Generated text and attention weights after a fit; training never waits for them."""

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor

from trellis.analysis.alignments import alignment_picture
from trellis.analysis.pictures import empty_figure
from trellis.checks import at_least_one
from trellis.lightning_modules.callbacks.after_fit import (
    evaluation,
    report,
    require_objective,
    validation_batches,
)
from trellis.lightning_modules.engine.logging import log_picture, log_table
from trellis.lightning_modules.sequence.causal_lm import CausalLM
from trellis.lightning_modules.sequence.counting_lm import CountingLM
from trellis.lightning_modules.sequence.sequence_to_sequence import SequenceToSequence
from trellis.sequence.batches import TokenPairs
from trellis.sequence.decoding import language_model, sample
from trellis.sequence.tokenizer import from_json
from trellis.spec import TokenSpec


class Alignments(L.Callback):
    """Attention from the target to the source in the first validation pairs, as pictures
    ``val/alignment_1`` and so on, after a fit.

    The targets are those of the data, not generated ones.

    Args:
        num_pictures: number of pairs to draw.
    Raises:
        ValueError: the objective is not ``SequenceToSequence``, or its network has no
            ``alignments(source, target)``.
    """

    def __init__(self, num_pictures: int = 4) -> None:
        self.num_pictures = at_least_one("num_pictures", num_pictures)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        empty_figure(1, 1)  # fails now, not after the training, where matplotlib is missing
        require_objective(type(self).__name__, pl_module, SequenceToSequence)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        network: Any = pl_module.network
        if not hasattr(network, "alignments"):
            raise ValueError(
                f"Alignments draws network.alignments(source, target), which "
                f"{type(network).__name__} does not have: choose a network with attention"
            )
        # A network that was built without attention refuses now, not after the training.
        word = torch.full((1, 1), 0 if _spec(pl_module).source.pad_id else 1)
        with evaluation(pl_module), trainer.precision_plugin.forward_context():
            network.alignments(word.to(pl_module.device), word.to(pl_module.device))

    @report
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        network: Any = pl_module.network
        source, target = _Reader(_spec(pl_module).source), _Reader(_spec(pl_module).target)
        number = 0
        for batch in _first_pairs(trainer, self.num_pictures):
            with evaluation(pl_module), trainer.precision_plugin.forward_context():
                weights = network.alignments(batch.source, batch.target[:, :-1])
            for read, written, part in zip(batch.source, batch.target, weights, strict=True):
                # Row t has the weights at the input of token t, which predict token t + 1.
                tokens, names = source.pieces(read), target.pieces(written)[1:]
                figure = alignment_picture(part[: len(names), : len(tokens)], tokens, names)
                number += 1
                log_picture(trainer, f"val/alignment_{number}", figure)


class Translations(L.Callback):
    """The first validation sources, their references and the generated targets, as the table
    ``val/translations``, after a fit.

    Args:
        num_rows: number of pairs to show.
    Raises:
        ValueError: the objective is not ``SequenceToSequence``.
    """

    def __init__(self, num_rows: int = 20) -> None:
        self.num_rows = at_least_one("num_rows", num_rows)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        require_objective(type(self).__name__, pl_module, SequenceToSequence)

    @report
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        source, target = _Reader(_spec(pl_module).source), _Reader(_spec(pl_module).target)
        rows: list[tuple[str, ...]] = []
        for batch in _first_pairs(trainer, self.num_rows):
            with evaluation(pl_module), trainer.precision_plugin.forward_context():
                written = pl_module.predict_step(batch, 0)
            sources = map(source.text, batch.source.tolist())
            references = batch.references or map(target.text, batch.target.tolist())
            shown = (each if isinstance(each, str) else ", ".join(each) for each in references)
            texts = (text if isinstance(text, str) else target.text(text) for text in written)
            rows += zip(sources, shown, texts, strict=True)
        log_table(trainer, "val/translations", ["source", "reference", "translation"], rows)


class SampledText(L.Callback):
    """Texts that the language model samples after a prompt, as the table ``sampled_text``, after a
    fit.

    Args:
        prompt: start of every text.
        num_rows: number of texts.
        max_new_tokens: number of tokens after which a text is cut off.
        temperature: divides the logits: below 1 favours probable tokens, above 1 rare ones.
        top_k: sample from this many of the most probable tokens; ``None`` from all.
        seed: of the sampling.
    Raises:
        ValueError: the objective is neither ``CausalLM`` nor ``CountingLM``, its data is not
            text, or the prompt is empty or cannot be tokenized.
    """

    def __init__(
        self,
        prompt: str = "\n",
        num_rows: int = 4,
        max_new_tokens: int = 500,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
    ) -> None:
        self.prompt, self.num_rows = prompt, at_least_one("num_rows", num_rows)
        self.max_new_tokens = at_least_one("max_new_tokens", max_new_tokens)
        self.temperature, self.top_k, self.seed = temperature, top_k, seed

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        require_objective(type(self).__name__, pl_module, CausalLM, CountingLM)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # What cannot be sampled is refused now, not after the training.
        self._sample(trainer, pl_module, num_rows=1, max_new_tokens=1)

    @report
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        texts = self._sample(trainer, pl_module, self.num_rows, self.max_new_tokens)
        log_table(trainer, "sampled_text", ["prompt", "text"], [(self.prompt, t) for t in texts])

    def _sample(
        self, trainer: L.Trainer, pl_module: L.LightningModule, num_rows: int, max_new_tokens: int
    ) -> list[str]:
        spec: TokenSpec = _spec(pl_module)
        if not spec.tokenizer:
            raise ValueError("SampledText needs data with a tokenizer; these tokens are not text")
        tokenizer = from_json(spec.tokenizer)
        start = [] if spec.bos_id is None else [spec.bos_id]
        ids = [*start, *tokenizer.encode(self.prompt)]
        if not ids:
            raise ValueError(f"SampledText(prompt={self.prompt!r}): give a text to start from")
        network: Any = pl_module.network
        device = pl_module.device
        with evaluation(pl_module), trainer.precision_plugin.forward_context():
            hypotheses = sample(
                language_model(network),
                torch.tensor([ids] * num_rows, device=device),
                eos_id=spec.eos_id,
                max_new_tokens=max_new_tokens,
                temperature=self.temperature,
                top_k=self.top_k,
                generator=torch.Generator(device).manual_seed(self.seed),
            )
        return [tokenizer.decode(written) for written in hypotheses.best()]


class _Reader:
    """Turns token ids into text, and into labels for the axis of a picture."""

    def __init__(self, spec: TokenSpec) -> None:
        self.tokenizer = from_json(spec.tokenizer) if spec.tokenizer else None
        self.pad_id = spec.pad_id
        self.special = {
            getattr(spec, f"{name}_id"): f"<{name}>"
            for name in ("pad", "bos", "eos", "unknown", "mask")
        }

    def text(self, ids: list[int]) -> str:
        """The text, without special tokens; the ids where there is no tokenizer."""
        if self.tokenizer is not None:
            return self.tokenizer.decode(ids)
        return " ".join(str(token) for token in ids if token not in self.special)

    def pieces(self, ids: Tensor) -> list[str]:
        """Names of all tokens but padding."""
        return [
            self.special.get(token) or self.text([token])
            for token in ids.tolist()
            if token != self.pad_id
        ]


def _first_pairs(trainer: L.Trainer, number: int) -> Iterator[TokenPairs]:
    """The first ``number`` validation pairs, in batches."""
    for batch in validation_batches(trainer):
        pairs = TokenPairs(*(part[:number] for part in batch))
        yield pairs
        number -= len(pairs.source)
        if number == 0:
            return


def _spec(pl_module: L.LightningModule) -> Any:
    return pl_module.spec

"""One sequence from another: translation, transliteration, sorting."""

import operator
from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import at_least_one, not_negative, probability
from trellis.lightning_modules.engine.evaluation import BatchMean, Perplexity
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.lightning_modules.engine.sharding import gathered
from trellis.lightning_modules.sequence.pronunciation_scores import PronunciationScores
from trellis.lightning_modules.sequence.text_scores import TextScores
from trellis.networks.sequence.transformer import TransformerSeq2Seq
from trellis.sequence.batches import TokenPairs
from trellis.sequence.beam_search import beam_search
from trellis.sequence.decoding import Hypotheses
from trellis.sequence.tokenizer import from_json
from trellis.spec import TokenPairSpec, differences


class EncoderDecoderFactory(Protocol):
    """Builds an encoder-decoder from its vocabularies; called by keyword.

    The network has ``encode(source) -> (memory, state)``, ``decode(tokens, state, memory) ->
    (logits, state)`` and ``forward(source, target) -> logits``, which calls the two in turn.
    """

    def __call__(
        self, source_tokens: int, target_tokens: int, *, source_pad_id: int, target_pad_id: int
    ) -> nn.Module: ...


class SequenceToSequence(Objective):
    """Cross-entropy of each target token given the source and the target before it, in nats.

    Batch: ``TokenPairs``, whose padding is ignored. Evaluation reports the cross-entropy without
    label smoothing, then decodes every source by beam search and reports the share of exact
    matches and, where the batch has references, BLEU and chrF, or of pronunciations the word and
    phoneme error rates.

    Args:
        network: from the vocabularies to an encoder-decoder.
        label_smoothing: share of the target distribution that is uniform over the vocabulary, in
            [0, 1].
        scheduled_sampling: probability that the decoder's next input in training is its own
            prediction instead of the true token; it then runs token by token.
        scheduled_sampling_steps: steps over which that probability grows linearly from 0.
        num_beams: beam size in evaluation; 1 is greedy decoding.
        length_penalty: exponent of the length by which a beam's log-probability is divided.
        max_new_tokens: length at which a generated target is cut off; it is also cut off after as
            many tokens as the network has learned positions (its ``max_length``).
    Raises:
        ValueError: a probability outside [0, 1], a count below 1, data without special ids, or a
            network to be trained whose embeddings are tied (one weight for ``source_embedding``
            and ``target_embedding``) with data of two vocabularies.

    Source: Sutskever et al. 2014; Szegedy et al. 2016, section 7 (smoothing); Bengio et al. 2015
    (scheduled sampling).
    """

    spec_type = TokenPairSpec
    network: Any  # it has encode and decode, which nn.Module does not declare

    def __init__(
        self,
        network: EncoderDecoderFactory = TransformerSeq2Seq,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TokenPairSpec | None = None,
        label_smoothing: float = 0.0,
        scheduled_sampling: float = 0.0,
        scheduled_sampling_steps: int = 0,
        num_beams: int = 1,
        length_penalty: float = 1.0,
        max_new_tokens: int = 100,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.label_smoothing = probability("label_smoothing", label_smoothing)
        self.scheduled_sampling = probability("scheduled_sampling", scheduled_sampling)
        self.num_beams = at_least_one("num_beams", num_beams)
        self.max_new_tokens = at_least_one("max_new_tokens", max_new_tokens)
        not_negative("scheduled_sampling_steps", scheduled_sampling_steps)
        self.network_factory, self.length_penalty = network, length_penalty
        self.scheduled_sampling_steps = scheduled_sampling_steps

    def build(self, spec: TokenPairSpec) -> None:
        source, target = spec.source, spec.target
        self.pad_id, self.bos_id, self.eos_id = (
            _given(name, getattr(target, name)) for name in ("pad_id", "bos_id", "eos_id")
        )
        sizes = {
            "source_tokens": source.num_tokens,
            "target_tokens": target.num_tokens,
            "source_pad_id": _given("pad_id", source.pad_id),
            "target_pad_id": self.pad_id,
        }
        self.build_network(sizes, "source", "target")
        self._tokenizer = from_json(target.tokenizer) if target.tokenizer else None

    def on_fit_start(self) -> None:
        super().on_fit_start()
        # Not in build: what was trained before there was this check can still be used.
        source, target = (
            getattr(getattr(self.network, f"{side}_embedding", None), "weight", None)
            for side in ("source", "target")
        )
        if source is not None and source is target:
            _check_one_vocabulary(self.spec)

    def metrics(self, spec: TokenPairSpec) -> Mapping[str, Metric]:
        metrics: dict[str, Metric] = {
            "loss": BatchMean(),
            "perplexity": Perplexity(),
            "exact_match": BatchMean(),
        }
        scores = TextScores if spec.scores == "translation" else PronunciationScores
        return {**metrics, "text": scores()} if spec.target.tokenizer else metrics

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits ``[B, T, target_tokens]`` of the tokens after those of ``target [B, T]``."""
        return self.network(source, target)

    def _loss(self, logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return F.cross_entropy(
            logits.flatten(0, 1),
            target[:, 1:].flatten(),
            ignore_index=self.pad_id,
            label_smoothing=label_smoothing,
        )

    def why_not_sharded(self) -> str | None:
        if self.scheduled_sampling:
            return "with scheduled_sampling calls its decoder once for each token"
        return None

    def training_step(self, batch: TokenPairs, batch_idx: int) -> Tensor:
        share = self._sampling_probability()
        if share > 0:
            logits = self._sampled_logits(batch, share)
        else:
            logits = self(batch.source, batch.target[:, :-1])
        loss = self._loss(logits, batch.target, self.label_smoothing)
        self.log_train(loss=loss)
        return loss

    def _sampling_probability(self) -> float:
        """Probability of scheduled sampling at this step."""
        if not self.scheduled_sampling_steps:
            return self.scheduled_sampling
        return self.scheduled_sampling * min(self.global_step / self.scheduled_sampling_steps, 1.0)

    def _sampled_logits(self, batch: TokenPairs, share: float) -> Tensor:
        """As ``forward``, with some of the inputs replaced by the network's own predictions."""
        memory, state = self.network.encode(batch.source)
        token, steps = batch.target[:, :1], []
        for column in range(1, batch.target.size(1)):
            logits, state = self.network.decode(token, state, memory)
            steps.append(logits)
            true = batch.target[:, column : column + 1]
            own = torch.rand(true.shape, device=true.device) < share
            token = logits.argmax(-1).where(own, true)
        return torch.cat(steps, dim=1)

    def generate(self, source: Tensor) -> Hypotheses:
        """Targets of ``source [B, S]`` by beam search, with at most ``max_new_tokens`` tokens.

        Returns:
            The best hypothesis of each source.
        """
        positions = getattr(self.network, "max_length", None) or self.max_new_tokens
        memory, state = self.network.encode(source)
        begin = torch.full((len(source), 1), self.bos_id, device=source.device)
        return beam_search(
            self.network.decode,
            begin,
            state,
            memory,
            num_beams=self.num_beams,
            eos_id=self.eos_id,
            max_new_tokens=min(self.max_new_tokens, positions),
            length_penalty=self.length_penalty,
        )

    def evaluate(self, batch: TokenPairs, stage: Stage) -> None:
        metrics, labels = self.evaluated(stage), batch.target[:, 1:]
        loss = self._loss(self(batch.source, batch.target[:, :-1]), batch.target)
        count = int((labels != self.pad_id).sum())
        metrics["loss"].update(loss, count)
        metrics["perplexity"].update(loss, count)
        with gathered(self.network):  # one process may need more tokens than another
            generated = self.generate(batch.source).best()
        targets = [self._target(ids) for ids in labels.tolist()]
        matches = sum(map(operator.eq, generated, targets)) / len(targets)
        metrics["exact_match"].update(torch.tensor(matches), len(targets))
        if self._tokenizer is not None and batch.references:
            texts = [self._tokenizer.decode(ids) for ids in generated]
            directions = (batch.directions,) if batch.directions else ()
            metrics["text"].update(texts, batch.references, *directions)

    def _target(self, ids: list[int]) -> list[int]:
        """The part of a target before ``eos_id``."""
        return ids[: ids.index(self.eos_id)] if self.eos_id in ids else ids

    def predict_step(self, batch: TokenPairs, batch_idx: int) -> list[str] | list[list[int]]:
        """The text generated from each source; its token ids where there is no tokenizer."""
        with gathered(self.network):  # one process may need more tokens than another
            generated = self.generate(batch.source).best()
        if self._tokenizer is None:
            return generated
        return [self._tokenizer.decode(ids) for ids in generated]


def _check_one_vocabulary(spec: TokenPairSpec) -> None:
    if wrong := differences(spec.source, spec.target):
        raise ValueError(
            f"SequenceToSequence: the network ties the embeddings of source and target, which "
            f"have two vocabularies ({'; '.join(wrong)}): share one (shared_vocabulary=true), or "
            f"tie the target's alone (tie=target)"
        )


def _given(name: str, special_id: int | None) -> int:
    if special_id is None:
        raise ValueError(
            f"SequenceToSequence: the spec has no {name}; give a source tokenizer with pad_id "
            f"and a target tokenizer with pad_id, bos_id and eos_id"
        )
    return special_id

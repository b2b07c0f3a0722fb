"""Translation of lines of text by a trained ``SequenceToSequence``."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trellis.checks import at_least_one
from trellis.lightning_modules.sequence.sequence_to_sequence import SequenceToSequence
from trellis.sequence.batches import Ragged, token_budget
from trellis.sequence.beam_search import beam_search
from trellis.sequence.decoding import Hypotheses, suppress_tokens
from trellis.sequence.tagged_tokenizer import TaggedTokenizer
from trellis.sequence.token_mixture import mixed_token
from trellis.sequence.tokenizer import Tokenizer, from_json


class Translation(NamedTuple):
    """The translation of one line.

    Args:
        text: the translation, on one line; empty for a line without words.
        source_tokens: number of tokens in the line, its end included; those beyond
            ``Translator.longest`` were ignored.
        finished: false where the translation was cut off.
    """

    text: str
    source_tokens: int
    finished: bool


class Translator:
    """Translates lines by beam search, in batches of similar length.

    Args:
        model: trained on text, in evaluation mode.
        num_beams: beam size; 1 is greedy decoding.
        length_penalty: exponent of the length; ``None`` takes the model's.
        max_new_tokens: length at which a translation is cut off; ``None`` takes the model's.
        max_source_tokens: length at which a line is cut off; it is also cut off after as many
            tokens as the network has positions.
        max_tokens: number of source tokens in a batch, padding included.
        to: tag -> its share, of a model of several languages: each line gets the first tag, whose
            vector is the weighted mean of those of all. ``None``: lines have their tags already.
    Raises:
        ValueError: a number is below 1, the model's tokens are not text, or it has no such tag.
    """

    def __init__(
        self,
        model: SequenceToSequence,
        *,
        num_beams: int = 5,
        length_penalty: float | None = None,
        max_new_tokens: int | None = None,
        max_source_tokens: int = 1000,
        max_tokens: int = 1024,
        to: Mapping[str, float] | None = None,
    ) -> None:
        spec = model.spec
        if not (spec.source.tokenizer and spec.target.tokenizer):
            raise ValueError(
                "the model's tokens are not text (its spec has no tokenizer): give a model that "
                "was trained on text"
            )
        self.model = model
        self.source, self.target = (from_json(s.tokenizer) for s in (spec.source, spec.target))
        self.tag, self.shares = _tags(self.source, to) if to else ("", {})
        self.num_beams = at_least_one("num_beams", num_beams)
        self.max_tokens = at_least_one("max_tokens", max_tokens)
        self.length_penalty = model.length_penalty if length_penalty is None else length_penalty
        new_tokens = model.max_new_tokens if max_new_tokens is None else max_new_tokens
        positions = getattr(model.network, "max_length", None) or sys.maxsize
        self.max_new_tokens = min(at_least_one("max_new_tokens", new_tokens), positions)
        self.longest = min(at_least_one("max_source_tokens", max_source_tokens), positions)

    def __call__(
        self, lines: Sequence[str], report: Callable[[int], None] | None = None
    ) -> list[Translation]:
        """Translations in the order of the lines.

        Args:
            lines: one sentence each.
            report: called after each batch with its number of lines.
        """
        translations = [Translation("", 0, True)] * len(lines)
        prefix = f"{self.tag} " if self.tag else ""
        encoded = dict(enumerate(self.source.encode_batch([f"{prefix}{line}" for line in lines])))
        places = [place for place, ids in encoded.items() if ids and lines[place].strip()]
        if report and len(places) < len(lines):
            report(len(lines) - len(places))
        if not places:
            return translations
        end = self.model.spec.source.eos_id
        tail = [] if end is None else [end]
        room = self.longest - len(tail)
        ragged = Ragged([[*encoded[place][:room], *tail] for place in places])
        plan = token_budget(ragged.lengths, self.max_tokens, shuffle=False)
        for batch in plan(torch.arange(len(places)), torch.Generator()):
            hypotheses = self._search(ragged.padded(batch, self.model.spec.source.pad_id))
            finished = hypotheses.finished[:, 0].tolist()
            for index, ids, ended in zip(batch.tolist(), hypotheses.best(), finished, strict=True):
                place = places[index]
                text = " ".join(self.target.decode(ids).splitlines())
                translations[place] = Translation(text, len(encoded[place]) + len(tail), ended)
            if report:
                report(len(batch))
        return translations

    @torch.no_grad()
    def _search(self, source: Tensor) -> Hypotheses:
        network: Any = self.model.network
        spec = self.model.spec.target
        source = source.to(self.model.device)
        mixture: Any = nullcontext()
        if self.shares:
            mixture = mixed_token(network.source_embedding, next(iter(self.shares)), self.shares)
        with mixture:
            memory, state = network.encode(source)
        return beam_search(
            suppress_tokens(network.decode, spec.suppressed_ids),
            source.new_full((len(source), 1), spec.bos_id),
            state,
            memory,
            eos_id=spec.eos_id,
            max_new_tokens=self.max_new_tokens,
            num_beams=self.num_beams,
            length_penalty=self.length_penalty,
        )


def _tags(tokenizer: Tokenizer, to: Mapping[str, float]) -> tuple[str, dict[int, float]]:
    """The tag to begin each line with, and the shares of the ids of all tags."""
    if not isinstance(tokenizer, TaggedTokenizer):
        raise ValueError(
            f"to={', '.join(to)}: the model translates in one direction only; leave it out"
        )
    return next(iter(to)), {tokenizer.tag_id(tag): share for tag, share in to.items()}

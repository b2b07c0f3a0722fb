"""What an objective may know about the data: plain numbers and strings, fixed after ``setup()``.

One class per kind of data; an objective names the kind it learns from, so a mismatch is found
before the first batch.
"""

import reprlib
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

# What the numbers of an example are: of any kind; pixels in [0, 1]; 0 or 1; bytes k with uniform
# noise u as (k + u) / 256; or the logits of these, squeezed into [alpha, 1 - alpha].
Values = Literal["real", "unit", "binary", "dequantized", "logit"]


@dataclass(frozen=True)
class TensorSpec:
    """Examples ``x [B, in_channels, *size]`` with a target each: vectors (no size) or images.

    Args:
        in_channels: features of a vector, colours of an image.
        out_channels: classes, or regression targets.
        size: height and width of an image; empty for vectors.
        classes: class names, in order of their labels.
        values: what the numbers of an example are.
        alpha: of ``logit`` values.
    """

    in_channels: int
    out_channels: int
    size: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    values: Values = "real"
    alpha: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return (self.in_channels, *self.size)


@dataclass(frozen=True)
class NodeSpec:
    """One graph whose nodes carry features and labels.

    Args:
        in_channels: features of a node.
        out_channels: classes of a node.
        classes: class names, in order of their labels.
    """

    in_channels: int
    out_channels: int
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GraphSpec:
    """Many graphs with one label each.

    Args:
        in_channels: features of a node.
        out_channels: classes of a graph.
        classes: class names, in order of their labels.
    """

    in_channels: int
    out_channels: int
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenSpec:
    """Sequences of token ids ``[B, T]``.

    Args:
        num_tokens: size of the vocabulary; ids are ``0 .. num_tokens - 1``.
        pad_id: fills sequences shorter than their batch; ``None`` where all are equally long.
        bos_id: begins a sequence (BERT's [CLS]).
        eos_id: ends a sequence (BERT's [SEP]).
        unknown_id: stands for what the vocabulary lacks; ``None`` if it refuses that.
        mask_id: hides a token (BERT's [MASK]).
        tokenizer: as ``trellis.sequence.tokenizer.from_json`` reads it; empty where tokens are
            not text.
    """

    num_tokens: int
    pad_id: int | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    unknown_id: int | None = None
    mask_id: int | None = None
    tokenizer: str = ""

    @property
    def silent_ids(self) -> list[int]:
        """Special ids that nobody is meant to write: all but ``eos_id``."""
        ids = (self.pad_id, self.bos_id, self.unknown_id, self.mask_id)
        return [special for special in ids if special is not None]


@dataclass(frozen=True)
class TokenPairSpec:
    """Pairs of sequences, the second to be produced from the first.

    Args:
        source: of what is read; has a ``pad_id``.
        target: of what is written; has ``pad_id``, ``bos_id`` and ``eos_id``.
    """

    source: TokenSpec
    target: TokenSpec


@dataclass(frozen=True)
class LabelledTokenSpec:
    """Sequences with one label each, or one for each token.

    Args:
        tokens: of the sequences; has a ``pad_id``.
        out_channels: classes of a sequence, or tags of a token.
        classes: their names, in order of their labels.
    """

    tokens: TokenSpec
    out_channels: int
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EnvironmentSpec:
    """What an agent sees and does in an environment.

    Args:
        environment: gymnasium's id.
        observation_shape: of one observation, real numbers; ``()`` if it is one of
            ``num_observations`` states.
        num_observations: states, where an observation is the number of one; else 0.
        num_actions: of a discrete choice; 0 where actions are real numbers.
        action_low: least value of each entry of a real action.
        action_high: largest value of each.
    """

    environment: str
    observation_shape: tuple[int, ...]
    num_observations: int = 0
    num_actions: int = 0
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()


def differences(old: Any, new: Any) -> list[str]:
    """Sizes in which two specs of one class differ, as ``name: old != new``.

    >>> was, now = TokenSpec(80, tokenizer="learnt"), TokenSpec(90, tokenizer="learnt again")
    >>> differences(TokenPairSpec(was, was), TokenPairSpec(was, now))
    ['target.num_tokens: 80 != 90', 'target.tokenizer: another vocabulary']
    """
    found = []
    for field in fields(old):
        name, a, b = field.name, getattr(old, field.name), getattr(new, field.name)
        if _plain(a) == _plain(b):
            continue
        if is_dataclass(a) and is_dataclass(b):
            found += [f"{name}.{difference}" for difference in differences(a, b)]
        elif name == "tokenizer":  # thousands of tokens as JSON tell nobody anything
            found.append(f"{name}: another vocabulary")
        else:
            found.append(f"{name}: {reprlib.repr(a)} != {reprlib.repr(b)}")
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

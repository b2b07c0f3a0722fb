"""What an objective may know about the data: plain numbers and strings, fixed after ``setup()``.

One class for each kind of data; an objective names the kind it learns from, so that a mismatch
is found before the first batch.
"""

import json
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

# The range of an example's numbers: any; pixels in [0, 1]; 0 or 1; bytes k with uniform noise u as
# (k + u) / 256; or the logits of those, rescaled to [alpha, 1 - alpha].
Values = Literal["real", "unit", "binary", "dequantized", "logit"]
# What there is to predict: a class label, an integer; or real numbers.
Targets = Literal["labels", "real"]
# What texts are generated from sources.
Scores = Literal["translation", "pronunciation"]


@dataclass(frozen=True)
class TensorSpec:
    """Examples ``x [B, in_channels, *size]`` with targets: vectors, signals or images.

    Args:
        in_channels: features of a vector, channels of a signal, colours of an image.
        out_channels: number of classes, or of real targets.
        size: height and width of an image, length of a signal; empty for vectors.
        classes: class names, in order of their labels; empty for real targets.
        values: range of the numbers in ``x``.
        alpha: the rescaling of ``logit`` values.
        targets: ``labels [B]`` in 0 to ``out_channels - 1``, or ``real`` numbers
            ``[B, out_channels]`` (or ``[B]``, where ``out_channels`` is 1).
        target_names: names of real targets; empty where they have none.
        target_means: of real targets in the training split, in their unit; empty: they are
            learnt as they are.
        target_scales: likewise their standard deviations.
        columns: JSON of the columns of a table and how they become ``x``; empty where examples
            are no rows.
    """

    in_channels: int
    out_channels: int
    size: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    values: Values = "real"
    alpha: float = 0.0
    targets: Targets = "labels"
    target_names: tuple[str, ...] = ()
    target_means: tuple[float, ...] = ()
    target_scales: tuple[float, ...] = ()
    columns: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return (self.in_channels, *self.size)

    @property
    def one_hot(self) -> tuple[tuple[int, int], ...]:
        """Start and width of each group of entries of ``x`` of which one is 1: categories."""
        groups, start = [], 0
        for column in json.loads(self.columns or "[]"):
            width = len(column["categories"])
            if width:
                groups.append((start, width))
            start += (width or 1) + column["indicator"]
        return tuple(groups)


@dataclass(frozen=True)
class TensorPairSpec:
    """Pairs of tensors: an input, and the target to translate it into.

    Args:
        input: of the inputs.
        target: of the targets.
        paired: whether the targets of a training batch belong to its inputs; in validation and
            test they do.
    """

    input: TensorSpec
    target: TensorSpec
    paired: bool = True


@dataclass(frozen=True)
class NodeSpec:
    """One graph whose nodes have features and class labels, or real targets.

    Args:
        in_channels: features of a node.
        out_channels: number of classes, or of real targets.
        classes: class names, in order of their labels.
        edge_weights: whether edges have an ``edge_weight``.
        edge_channels: features of an edge, in ``edge_attr``; 0 where they have none.
        targets: ``labels [N]``, or ``real`` numbers ``[N, out_channels]``.
        target_names: names of real targets.
        target_means: of real targets on the nodes of training, in their unit.
        target_scales: likewise their standard deviations.
        feature_names: of the features of a node, in their order; empty where they have none.
        edge_names: likewise of the features of an edge.
    """

    in_channels: int
    out_channels: int
    classes: tuple[str, ...] = ()
    edge_weights: bool = False
    edge_channels: int = 0
    targets: Targets = "labels"
    target_names: tuple[str, ...] = ()
    target_means: tuple[float, ...] = ()
    target_scales: tuple[float, ...] = ()
    feature_names: tuple[str, ...] = ()
    edge_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class LinkSpec:
    """One graph whose nodes have features, and pairs of nodes that are linked or not.

    Args:
        in_channels: features of a node.
        directed: whether ``u, v`` and ``v, u`` are two links.
        edge_weights: whether edges have an ``edge_weight``.
    """

    in_channels: int
    directed: bool = False
    edge_weights: bool = False


@dataclass(frozen=True)
class GraphSpec:
    """Many graphs with one class label each, or with several targets.

    Args:
        in_channels: features of a node.
        out_channels: number of classes, or of targets.
        classes: class names, in order of their labels.
        targets: ``labels``, ``real`` numbers, or ``binary``: 0 and 1.
        target_names: names of real and of binary targets.
        target_means: of real targets in the training split, in their unit; empty: they are learnt
            as they are.
        target_scales: likewise their standard deviations.
        edge_channels: features of an edge, in ``edge_attr [E, edge_channels]``, categories as
            one-hot vectors; 0 where they have none.
    """

    in_channels: int
    out_channels: int
    classes: tuple[str, ...] = ()
    targets: Literal["labels", "real", "binary"] = "labels"
    target_names: tuple[str, ...] = ()
    target_means: tuple[float, ...] = ()
    target_scales: tuple[float, ...] = ()
    edge_channels: int = 0


@dataclass(frozen=True)
class KnowledgeGraphSpec:
    """Triples of a head, a relation and a tail.

    Args:
        num_entities: heads and tails are ``0 .. num_entities - 1``.
        num_relations: without their inverses.
        entities: JSON list of their names.
        relations: likewise.
    """

    num_entities: int
    num_relations: int
    entities: str = ""
    relations: str = ""


@dataclass(frozen=True)
class TokenSpec:
    """Sequences of token ids ``[B, T]``.

    Args:
        num_tokens: size of the vocabulary; ids are ``0 .. num_tokens - 1``.
        pad_id: padding of short sequences; ``None`` where all are equally long.
        bos_id: begins a sequence (BERT's [CLS]).
        eos_id: ends a sequence (BERT's [SEP]).
        unknown_id: replaces words outside the vocabulary; ``None`` where these are refused.
        mask_id: replaces a token that is to be predicted (BERT's [MASK]).
        tokenizer: JSON that ``trellis.sequence.tokenizer.from_json`` reads; empty where tokens
            are not text.
    """

    num_tokens: int
    pad_id: int | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    unknown_id: int | None = None
    mask_id: int | None = None
    tokenizer: str = ""

    @property
    def suppressed_ids(self) -> list[int]:
        """Special ids that decoding must not produce: all but ``eos_id``."""
        ids = (self.pad_id, self.bos_id, self.unknown_id, self.mask_id)
        # In GPT-2's vocabulary one token is the beginning and the end.
        return [each for each in ids if each is not None and each != self.eos_id]


@dataclass(frozen=True)
class TokenPairSpec:
    """Pairs of sequences: a source, and the target to generate from it.

    Args:
        source: tokens of the source; has a ``pad_id``.
        target: tokens of the target; has ``pad_id``, ``bos_id`` and ``eos_id``.
        scores: how generated targets are compared with references: as translations, by BLEU and
            chrF, or as pronunciations, by the share of words and phonemes that are wrong.
    """

    source: TokenSpec
    target: TokenSpec
    scores: Scores = "translation"


@dataclass(frozen=True)
class LabelledTokenSpec:
    """Sequences with one class label each, or one for each token.

    Args:
        tokens: tokens of the sequences; has a ``pad_id``.
        out_channels: number of classes, or of tags.
        classes: names of the classes or tags, in order of their labels.
        characters: whether batches say how the word of each token is spelled: ``SpelledTokens``.
    """

    tokens: TokenSpec
    out_channels: int
    classes: tuple[str, ...] = ()
    characters: bool = False


@dataclass(frozen=True)
class QuestionSpec:
    """Questions whose answers are spans of passages.

    Args:
        tokens: of questions and passages; has ``pad_id``, ``bos_id`` and ``eos_id``.
        unanswerable: whether some passages do not have the answer.
    """

    tokens: TokenSpec
    unanswerable: bool = False


@dataclass(frozen=True)
class RatedPairSpec:
    """Pairs of sentences that people rated as similar or not.

    Args:
        tokens: of both sentences; has ``pad_id``, ``bos_id`` and ``eos_id``.
    """

    tokens: TokenSpec


@dataclass(frozen=True)
class EmbeddingSpec:
    """Words, nodes or other ids that are met in each other's company.

    Args:
        num_tokens: how many there are; ids are ``0 .. num_tokens - 1``.
        out_channels: number of classes of those that have a label; 0 where none has.
        classes: class names, in order of their labels.
        words: JSON list of the words, in order of their ids; empty where ids are no words.
        counts: likewise how often each occurs in the training text.
        scales: names of the sets of pairs of words that people rated as similar or not.
        analogies: whether there are analogies to solve.
    """

    num_tokens: int
    out_channels: int = 0
    classes: tuple[str, ...] = ()
    words: str = ""
    counts: str = ""
    scales: tuple[str, ...] = ()
    analogies: bool = False


@dataclass(frozen=True)
class EnvironmentSpec:
    """Observation and action space of an environment.

    Args:
        environment: gymnasium's id.
        observation_shape: shape of one real-valued observation; ``()`` where observations are
            discrete.
        num_observations: number of discrete observations; 0 where they are real-valued.
        num_actions: number of discrete actions; 0 where actions are continuous.
        action_low: lower bound of each entry of a continuous action.
        action_high: upper bound of each entry.
    """

    environment: str
    observation_shape: tuple[int, ...]
    num_observations: int = 0
    num_actions: int = 0
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()


_NAMES = ("feature_names", "edge_names")


def differences(old: Any, new: Any) -> list[str]:
    """Fields in which two specs of one class differ, as ``name: old != new``.

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
        elif (name in _NAMES and not (a and b)) or (name == "edge_channels" and not a):
            continue  # a checkpoint of an earlier release has none, and its network reads none
        elif name == "tokenizer":  # JSON of thousands of tokens would be unreadable
            found += [] if same_tokens(a, b) else [f"{name}: another vocabulary"]
        else:
            found.append(f"{name}: {reprlib.repr(a)} != {reprlib.repr(b)}")
    return found


def tokenizers_in(plain: Any) -> Iterator[str]:
    """The tokenizers of a spec in its plain form, as in a checkpoint; none of ``None``."""
    for name, value in plain.items() if isinstance(plain, dict) else ():
        if name == "tokenizer" and isinstance(value, str) and value:
            yield value
        else:
            yield from tokenizers_in(value)


def same_tokens(old: str, new: str) -> bool:
    """Whether two tokenizers differ in nothing but what trellis 0.1 did not write.

    Its tokenizers have no normal form and other rules for splitting words with combining marks;
    a text in that form without such words has the same ids for both.
    """
    if old == new:
        return True
    try:
        plain = json.loads(old), json.loads(new)
    except ValueError:
        return False
    if not all(isinstance(one, dict) for one in plain) or all("normalization" in p for p in plain):
        return False
    for one in plain:
        one.pop("normalization", None)
        one.pop("marks", None)
        one["model"] = one["model"]["model"] if "model" in one else None
    return plain[0] == plain[1]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

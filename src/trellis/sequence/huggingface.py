"""GPT-2 and BERT as Hugging Face's ``transformers`` names their tensors and options.

Weights go in both directions by one table: see ``Part``. Only names and numbers are read here,
never code, and ``transformers`` itself is not needed.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trellis.index import did_you_mean

BOTH, WEIGHT, BIAS = ("weight", "bias"), ("weight",), ("bias",)
# Theirs -> ours; that of GPT-2 is an approximation of GELU.
ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu",
    "silu": "silu", "swish": "silu", "tanh": "tanh",
}  # fmt: skip


class Part(NamedTuple):
    """A module of ours, and those of theirs that it holds.

    Args:
        ours: its name; ``{}`` stands for the number of a layer.
        theirs: names of modules whose tensors ours has one below the other.
        names: of its tensors.
        transposed: theirs has inputs as rows, as GPT-2's ``Conv1D``.
        reversed: theirs has the outputs in the opposite order.
    """

    ours: str
    theirs: tuple[str, ...]
    names: tuple[str, ...] = BOTH
    transposed: bool = False
    reversed: bool = False

    def to_ours(self, name: str, tensors: list[Tensor]) -> Tensor:
        """One tensor of ours, from those of theirs."""
        turned = self.transposed and name == "weight"
        whole = torch.cat([x.t() if turned else x for x in tensors])
        return whole.flip(0) if self.reversed else whole

    def to_theirs(self, name: str, tensor: Tensor) -> list[Tensor]:
        """The inverse of ``to_ours``."""
        whole = tensor.flip(0) if self.reversed else tensor
        turned = self.transposed and name == "weight"
        parts = whole.chunk(len(self.theirs))
        return [(x.t() if turned else x).contiguous() for x in parts]


class Family(NamedTuple):
    """A kind of network: where its tensors and its options are.

    Args:
        model_type: what ``config.json`` calls it.
        prefix: of all names but those of heads; lacking in a checkpoint without a head.
        heads: beginnings of the names of heads.
        fields: argument of our network -> field of ``config.json``.
        defaults: of fields that ``config.json`` may lack.
        required: fields whose other values our network cannot compute.
        tied: tensor that may be stored twice -> the one that it has to equal.
        ignored: pattern of tensors that are no weights, in files of older releases.
        body: its parts, without heads.
    """

    model_type: str
    prefix: str
    heads: tuple[str, ...]
    fields: Mapping[str, str]
    defaults: Mapping[str, Any]
    required: Mapping[str, Any]
    tied: Mapping[str, str]
    ignored: str
    body: tuple[Part, ...]

    def options(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of our network.

        Args:
            config: contents of ``config.json``.
        Raises:
            ValueError: a field has a value that is impossible, or that our network cannot compute.
        """
        for field, needed in self.required.items():
            if config.get(field, needed) != needed:
                raise ValueError(
                    f"{field}={config[field]!r}: only {field}={needed!r} is supported"
                )
        found = {}
        for name, field in self.fields.items():
            value = config.get(field, self.defaults[field])
            if name == "activation":
                if value not in ACTIVATIONS:
                    hint = did_you_mean(str(value), ACTIVATIONS) or ""
                    raise ValueError(f"{field}={value!r} is not supported{hint}")
                value = ACTIVATIONS[value]
            elif not _is_number(value, self.defaults[field]):
                raise ValueError(f"{field}={value!r}: give a number as {self.defaults[field]}")
            found[name] = value
        return found

    def config(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of ``config.json`` from the arguments of our network.

        Raises:
            ValueError: an activation that ``transformers`` does not have.
        """
        theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
        if options["activation"] not in theirs:
            raise ValueError(f"transformers has no activation {options['activation']!r}")
        known = {**options, "activation": theirs[options["activation"]]}
        return {
            "model_type": self.model_type,
            **self.defaults,
            **self.required,
            **{field: known[name] for name, field in self.fields.items()},
        }

    def canonical(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors under today's names, without copies and what is no weight.

        Raises:
            ValueError: what should be one tensor has two values.
        """
        bare = not any(name.startswith(self.prefix) for name in tensors)
        named = {}
        for name, tensor in tensors.items():
            # Files of TensorFlow's days have gamma and beta.
            new = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
            new = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", new)
            if bare and not new.startswith(self.heads):
                new = self.prefix + new
            if not re.fullmatch(self.ignored, new):
                named[new] = tensor
        for copy, original in self.tied.items():
            if (second := named.pop(copy, None)) is None:
                continue
            first = named.setdefault(original, second)
            if first.shape != second.shape or not torch.equal(first, second):
                raise ValueError(
                    f"{copy} differs from {original}: only networks that share them are supported"
                )
        return named


def _is_number(value: Any, usual: Any) -> bool:
    """Whether a value is of the kind that its field usually has."""
    if value is None or isinstance(value, bool):
        return value is usual
    return isinstance(value, (int, float) if isinstance(usual, float) else int)


def expanded(parts: tuple[Part, ...], num_layers: int) -> Iterator[Part]:
    """The parts, with those of each layer."""
    for part in parts:
        layers = range(num_layers) if "{}" in part.ours else (0,)
        for i in layers:
            theirs = tuple(name.format(i) for name in part.theirs)
            yield part._replace(ours=part.ours.format(i), theirs=theirs)


def to_ours(
    parts: tuple[Part, ...], num_layers: int, tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Our tensors, in float32, and what theirs are called; takes those used out of ``tensors``.

    Raises:
        ValueError: one is missing, or the tensors of one part do not fit together.
    """
    found, names = {}, {}
    for part in expanded(parts, num_layers):
        for name in part.names:
            theirs = [f"{each}.{name}" for each in part.theirs]
            if missing := [each for each in theirs if each not in tensors]:
                raise ValueError(f"there is no tensor {missing[0]}")
            values = [tensors.pop(each).float() for each in theirs]
            if any(
                x.ndim != (2 if name == "weight" and part.transposed else x.ndim) for x in values
            ):
                raise ValueError(f"{theirs[0]} is {list(values[0].shape)}, not a matrix")
            if len({x.shape for x in values}) > 1:
                shapes = ", ".join(str(list(x.shape)) for x in values)
                raise ValueError(f"{', '.join(theirs)} differ in shape: {shapes}")
            found[f"{part.ours}.{name}"] = part.to_ours(name, values)
            names[f"{part.ours}.{name}"] = theirs[0]
    return found, names


def to_theirs(
    parts: tuple[Part, ...], num_layers: int, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The inverse of ``to_ours``; biases that our network does not have are 0."""
    found = {}
    for part in expanded(parts, num_layers):
        for name in part.names:
            key = f"{part.ours}.{name}"
            if name == "bias" and key not in weights:
                weight = weights[f"{part.ours}.weight"]
                value = weight.new_zeros(len(weight))
            else:
                value = weights[key].detach()
            for theirs, tensor in zip(part.theirs, part.to_theirs(name, value), strict=True):
                found[f"{theirs}.{name}"] = tensor.clone()
    return found


GPT2 = Family(
    model_type="gpt2",
    prefix="transformer.",
    heads=("lm_head.",),
    fields={
        "context": "n_positions", "embed_dim": "n_embd", "num_heads": "n_head",
        "num_layers": "n_layer", "feedforward_dim": "n_inner", "dropout": "resid_pdrop",
        "attention_dropout": "attn_pdrop", "activation": "activation_function",
        "norm_eps": "layer_norm_epsilon",
    },
    defaults={
        "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12,
        "n_inner": None, "resid_pdrop": 0.1, "attn_pdrop": 0.1,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
    },
    required={
        "add_cross_attention": False, "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False, "tie_word_embeddings": True,
    },
    tied={"lm_head.weight": "transformer.wte.weight"},
    ignored=r"transformer\.h\.\d+\.attn\.(masked_)?bias",
    body=(
        Part("tokens", ("transformer.wte",), WEIGHT),
        Part("positions", ("transformer.wpe",), WEIGHT),
        Part("layers.{}.residual.norm", ("transformer.h.{}.ln_1",)),
        Part("layers.{}.attention.query_key_value", ("transformer.h.{}.attn.c_attn",),
             transposed=True),
        Part("layers.{}.attention.output", ("transformer.h.{}.attn.c_proj",), transposed=True),
        Part("layers.{}.feedforward.residual.norm", ("transformer.h.{}.ln_2",)),
        Part("layers.{}.feedforward.hidden", ("transformer.h.{}.mlp.c_fc",), transposed=True),
        Part("layers.{}.feedforward.output", ("transformer.h.{}.mlp.c_proj",), transposed=True),
        Part("norm", ("transformer.ln_f",)),
    ),
)  # fmt: skip

_LAYER = "bert.encoder.layer.{}"
BERT = Family(
    model_type="bert",
    prefix="bert.",
    heads=("cls.", "classifier."),
    fields={
        "max_length": "max_position_embeddings", "embed_dim": "hidden_size",
        "num_heads": "num_attention_heads", "num_layers": "num_hidden_layers",
        "feedforward_dim": "intermediate_size", "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob", "activation": "hidden_act",
        "norm_eps": "layer_norm_eps", "init_std": "initializer_range",
    },
    defaults={
        "vocab_size": 30522, "max_position_embeddings": 512, "hidden_size": 768,
        "num_attention_heads": 12, "num_hidden_layers": 12, "intermediate_size": 3072,
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu",
        "layer_norm_eps": 1e-12, "initializer_range": 0.02, "pad_token_id": 0,
    },
    required={
        "is_decoder": False, "add_cross_attention": False, "type_vocab_size": 2,
        "position_embedding_type": "absolute", "tie_word_embeddings": True,
    },
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=r"bert\.embeddings\.(position|token_type)_ids",
    body=(
        Part("body.tokens", ("bert.embeddings.word_embeddings",), WEIGHT),
        Part("body.positions", ("bert.embeddings.position_embeddings",), WEIGHT),
        Part("body.segments", ("bert.embeddings.token_type_embeddings",), WEIGHT),
        Part("body.norm", ("bert.embeddings.LayerNorm",)),
        Part("body.layers.{}.attention.query_key_value",
             tuple(f"{_LAYER}.attention.self.{each}" for each in ("query", "key", "value"))),
        Part("body.layers.{}.attention.output", (f"{_LAYER}.attention.output.dense",)),
        Part("body.layers.{}.residual.norm", (f"{_LAYER}.attention.output.LayerNorm",)),
        Part("body.layers.{}.feedforward.hidden", (f"{_LAYER}.intermediate.dense",)),
        Part("body.layers.{}.feedforward.output", (f"{_LAYER}.output.dense",)),
        Part("body.layers.{}.feedforward.residual.norm", (f"{_LAYER}.output.LayerNorm",)),
    ),
)  # fmt: skip
FAMILIES = {family.model_type: family for family in (GPT2, BERT)}

POOLER = (Part("pooler", ("bert.pooler.dense",)),)
# Theirs has the pairs in order first, ours last.
ORDER = (Part("order", ("cls.seq_relationship",), reversed=True),)
TOKEN_HEAD = (
    Part("hidden", ("cls.predictions.transform.dense",)),
    Part("norm", ("cls.predictions.transform.LayerNorm",)),
    Part("output", ("cls.predictions",), BIAS),
)
CLASSES = (Part("output", ("classifier",)),)

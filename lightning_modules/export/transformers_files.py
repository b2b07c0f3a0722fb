"""A GPT or a BERT of ours as a folder that Hugging Face's ``transformers`` reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.export.transformers_folder import (
    IDS,
    MODELS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    Model,
)
from trellis.lightning_modules.export.weights import CONFIG, WEIGHTS
from trellis.networks.sequence.gpt import GPT
from trellis.nn.attention import CausalSelfAttention
from trellis.sequence.huggingface import BERT, GPT2, to_theirs
from trellis.sequence.imported_tokenizer import ROLES
from trellis.sequence.tokenizer import Tokenizer, from_json
from trellis.spec import LabelledTokenSpec, TokenSpec


def write_transformers(objective: Objective, folder: Path) -> None:
    """Write what ``transformers`` reads: ``config.json``, ``model.safetensors`` and a tokenizer.

    Args:
        objective: trained, whose network is a ``GPT`` or a BERT of ours.
        folder: to write to.
    Raises:
        ImportError: the extra ``export`` is missing.
        ValueError: a network, or an option of it, that ``transformers`` does not have.
    """
    from safetensors.torch import save_file

    network: Any = getattr(objective, "network", None)
    architecture = next((n for n, m in MODELS.items() if type(network) is m.network), None)
    if architecture is None:
        raise ValueError(
            f"format transformers: there is no counterpart of {type(network).__name__}; it is "
            f"written for {', '.join(dict.fromkeys(m.network.__name__ for m in MODELS.values()))}"
        )
    model = MODELS[architecture]
    options, body = _options_of(network), getattr(network, "body", network)
    parts = (*model.family.body, *model.heads, *(p for parts in model.optional for p in parts))
    weights = to_theirs(parts, options["num_layers"], network.state_dict())
    weights = {name: value.cpu() for name, value in weights.items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(folder.stat().st_mode & 0o666)
    spec: Any = objective.spec
    tokens: TokenSpec = getattr(spec, "tokens", spec)
    config = {
        "architectures": [architecture],
        **model.family.config(options),
        "vocab_size": body.tokens.num_embeddings,
        "dtype": str(body.tokens.weight.dtype).removeprefix("torch."),
        **{name: getattr(tokens, f"{role}_id") for name, role in IDS.items()},
    }
    if model.family is GPT2:
        config["embd_pdrop"] = options["dropout"]
    if isinstance(spec, LabelledTokenSpec):
        names = spec.classes or tuple(f"LABEL_{i}" for i in range(spec.out_channels))
        config["id2label"] = {str(i): name for i, name in enumerate(names)}
        config["label2id"] = {name: i for i, name in enumerate(names)}
        config["classifier_dropout"] = network.dropout.p
    _write_json(folder / CONFIG, config)
    if tokens.tokenizer:
        _write_tokenizer(from_json(tokens.tokenizer), model, folder, options)


def _options_of(network: Any) -> dict[str, Any]:
    """Arguments of a network of ours, from what it is."""
    body = getattr(network, "body", network)
    options = {**vars(body.options), "num_layers": len(body.layers)}
    kind = type(body.positions).__name__
    if isinstance(network, GPT) and kind != "LearnedPositions":
        raise ValueError(f"format transformers: its GPT-2 has learned positions, not {kind}")
    if isinstance(network, GPT):
        attention = network.layers[0].attention
        name = type(attention).__name__
        if type(attention) is not CausalSelfAttention:
            raise ValueError(f"format transformers: its GPT-2 has no {name}")
        if attention.window or attention.key_value_heads != attention.num_heads:
            raise ValueError("format transformers: its GPT-2 has no window or groups of heads")
    if not isinstance(network, GPT) and options["norm_first"]:
        raise ValueError("format transformers: its BERT has no norm_first=True")
    if not isinstance(network, GPT):
        options["init_std"] = body.init_std
    length = "context" if isinstance(network, GPT) else "max_length"
    return {**options, length: body.positions.max_length}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_tokenizer(
    tokenizer: Tokenizer, model: Model, folder: Path, options: Mapping[str, Any]
) -> None:
    if (content := tokenizer.to_tokenizers()) is None:
        rank_zero_info(
            f"{type(tokenizer).__name__} has no counterpart in tokenizers: no {TOKENIZER} is "
            f"written, encode texts with trellis"
        )
        return
    names = {i: token for token, i in content["model"]["vocab"].items()}
    names |= {each["id"]: each["content"] for each in content.get("added_tokens", ())}
    ids = {role: tokenizer._special(index) for role, index in ROLES.items()}
    known = {role: names[i] for role, i in ids.items() if i is not None}
    bert = model.family is BERT
    roles = {"pad": "pad_token", "unknown": "unk_token", "mask": "mask_token",
             "bos": "cls_token" if bert else "bos_token",
             "eos": "sep_token" if bert else "eos_token"}  # fmt: skip
    if bert and content.get("post_processor") is None and {"bos", "eos"} <= known.keys():
        content["post_processor"] = _sentences(known["bos"], ids["bos"], known["eos"], ids["eos"])
    segments = ["token_type_ids"] if bert else []
    _write_json(folder / TOKENIZER, content)
    _write_json(
        folder / TOKENIZER_CONFIG,
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": options.get("max_length", options.get("context")),
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", *segments, "attention_mask"],
            **{roles[role]: token for role, token in known.items()},
        },
    )


def _sentences(first: str, first_id: Any, last: str, last_id: Any) -> dict[str, Any]:
    """[CLS] a [SEP], or [CLS] a [SEP] b [SEP], as the processor of the ``tokenizers`` library."""

    def special(name: str, segment: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": segment}}

    def text(name: str, segment: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": segment}}

    single = [special(first, 0), text("A", 0), special(last, 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", 1), special(last, 1)],
        "special_tokens": {
            name: {"id": name, "ids": [i], "tokens": [name]}
            for name, i in ((first, first_id), (last, last_id))
        },
    }

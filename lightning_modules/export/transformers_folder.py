"""GPT-2 and BERT from the folders of Hugging Face's ``transformers``.

That library is not needed: a folder is JSON and safetensors, and a tokenizer that the
``tokenizers`` library reads.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.export.weights import CONFIG, WEIGHTS, read_weights
from trellis.lightning_modules.sequence.causal_lm import CausalLM
from trellis.lightning_modules.sequence.masked_lm import MaskedLM
from trellis.lightning_modules.sequence.sequence_classification import SequenceClassification
from trellis.lightning_modules.sequence.tagging import Tagging
from trellis.networks.sequence.bert import BertClassifier, BertPretraining, BertTagger
from trellis.networks.sequence.gpt import GPT
from trellis.random import isolated_rng
from trellis.sequence.huggingface import (
    BERT,
    CLASSES,
    FAMILIES,
    GPT2,
    ORDER,
    POOLER,
    TOKEN_HEAD,
    Family,
    Part,
    to_ours,
)
from trellis.sequence.imported_tokenizer import ImportedTokenizer
from trellis.spec import LabelledTokenSpec, TokenSpec

INDEX, TOKENIZER, TOKENIZER_CONFIG = (
    "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"
)  # fmt: skip
# In tokenizer_config.json -> ours. BERT says [CLS] and [SEP], GPT-2 <|endoftext|> for both.
_TOKENS = {
    "pad_token": "pad", "bos_token": "bos", "cls_token": "bos", "eos_token": "eos",
    "sep_token": "eos", "mask_token": "mask",
}  # fmt: skip
# In config.json, for a model that came without its tokenizer.
IDS = {"pad_token_id": "pad", "bos_token_id": "bos", "eos_token_id": "eos"}


class Model(NamedTuple):
    """An architecture of theirs and what it is here.

    Args:
        family: of the network.
        network: ours.
        objective: that trains it.
        heads: parts beside the body, which must be there.
        optional: likewise, which are initialised where they are missing.
    """

    family: Family
    network: type[torch.nn.Module]
    objective: type[Objective]
    heads: tuple[Part, ...] = ()
    optional: tuple[tuple[Part, ...], ...] = ()


_PRETRAINING = Model(BERT, BertPretraining, MaskedLM, (), (TOKEN_HEAD, POOLER, ORDER))
MODELS = {
    "GPT2LMHeadModel": Model(GPT2, GPT, CausalLM),
    "GPT2Model": Model(GPT2, GPT, CausalLM),
    "BertForPreTraining": _PRETRAINING,
    "BertForMaskedLM": _PRETRAINING,
    "BertModel": _PRETRAINING,
    "BertForSequenceClassification": Model(
        BERT, BertClassifier, SequenceClassification, (*POOLER, *CLASSES)
    ),
    "BertForTokenClassification": Model(BERT, BertTagger, Tagging, CLASSES),
}


def read_transformers(
    folder: str | Path, kind: str | None = None, mask_id: int | None = None
) -> Objective:
    """The objective of a checkpoint of ``transformers``, in evaluation mode on the CPU.

    A GPT-2 becomes a ``CausalLM``, a BERT a ``MaskedLM``, a ``SequenceClassification`` or a
    ``Tagging``. Parts of pretraining that it lacks are initialised, and named.

    Args:
        folder: with ``config.json`` and ``model.safetensors``, as ``save_pretrained`` writes it,
            and ``tokenizer.json`` where texts are to be read.
        kind: ``gpt2`` or ``bert``, which it must be; ``None`` takes either.
        mask_id: of [MASK], for a BERT without a tokenizer.
    Raises:
        FileNotFoundError: a file is missing.
        ImportError: safetensors or tokenizers are not installed.
        OSError: a file is damaged.
        ValueError: another architecture, weights that are a pickle, a tensor that is missing,
            unknown or of another size, or an option that our network cannot compute.
    """
    path = Path(folder)
    config = _read_json(path / CONFIG)
    model = _model_of(config, kind, path)
    tensors = _read_tensors(path)
    try:
        return _build(model, config, tensors, path, mask_id)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None


def is_transformers(folder: str | Path) -> bool:
    """Whether the ``config.json`` in a folder is one of ``transformers``, and not of trellis."""
    path = Path(folder) / CONFIG
    try:
        config = _read_json(path)
    except OSError:  # it is missing or damaged, of which the reader of either kind tells
        return False
    return "model_type" in config and "trellis" not in config


def _model_of(config: Mapping[str, Any], kind: str | None, path: Path) -> Model:
    """What a checkpoint is here; an error names its architecture."""
    found = config.get("model_type")
    named = (config.get("architectures") or [None])[0]
    what = f"{path} holds a {named or found or 'network without a name'}"
    if found not in FAMILIES or (named is not None and named not in MODELS):
        raise ValueError(f"{what}, which cannot be imported: give one of {', '.join(MODELS)}")
    if kind is not None and found != kind:
        raise ValueError(f"{what}, and no {kind}: trellis import {found}")
    return MODELS[named or ("GPT2Model" if found == "gpt2" else "BertModel")]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path.name} in {path.parent}: give a folder that save_pretrained wrote"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OSError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise OSError(f"{path} is damaged: it holds a {type(content).__name__}")
    return content


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if (path / WEIGHTS).is_file():
        return read_weights(path / WEIGHTS)
    if not (path / INDEX).is_file():
        pickles = [*path.glob("*.bin"), *path.glob("*.pt")]
        raise FileNotFoundError(
            f"there is no {WEIGHTS} in {path}"
            + (
                f", and {pickles[0].name} is a pickle, which may run code when it is read: "
                f"write it again with save_pretrained of transformers"
                if pickles
                else ": give a folder that save_pretrained wrote"
            )
        )
    names = {str(name) for name in _read_json(path / INDEX).get("weight_map", {}).values()}
    found: dict[str, Tensor] = {}
    for name in sorted(names):
        if Path(name).name != name or not (path / name).is_file():
            raise FileNotFoundError(f"there is no {name} in {path}, which {INDEX} names")
        found |= read_weights(path / name)
    return found


def _build(
    model: Model,
    config: Mapping[str, Any],
    tensors: dict[str, Tensor],
    path: Path,
    mask_id: int | None,
) -> Objective:
    options = model.family.options(config)
    tensors = model.family.canonical(tensors)
    parts = (*model.family.body, *model.heads)
    lacking = []
    for part in model.optional:
        if any(name.startswith(f"{each.theirs[0]}.") for name in tensors for each in part):
            parts += part
        else:
            lacking += [each.ours for each in part]
    weights, names = to_ours(parts, options["num_layers"], tensors)
    if tensors:
        first = ", ".join(sorted(tensors)[:3])
        raise ValueError(f"{len(tensors)} tensors are unknown: {first}")
    spec = _spec(model, config, path, mask_id)
    objective = model.objective(network=_factory(model, config, options), spec=spec)  # type: ignore[call-arg]
    with torch.device("meta"):  # allocates nothing, whatever sizes the config claims
        shadow = model.objective(network=_factory(model, config, options), spec=spec)  # type: ignore[call-arg]
        shadow.configure_model()
    for name, value in shadow.network.state_dict().items():
        if name in weights and weights[name].shape != value.shape:
            found, wanted = list(weights[name].shape), list(value.shape)
            raise ValueError(f"{names[name]} has the sizes {found}, {CONFIG} says {wanted}")
    with isolated_rng(0):
        objective.configure_model()
    missing, unexpected = objective.network.load_state_dict(weights, strict=False)
    assert not unexpected
    if lacking:
        rank_zero_info(f"{path}: it has no {', '.join(lacking)}: initialised")
    return objective.eval()


def _factory(model: Model, config: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    if model.network in (BertClassifier, BertTagger):
        dropout = config.get("classifier_dropout")
        options = {**options, "head_dropout": options["dropout"] if dropout is None else dropout}
    return partial(model.network, **options)


def _spec(
    model: Model, config: Mapping[str, Any], path: Path, mask_id: int | None
) -> TokenSpec | LabelledTokenSpec:
    defaults = model.family.defaults
    size = config.get("vocab_size", defaults["vocab_size"])
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"vocab_size={size!r}: give a number of at least 1")
    ids = {role: config.get(name, defaults.get(name)) for name, role in IDS.items()}
    special = {role: i for role, i in ids.items() if isinstance(i, int) and 0 <= i < size}
    if (path / TOKENIZER).is_file():
        tokens = _tokenizer(path, size, special).spec
    else:
        special |= {} if mask_id is None else {"mask": mask_id}
        named: dict[str, Any] = {f"{role}_id": i for role, i in special.items()}
        tokens = TokenSpec(size, **named)
    if model.objective is MaskedLM and tokens.mask_id is None:
        raise ValueError(
            f"there is no {TOKENIZER}, which would say which id is [MASK]: give --mask_id"
        )
    if model.objective in (CausalLM, MaskedLM):
        return tokens
    if config.get("problem_type") not in (None, "single_label_classification"):
        raise ValueError(f"problem_type={config['problem_type']!r}: only classes are supported")
    named = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    classes = tuple(str(named[i]) for i in sorted(named, key=int))
    return LabelledTokenSpec(tokens, len(classes), classes)


def _tokenizer(path: Path, size: int, special: Mapping[str, int]) -> ImportedTokenizer:
    """The tokenizer of a folder, whose special tokens two files may name."""
    model = _read_json(path / TOKENIZER)
    named: dict[str, Any] = {}
    for file in ("special_tokens_map.json", TOKENIZER_CONFIG):
        if (path / file).is_file():
            named |= _read_json(path / file)
    ids = {each["content"]: each["id"] for each in model.get("added_tokens", ())}
    vocabulary = model["model"].get("vocab", {})
    ids |= vocabulary if isinstance(vocabulary, dict) else {}
    roles = dict(special)
    for name, role in _TOKENS.items():
        token = named.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if token in ids:
            roles[role] = ids[token]
    unknown = model["model"].get("unk_token")
    roles |= {"unknown": ids[unknown]} if unknown in ids else {}
    return ImportedTokenizer(model=model, special=roles, num_tokens=size)

"""The words of a command line before they are parsed: configs found, checkpoints unfolded."""

import json
import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from trellis.index import did_you_mean, public_names
from trellis.lightning_modules.commands.ledger import TRAINER_LAYERS, configs_dir
from trellis.lightning_modules.engine.checkpoint import read
from trellis.lightning_modules.engine.run_config import not_stored, resumed_run


def import_named(args: list[str] | dict[str, Any]) -> None:
    """Import what the short names of a command line and its configs may mean, and nothing else."""
    texts = [json.dumps(args)] if isinstance(args, dict) else list(args)
    if isinstance(args, list):
        paths = (*given(args, "--config"), *given(args, "-c"))
        texts += [Path(path).read_text(encoding="utf-8") for path in paths if _is_file(path)]
    known = public_names()
    for word in sorted({word for text in texts for word in re.findall(r"\w+", text)}):
        if word in known:
            import_module(known[word].rpartition(".")[0])


def contents(words: list[str]) -> list[Any]:
    """What the config files of a command line hold."""
    paths = (*given(words, "--config"), *given(words, "-c"))
    return [
        yaml.safe_load(Path(path).read_text(encoding="utf-8")) for path in paths if _is_file(path)
    ]


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except OSError:  # a config given as text may be too long for a name
        return False


def with_known_configs(words: list[str]) -> list[str]:
    """The command line with configs that come with trellis found from any folder.

    ``graph/gcn_cora.yaml``, ``gcn_cora`` and ``trainer/ddp`` are short for theirs.

    Raises:
        FileNotFoundError: a config is neither a file nor one of trellis's; names the nearest.
    """
    flags, known = ("--config", "-c"), []
    for before, word in zip(["", *words], words, strict=False):
        flag, equals, value = word.partition("=")
        if before in flags:
            known.append(_known_config(word))
        elif equals and flag in flags:
            known += [flag, _known_config(value)]
        else:
            known.append(word)
    return known


def _known_config(word: str) -> str:
    path, root = Path(word), configs_dir()
    if _is_file(word):
        try:
            yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no valid YAML: {error}") from None
        return word
    short = re.fullmatch(r"\w[\w/-]*", word) is not None  # else a config given as text
    if path.suffix not in (".yaml", ".yml") and not short:
        return word
    name = f"{word}.yaml" if short else word
    known = {p.relative_to(root).as_posix(): p for p in sorted(root.glob("*/*.yaml"))}
    for tail in (name, name.removeprefix("configs/")):
        if tail in known:
            return str(known[tail])
    if short and (found := [p for p in known.values() if p.name == name]):
        return str(found[0])
    hint = did_you_mean(word, _written_as(word, known), cutoff=0.4) or "; see trellis list configs"
    raise FileNotFoundError(f"there is no config {word}{hint}")


def _written_as(word: str, known: Iterable[str]) -> dict[str, None]:
    """The known configs in the style of ``word``: bare names, or paths from the checkout."""
    if word.endswith((".yaml", ".yml")):
        return dict.fromkeys(f"configs/{name}" for name in known)
    names = [name.removesuffix(".yaml") for name in known]
    return dict.fromkeys(name if "/" in word else name.rpartition("/")[2] for name in names)


def with_checkpoint(words: list[str]) -> list[str]:
    """The command line with the config inside the checkpoint put before everything typed."""
    paths = given(words, "--ckpt_path")
    if not paths or paths[-1] in ("best", "last", "null"):
        return words
    checkpoint = read(paths[-1], weights=False)
    sections = {"model": "hyper_parameters", "data": "datamodule_hyper_parameters"}
    config = {
        name: _section(checkpoint[key])
        for name, key in sections.items()
        if "_class_path" in checkpoint.get(key, {})
    }
    if words[0] == "fit":
        config |= resumed_run(checkpoint)
        if lacking := not_stored(checkpoint):
            rank_zero_warn(f"{paths[-1]}: {lacking}")
    return [words[0], "--config", json.dumps(config), *words[1:]]


def _section(hparams: dict[str, Any]) -> dict[str, Any]:
    init_args = {k: v for k, v in hparams.items() if k not in ("_instantiator", "_class_path")}
    return {"class_path": hparams["_class_path"], "init_args": init_args}


def given(words: list[str], flag: str) -> list[str]:
    """Values of a flag on the command line: those after a space, then those after an ``=``."""
    values = [b for a, b in zip(words, words[1:], strict=False) if a == flag]
    return values + [word.split("=", 1)[1] for word in words if word.startswith(f"{flag}=")]


def run_name(words: list[str]) -> str | None:
    """Name of the last config file, or of the run that a checkpoint lies in.

    A layer that says where to train, as ``trainer/ddp`` does, names no run.
    """
    layers = configs_dir() / TRAINER_LAYERS
    for flag, depth in (("--config", None), ("-c", None), ("--ckpt_path", 2), ("--init_from", 2)):
        for value in reversed(given(words, flag)):
            path = Path(value)
            if depth is None and path.suffix in (".yaml", ".yml", ".json"):
                if path.absolute().parent != layers:
                    return path.stem
            elif depth is not None and len(path.absolute().parents) > depth:
                return path.absolute().parents[depth].name
    return None

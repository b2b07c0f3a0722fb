"""Configs with mistakes are answered in a line or two, never with a traceback."""

import copy
import logging
import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from trellis.lightning_modules import cli
from trellis.lightning_modules.commands import run
from trellis.lightning_modules.commands.ledger import whole_configs

JUNK: list[Any] = [
    None, True, 0, -1, 10**30, 1.5, float("nan"), float("inf"), "", " ", "x", "NaN", "0x1f", "GCN",
    "torch.nn.ReLU", "no.such.Thing", "../..", "ключ", "\u202eabc", "\x00", "a: b", "[1, 2", "{}",
    "${oc.env:HOME}", "x" * 5000, [], [[]], [None, {}], {}, {"": 1}, {"class_path": None},
    {"class_path": "torch.nn.ReLU"}, {"class_path": "GCN", "init_args": []}, {"init_args": {}},
    {"class_path": ["GCN"]}, {"class_path": "", "init_args": {"": ""}}, {1: 2}, {None: None},
]  # fmt: skip


class Built(BaseException):
    """The config was accepted: everything of it has been made."""


def entries(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [path, *(p for key, item in value.items() for p in entries(item, (*path, key)))]
    return [path]


def mutated(config: Any, draw: random.Random) -> str:
    """The text of a config with one to three mistakes."""
    config = copy.deepcopy(config)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        place = draw.choice([p for p in entries(config) if p] or [()])
        entry = config
        for key in place[:-1]:
            entry = entry[key]
        if not place:
            return draw.choice(["", "[]", "x", "1", "null", "- model", "--- \n---\n"])
        match draw.randrange(5):
            case 0:
                del entry[place[-1]]
            case 1:
                name = str(place[-1])
                swap = draw.choice([name[:-1], name + "s", name.upper(), f"{name}.x", "ключ", ""])
                entry[swap] = entry.pop(place[-1])
            case 2 | 3:
                entry[place[-1]] = copy.deepcopy(draw.choice(JUNK))
            case 4:
                entry[draw.choice(["new", "class_path", "init_args", "dict_kwargs", 7])] = (
                    copy.deepcopy(draw.choice(JUNK))
                )
    return misspelt(yaml.safe_dump(config, allow_unicode=True), draw)


def misspelt(text: str, draw: random.Random) -> str:
    """A text of which one in four has a mistake of its own, not of what it says."""
    match draw.randrange(12):
        case 0:
            return text + text  # each key twice
        case 1:
            return text[: draw.randrange(len(text))]
        case 2:
            position = draw.randrange(len(text))
            return text[:position] + draw.choice(":[{&*!%@`\t\"'-\n") + text[position:]
    return text


def answer(text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str | None:
    """What is wrong with the answer to a config; ``None`` if nothing is."""
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        cli.main(["fit", "--config", str(path)])
    except Built:
        return None
    except SystemExit as stop:
        said = capsys.readouterr().err
        lines = [line for line in said.splitlines() if "Seed set" not in line]
        if stop.code != 2 or not said:
            return f"ended with {stop.code}"
        if len(lines) > 2 or max(map(len, lines)) > 1200:
            return f"long answer: {said[:600]}"
        if "TRELLIS_TRACEBACK" in said or "Traceback" in said:
            return f"not understood: {said[-400:]}"
        if ": error: " not in lines[0]:
            return f"no answer: {said[:300]}"
        return None
    return "it went on"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_a_config_with_mistakes_is_answered(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build = run.TrellisCLI.instantiate_classes

    def only_build(self: run.TrellisCLI) -> None:
        build(self)
        raise Built

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run.TrellisCLI, "instantiate_classes", only_build)
    logging.getLogger("lightning.fabric.utilities.seed").addFilter(lambda _: False)
    known = [yaml.safe_load(path.read_text()) for path in whole_configs()]
    draw, faults = random.Random(seed), []
    for number in range(int(os.environ.get("TRELLIS_FUZZ", "130"))):
        text = mutated(known[number % len(known)], draw)
        try:
            fault = answer(text, tmp_path, capsys)
        except Exception as error:
            fault = f"raised {type(error).__name__}: {error}"
        if fault:
            faults.append((number, fault, text[:2000]))
    assert not faults, "\n".join(f"{number}: {fault}" for number, fault, _ in faults)
    assert not list(tmp_path.rglob("*.ckpt"))

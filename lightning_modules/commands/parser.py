"""Short answers to a wrong command line."""

import re
import sys
from typing import NoReturn

import lightning as L
import torch
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger

from trellis.index import nearest, public_names
from trellis.lightning_modules.engine.jsonargparse_private import option_names, subclass_paths

# The lines of jsonargparse's long answers that say what is wrong.
_TELLING = re.compile(
    r"not accepted|Expected|Expecting|Key|No such|not found|[Mm]ultiple|required|[Ii]nvalid"
    r"|unrecognized|does not|Import|must"
)

_LACKING = {
    "data": "nothing says what to learn from: give --data; trellis list data names some, and any "
    "LightningDataModule of yours, as my_package.MyData, is one",
    "model": "nothing says what is to learn: give --model; trellis list objectives names some, "
    "and any LightningModule of yours, as my_package.MyModule, is one",
}


class Parser(LightningArgumentParser):
    """A parser that answers a mistake in two lines, with the nearest valid name."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = str(message)
        if lacking := re.search(r"arguments are required: (\w+)\.(data|model)$", text):
            sys.stderr.write(f"trellis {lacking[1]}: error: {_LACKING[lacking[2]]}\n")
            sys.exit(2)
        prog = self.prog.replace(" [options]", "")
        prog = prog if prog.startswith("trellis") else "trellis"  # of a class within
        near = _near_options(text, option_names(self)) or _near_classes(text)
        sys.stderr.write(f"{prog}: error: {_shortened(text)}\n")
        if near:
            sys.stderr.write(f"did you mean {' or '.join(near)}?\n")
        sys.exit(2)


def _shortened(text: str) -> str:
    """The line of jsonargparse's answer that says what is wrong."""
    lines = [line.strip(" -") for line in text.strip().splitlines() if line.strip(" -")]
    telling = [line for line in lines if _TELLING.search(line)]
    chosen = telling[-1] if telling else lines[-1]
    if words := re.findall(r"Expected a typing.Literal\[(.*?)\]", text):
        given = re.findall(r"(?:Given|Got) value: (.*)", text)
        chosen = f"{given[-1] if given else 'none of these'}: give one of {', '.join(words)}"
    chosen = re.sub(
        r"Expected a path but (.{0,80}).* either not accessible or invalid",
        r"\1 is no class that fits, and no file",
        chosen,
    )
    chosen = re.sub(r"Expected a <class 'NoneType'>.*", "no class of that name fits", chosen)
    return chosen if chosen == lines[0] else f"{lines[0][:160]} {chosen[:400]}"


def _near_options(text: str, known: list[str]) -> list[str]:
    words = re.findall(r"(?:unrecognized arguments: |[Oo]ption '|Key ')(?:--)?([\w.]+)", text)
    options = [option for option in known if option != "--help"]
    near = [nearest(f"--{word}", options) for word in words]
    return list(dict.fromkeys(filter(None, near)))


def _near_classes(text: str) -> list[str]:
    """Short names of classes near to those in the message or on the command line."""
    bases = (L.Callback, Logger, torch.optim.Optimizer)
    others = {path.rsplit(".", 1)[-1] for base in bases for path in subclass_paths(base)}
    names = {*public_names(), *others}
    near = [
        nearest(word, names, cutoff=0.75)
        for word in re.findall(r"\b[A-Z]\w+", " ".join([text, *sys.argv[2:]]))
        if word not in names and word not in ("Parser", "Expected", "NoneType")
    ]
    return list(dict.fromkeys(filter(None, near)))

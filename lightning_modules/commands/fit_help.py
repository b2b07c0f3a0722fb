"""``trellis fit --help`` and its like: first what a user types, then what Lightning takes.

Read from the source: the parser itself would need seconds, and list four hundred lines.
"""

import ast
import re
from collections.abc import Iterator
from textwrap import fill

from trellis import index
from trellis.lightning_modules.commands.precheck import options, trainer_sources
from trellis.options import Option
from trellis.options import options as options_of_class

WIDTH = 99
DOES = {
    "fit": ("train an objective on data", "--config CONFIG | --model OBJECTIVE --data DATA"),
    "validate": ("evaluate a checkpoint on the validation split", "CHECKPOINT"),
    "test": ("evaluate a checkpoint on the test split", "CHECKPOINT"),
    "predict": ("write the predictions of a checkpoint on the test split", "CHECKPOINT"),
}
EXAMPLES = {
    "fit": (
        "trellis fit --config graph/gcn_cora.yaml",
        "trellis fit --model NodeClassification --data KarateClub --model.network GAT",
        "trellis fit --config gcn_cora --model.optimizer.lr 0.005 --trainer.max_epochs 100",
    ),
    "validate": ("trellis validate runs/gcn_cora/0/checkpoints/best.ckpt",),
    "test": ("trellis test runs/gcn_cora/0/checkpoints/best.ckpt",),
    "predict": ("trellis predict runs/gcn_cora/0/checkpoints/best.ckpt",),
}
WHAT = (
    ("--config CONFIG", "a YAML file, or one of trellis list configs; several are layered, later "
     "ones win"),
    ("--model OBJECTIVE", "one of trellis list objectives, or your own my_package.MyModule"),
    ("--model.OPTION VALUE", "an option of it: trellis list objectives OBJECTIVE"),
    ("--model.network NETWORK", "one of trellis list networks, or your own my_package.MyNetwork"),
    ("--model.network.OPTION VALUE", "an option of it: trellis list networks NETWORK"),
    ("--model.optimizer NAME", "of torch.optim, with --model.optimizer.lr 0.01 and the like"),
    ("--data DATA", "one of trellis list data, or your own my_package.MyData"),
    ("--data.OPTION VALUE", "an option of it: trellis list data DATA"),
    ("--import MODULE", "import a module of yours first: its names are known and trusted"),
    ("--seed_everything SEED", "of weights, order and noise (0)"),
    ("--ckpt_path CHECKPOINT", "resume it exactly, or evaluate it; what is typed beats what it "
     "says"),
    ("--init_from CHECKPOINT", "take its weights and nothing else"),
    ("--print_config", "show the whole config and stop"),
)  # fmt: skip
# Of the trainer, those that most runs set; the others follow in Lightning's order.
FIRST = ("max_epochs", "max_steps", "run_name", "default_root_dir", "accelerator", "devices",
         "precision", "callbacks", "logger", "gradient_clip_val", "compile")  # fmt: skip
_ENTRY = re.compile(r"^ {4}(\w+):\s+(.*(?:\n(?: {5,}.*)?)*)", re.MULTILINE)


def text(words: list[str]) -> str:
    """The help of one of Lightning's four commands.

    Args:
        words: the command line after ``trellis``; the options of classes that it names are shown.
    """
    command = words[0]
    does, given = DOES[command]
    lines = [f"usage: trellis {command} {given} [options]", "", does, "", "examples:"]
    lines += [f"  {each}" for each in EXAMPLES[command]]
    lines += ["", "what a run is made of:", *map(_row, WHAT)]
    for name, value in options(words):
        if name in ("model", "data", "model.network") and value in index.public_names():
            lines += ["", f"--{name} {value}: {index.summary(value)}"]
            lines += [
                _row((f"--{name}.{each.name}", told(each))) for each in options_of_class(value)
            ]
    lines += ["", "how it is trained, by the options of trellis.Trainer and of Lightning's:"]
    lines += [_row((f"--trainer.{name}", meaning)) for name, meaning in trainer_options().items()]
    lines += ["", "Callbacks and loggers go by their short names, as in --trainer.callbacks "
              "EarlyStopping", "--trainer.callbacks.monitor val/loss; "
              "--trainer.callbacks.help EarlyStopping shows what one takes."]  # fmt: skip
    return "\n".join(lines)


def told(option: Option) -> str:
    """Meaning and default of an option in one line."""
    default = f" ({option.default})" if option.default else " (from the data)"
    if not option.default and option.name not in ("in_channels", "out_channels"):
        default = " (must be given, or comes from the data)"
    return f"{option.meaning.rstrip('.')}{default}"


def trainer_options() -> dict[str, str]:
    """Options of the trainer with the first sentence of what its docstring says of each."""
    found: dict[str, str] = {}
    for path in trainer_sources():
        for text in _docstrings(ast.parse(path.read_text(encoding="utf-8"))):
            arguments = text.partition("Args:\n")[2].partition("Raises:\n")[0]
            for name, meaning in _ENTRY.findall(arguments):
                if (sentence := _first_sentence(meaning)) != "see Lightning":
                    found.setdefault(name, sentence)
    found.pop("options", None)
    return {name: found[name] for name in (*FIRST, *found) if name in found}


def _docstrings(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Trainer":
            yield ast.get_docstring(node) or ""
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    yield ast.get_docstring(item) or ""


def _first_sentence(meaning: str) -> str:
    paragraph = " ".join(meaning.split("\n\n")[0].split()).replace("``", "")
    paragraph = re.sub(r":\w+:`(?:~[\w.]+\.)?([^`]*)`", r"\1", paragraph).replace("\\", "")
    return re.split(r"(?<=[a-z)])\. ", f"{paragraph} ")[0].strip()


def _row(row: tuple[str, str]) -> str:
    flag, meaning = row
    head = f"  {flag:<32}"
    if len(flag) > 30:
        return f"  {flag}\n" + fill(
            meaning, WIDTH, initial_indent=" " * 34, subsequent_indent=" " * 34
        )
    return fill(meaning, WIDTH, initial_indent=head, subsequent_indent=" " * 34)

"""The ``trellis`` command: finds the command asked for and imports nothing else.

Lightning takes seconds to import; help, version and lists answer without it.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from trellis import __version__
from trellis.index import did_you_mean
from trellis.own_code import import_first, named

# name -> (module whose main takes the words after ``trellis``, one line of help)
COMMANDS = {
    "demo": ("demo", "a GCN on handwritten digits beside an MLP, offline, in seconds"),
    "fit": ("run", "train an objective on data; resume with --ckpt_path"),
    "validate": ("run", "evaluate a checkpoint on the validation split"),
    "test": ("run", "evaluate a checkpoint on the test split"),
    "predict": ("run", "write the predictions of a checkpoint on the test split"),
    "generate": ("generate", "text, images or points from a generative checkpoint"),
    "translate": ("translate", "lines of a file, by the translator of a checkpoint"),
    "play": ("play", "episodes of an agent of a checkpoint, in numbers or as a film"),
    "explain": ("explain", "which edges and features a prediction for a node rests on"),
    "check": ("check", "the health of a model before it is trained, in a minute"),
    "export": ("export", "a checkpoint as torch.export program, ONNX, safetensors and card"),
    "import": ("import_model", "a GPT-2 or BERT of Hugging Face's transformers as a checkpoint"),
    "search": ("search", "try hyper-parameters of a config, by Optuna or as a W&B sweep"),
    "list": ("list", "networks, objectives, data, configs and the ledger"),
    "reproduce": ("reproduce", "run a published result again and compare"),
}
_BAD_INPUT = (ValueError, OSError, FloatingPointError, MemoryError)
EXAMPLES = """examples:
  trellis fit --config configs/graph/gcn_cora.yaml
  trellis fit --model NodeClassification --data KarateClub --trainer.max_epochs 100
  trellis test --ckpt_path runs/gcn_cora/0/checkpoints/best.ckpt
  trellis reproduce gcn-cora
"""
OWN = """modules of yours, with --import MODULE (several times for several):
  their classes and environments are known by name, and trusted when a checkpoint names them
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; exit code 2 and one or two lines on bad input.

    Args:
        argv: words after ``trellis``; ``None`` takes those of the process.
    """
    words, modules = _without_imports(list(sys.argv[1:] if argv is None else argv))
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return
    if words[0] in ("-V", "--version"):
        print(__version__)
        return
    if words[0] not in COMMANDS:
        hint = did_you_mean(words[0], COMMANDS) or f"; choose from {', '.join(COMMANDS)}"
        _fail("trellis", f"unknown command {words[0]!r}{hint}")
    with named(modules):
        _guarded(words)


def _without_imports(words: list[str]) -> tuple[list[str], list[str]]:
    """The command line without ``--import MODULE``, and the modules."""
    others, modules, rest = [], [], iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag != "--import":
            others.append(word)
            continue
        value = value if equals else next(rest, "")
        if not value or value.startswith("-"):
            _fail("trellis", "--import: give a module of yours, such as my_package or my_file.py")
        modules.append(value)
    return others, modules


def usage() -> str:
    """Text of ``trellis --help``."""
    rows = "\n".join(f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items())
    return (
        f"usage: trellis COMMAND [options]\n\n{rows}\n\n{EXAMPLES}\n{OWN}\ntrellis COMMAND --help"
    )


def _guarded(words: list[str]) -> None:
    command = words[0]
    try:
        import_first()
        module = COMMANDS[command][0]
        if module == "run" and {"-h", "--help"} & {*words}:
            print(import_module("trellis.lightning_modules.commands.fit_help").text(words))
            return
        if module == "run":
            import_module("trellis.lightning_modules.commands.precheck").check_words(words)
        import_module(f"trellis.lightning_modules.commands.{module}").main(words)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has gone: end as a Unix tool does
        # Python flushes what is left when it ends; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as stop:  # Lightning's own ends of an interrupted run
        if isinstance(stop.__context__, KeyboardInterrupt):
            sys.exit(130)
        sys.exit(143 if type(stop).__name__ == "SIGTERMException" else stop.code)
    except Exception as error:
        if os.environ.get("TRELLIS_TRACEBACK"):
            raise
        _tell(command, error)


def _tell(command: str, error: Exception) -> None:
    if getattr(error, "told", False):  # by another process of the run, which raised it, too
        sys.exit(2)
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ImportError):
        from trellis.lightning_modules.commands.extras import missing_extra

        text = missing_extra(text) or text
    # What trellis and Lightning check reads as a sentence; anything else may be a defect.
    told = isinstance(error, _BAD_INPUT) or (
        isinstance(error, ImportError) and "pip install" in text
    )
    if not told and "Misconfiguration" not in type(error).__name__:
        text += f"\n({type(error).__name__}; TRELLIS_TRACEBACK=1 shows where)"
    _fail(f"trellis {command}", text)


def _fail(who: str, text: str) -> None:
    sys.stderr.write(f"{who}: error: {text}\n")
    sys.exit(2)

"""Runs the code of a guide, and puts what it prints beneath it.

A guide is Markdown. Its blocks run one after the other in an empty folder:

- a block after a line that ends in the name of a file and a colon ("`lab.py`:") is that file;
- a block of ``python`` runs, with the names of those before it;
- a block without a language whose lines are commands of ``trellis`` runs, in the same process.

Every other block, such as one of ``console``, is only shown.
"""

import contextlib
import io
import logging
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`([\w./-]+\.\w+)`[^`\n]*:\s*\Z")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|.*\r(?!\n)")
QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")
LINES = 14  # of what a block prints that are shown: its last ones


def executed(text: str, name: str) -> str:
    """The guide with the output of its blocks.

    Args:
        text: of the guide.
        name: said in the error.
    Raises:
        RuntimeError: a block fails; names the guide and the block's line.
    """
    parts, end = [], 0
    names: dict[str, object] = {"__name__": "__main__"}
    with _empty_folder(), _without_news():
        for block in _BLOCK.finditer(text):
            parts.append(text[end : block.end()])
            end = block.end()
            try:
                printed = _run(block[1], block[2], text[: block.start()], names)
            except (Exception, SystemExit) as error:
                line = text.count("\n", 0, block.start()) + 1
                raise RuntimeError(f"{name}, line {line}: {error or type(error)}") from error
            if printed:
                shown = "\n".join(printed.splitlines()[-LINES:])
                parts.append(f"\n\n```{{code-block}} text\n:class: output\n\n{shown}\n```")
    return "".join([*parts, text[end:]])


def _run(language: str, code: str, before: str, names: dict[str, object]) -> str:
    """Write or run a block; what it prints."""
    if match := _FILE.search(before):
        path = Path(match[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
        return ""
    if language == "python":
        with (
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()),  # progress
        ):
            exec(compile(code, "<guide>", "exec"), names)
        return _clean(out.getvalue())
    if not language and code.startswith("trellis "):
        return "".join(_command(line) for line in code.replace("\\\n", " ").splitlines())
    return ""


def _command(line: str) -> str:
    """What a command prints.

    Raises:
        RuntimeError: it ends with another exit code than 0; says what it wrote.
    """
    from trellis.lightning_modules.cli import main

    words = shlex.split(line, comments=True)[1:]
    if words and words[0] in ("fit", "validate", "test", "predict"):
        words += QUIET
    with (
        patch.dict(os.environ, {"COLUMNS": "72"}),  # width of Lightning's tables
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        try:
            main(words)
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"{line}: {errors.getvalue()}") from None
    return _clean(out.getvalue())


def _clean(text: str) -> str:
    """What stays on a terminal: no colours, and of lines written over the last state."""
    lines = (line.rstrip() for line in _ESCAPES.sub("", text).splitlines())
    return "".join(f"{line}\n" for line in lines if line)


@contextlib.contextmanager
def _without_news() -> Iterator[None]:
    """Let the loggers of the libraries write warnings only."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _empty_folder() -> Iterator[None]:
    """Work in an empty folder, whose modules are forgotten afterwards."""
    start = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            os.chdir(start)
            sys.path.remove(folder)
            for name, module in list(sys.modules.items()):
                if str(getattr(module, "__file__", None) or "").startswith(folder):
                    del sys.modules[name]

"""``trellis translate``: the lines of a file or of standard input, translated, in their order."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from trellis.files import decode_utf8
from trellis.lightning_modules.commands.checkpoint_parser import checkpoint_parser

if TYPE_CHECKING:
    from trellis.lightning_modules.sequence.translation import Translator

PIECE = 1 << 16  # bytes that are read, sorted by length and translated together


def main(words: list[str]) -> None:
    """Write a translation for each line, an empty one for a line without words.

    Lines that have arrived are translated together, so a slow writer gets its answers one by one.
    A line of more tokens than the network can read, or than ``--max_source_tokens``, is cut; it
    and a translation that does not end are named on stderr.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another objective, no tokenizer, or bytes that are not UTF-8: the lines before
            them are translated.
    """
    args = _parser().parse_args(words[1:])
    _check_files(args)
    # These imports take seconds, and a wrong option needs none of them.
    from trellis.lightning_modules.commands.text_models import load_as
    from trellis.lightning_modules.sequence.sequence_to_sequence import SequenceToSequence
    from trellis.lightning_modules.sequence.translation import Translator

    translator = Translator(
        load_as(args.checkpoint, SequenceToSequence, args.device),
        num_beams=args.num_beams,
        length_penalty=args.length_penalty,
        max_new_tokens=args.max_new_tokens,
        max_source_tokens=args.max_source_tokens,
        max_tokens=args.max_tokens,
        to=shares_of(args.to) if args.to else None,
    )
    with ExitStack() as stack:
        source: Any = sys.stdin.buffer
        if args.file != "-":
            source = stack.enter_context(open(args.file, "rb"))
        sink: BinaryIO = sys.stdout.buffer
        if args.output:
            sink = stack.enter_context(open(args.output, "wb"))
        name = "standard input" if args.file == "-" else args.file
        _translate(translator, read_pieces(source, name), sink)


def _parser() -> argparse.ArgumentParser:
    parser = checkpoint_parser("translate", __doc__, "of a SequenceToSequence")
    add = parser.add_argument
    add("file", help="UTF-8, a sentence a line; - reads standard input")
    add("--output", help="file to write instead of standard output")
    add("--num_beams", type=int, default=5, help="hypotheses side by side; 1 is greedy (5)")
    add("--length_penalty", type=float, help="exponent of the length that a sum of "
        "log-probabilities is divided by; the checkpoint's by default")  # fmt: skip
    add("--max_new_tokens", type=int, help="longest translation; the checkpoint's by default")
    add("--max_source_tokens", type=int, default=1000, help="longer lines are cut (1000)")
    add("--max_tokens", type=int, default=1024, help="of the lines read together, padding "
        "included (1024)")  # fmt: skip
    add("--to", help="language of a model of several, as '<2de>'; or a mixture, as "
        "'<2de>=0.7,<2en>=0.3'")  # fmt: skip
    return parser


def shares_of(text: str) -> dict[str, float]:
    """Shares of the tags of a mixture; one tag alone has all.

    Raises:
        ValueError: a share is no number.

    >>> shares_of("<2de>"), shares_of("<2de>=0.7,<2en>=0.3")
    ({'<2de>': 1.0}, {'<2de>': 0.7, '<2en>': 0.3})
    """
    shares = {}
    for part in text.split(","):
        tag, _, share = part.partition("=")
        try:
            shares[tag.strip()] = float(share) if share else 1.0
        except ValueError:
            raise ValueError(f"--to {text}: {share!r} is no number, write {tag}=0.5") from None
    return shares


def _check_files(args: argparse.Namespace) -> None:
    if args.file == "-":
        return
    path = Path(args.file)
    if not path.exists() or path.is_dir():  # a pipe is no regular file, and welcome
        raise FileNotFoundError(f"there is no file {path}")
    if args.output and Path(args.output).exists() and path.samefile(args.output):
        raise ValueError(f"--output {args.output} is the file to translate: name another")


def read_pieces(source: BufferedReader, name: str) -> Iterator[list[str]]:
    r"""Lines without their ends, as many at a time as have arrived, up to ``PIECE`` bytes.

    Args:
        source: where from.
        name: what errors call it.
    Raises:
        ValueError: a line is not UTF-8; those before it have been given out.

    >>> import io
    >>> list(read_pieces(io.BytesIO(b"ein Satz\r\n\nnoch einer"), "x.de"))
    [['ein Satz', ''], ['noch einer']]
    """
    rest, number = b"", 0
    while piece := source.read1(PIECE):
        *complete, rest = (rest + piece).split(b"\n")
        yield from _decoded(complete, number, name)
        number += len(complete)
    if rest:
        yield from _decoded([rest], number, name)


def _decoded(raw_lines: list[bytes], before: int, name: str) -> Iterator[list[str]]:
    """The lines as one list, or those before a wrong byte and then an error."""
    lines: list[str] = []
    for number, raw in enumerate(raw_lines, before + 1):
        try:
            text = decode_utf8(raw, name, number)
        except ValueError:
            if lines:
                yield lines
            raise
        lines.append(text.removesuffix("\r"))
    if lines:
        yield lines


def _translate(translator: "Translator", pieces: Iterator[list[str]], sink: BinaryIO) -> None:
    from trellis.lightning_modules.commands.text_models import say

    progress, before = _Progress(), 0
    for lines in pieces:
        results = translator(lines, progress)
        sink.write("".join(f"{result.text}\n" for result in results).encode())
        sink.flush()
        for number, result in enumerate(results, before + 1):
            if result.source_tokens > translator.longest:
                say(
                    "translate",
                    f"line {number} has {result.source_tokens:,} tokens: what comes after "
                    f"{translator.longest:,} was not read",
                )
            if not result.finished:
                say(
                    "translate",
                    f"line {number}: the translation was cut off after "
                    f"{translator.max_new_tokens:,} tokens",
                )
        before += len(lines)
    progress.end()


class _Progress:
    """How many lines are done, on stderr: often for a person, seldom for a file."""

    def __init__(self) -> None:
        self.done, self.start = 0, time.monotonic()
        self.shown, self.person = self.start, sys.stderr.isatty()

    def __call__(self, lines: int) -> None:
        self.done += lines
        if time.monotonic() - self.shown > (0.3 if self.person else 30):
            self._show("\r" if self.person else "\n")

    def end(self) -> None:
        """Say it for the last time."""
        self._show("\n")

    def _show(self, end: str) -> None:
        self.shown = time.monotonic()
        seconds = self.shown - self.start
        rate = self.done / max(seconds, 1e-9)
        text = f"{self.done:,} lines in {seconds:.1f} s ({rate:.1f} lines/s)"
        print(f"trellis translate: {text}", file=sys.stderr, end=end, flush=True)

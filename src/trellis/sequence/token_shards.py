"""Text files to files of token ids, in parallel and in steps that survive a kill.

The text is cut into pieces, which are encoded one by one, and runs of pieces into shards, each of
which is written whole or not at all. ``encode_shards`` writes those that are missing, so that
whatever ended it, the next call goes on where it stopped.

Worker processes are started by name (``python -m trellis.sequence.token_shards``): unlike those of
``multiprocessing``, they need no ``if __name__ == "__main__"`` in the user's script, and copy no
thread's lock.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trellis.files import atomic_write, atomic_write_text, decode_utf8
from trellis.sequence.tokenizer import EOS, Tokenizer, from_json

PIECE = 1 << 20  # bytes that are encoded at once; tokenizers hold some hundred bytes per token
SHARD = 32  # pieces; what a kill can cost; starting a worker takes as long as encoding them
# Exit statuses of workers that end with an error which no second try can mend.
ERRORS: dict[int, type[Exception]] = {3: ValueError, 4: OSError}
ATTEMPTS = 3  # in a row in which no shard is finished
_LOOK_AHEAD = 4096


class Span(NamedTuple):
    """Bytes ``start .. end - 1`` of a text file in UTF-8.

    With ``by_line``, it is cut after lines only; each is encoded by itself, without the white
    space around it, and ends with ``EOS``. Otherwise the text is one sequence of tokens.
    """

    path: str
    start: int
    end: int
    by_line: bool = False

    def cut_at(self, position: int) -> int:
        """A place near ``position`` to cut at: after a line, a space or at least a character.

        It is at most 4 KB later, or after the line, and cuts further apart stay in order.
        """
        if position <= self.start:
            return self.start
        if position >= self.end:
            return self.end
        with open(self.path, "rb") as file:
            file.seek(position)
            if self.by_line:
                return position + len(file.readline(self.end - position))
            ahead = file.read(min(_LOOK_AHEAD, self.end - position))
        for separator in (b"\n", b" "):
            if (found := ahead.find(separator)) >= 0:
                return position + found + 1
        return position + _continuation(ahead)

    def pieces(self, size: int) -> Iterator["Span"]:
        """The span in parts of about ``size`` bytes."""
        start = self.start
        for position in range(self.start + size, self.end + size, size):
            end = self.cut_at(position)
            if end > start:
                yield self._replace(start=start, end=end)
            start = end

    def text(self) -> str:
        """Text of the span, with Unix line ends and without byte order mark.

        Raises:
            ValueError: it is not UTF-8; names line and column.
        """
        with open(self.path, "rb") as file:
            file.seek(self.start)
            raw = file.read(self.end - self.start)
        try:
            text = decode_utf8(raw, self.path, first_line=1 if self.start == 0 else 2)
        except ValueError:  # only now are the lines before worth counting
            decode_utf8(raw, self.path, 1 + _newlines(self.path, self.start))
            raise
        return text.replace("\r\n", "\n")

    def texts(self) -> list[str]:
        """The texts to encode: all of it, or each line; see ``text``."""
        return split_lines(self.text()) if self.by_line else [self.text()]

    def encoded(self, texts: Sequence[str], tokenizer: Tokenizer) -> np.ndarray:
        """Ids of its texts."""
        if not self.by_line:
            return tokenizer.encode_array(texts[0])
        ended = (chain(ids, (EOS,)) for ids in tokenizer.encode_batch(texts))
        return np.fromiter(chain.from_iterable(ended), tokenizer.id_type)


class Shard(NamedTuple):
    """A file of token ids, and the text that they come from."""

    target: str
    pieces: list[Span]

    def is_missing(self) -> bool:
        """Whether it is still to be written."""
        return not os.path.exists(self.target)

    def write(self, tokenizer: Tokenizer) -> None:
        """Encode the pieces; the file appears once it is complete.

        Raises:
            ValueError: text that is not UTF-8, or unknown to the tokenizer.
        """
        with atomic_write(self.target) as file:
            for piece in self.pieces:
                texts = piece.texts()
                try:
                    file.write(piece.encoded(texts, tokenizer).tobytes())
                except ValueError as error:
                    where = f"{piece.path}, from byte {piece.start:,} on"
                    raise ValueError(f"{where}: {error}") from None


def split_lines(text: str) -> list[str]:
    """Lines of a text, stripped of white space; a last line may end with the text."""
    # Not splitlines(): it also splits at characters inside a sentence, such as U+2028.
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.strip() for line in lines]


def count_lines(path: str | Path) -> int:
    """Number of lines of a file, as ``split_lines`` finds them."""
    size = os.path.getsize(path)
    return _newlines(path, size) + (size > 0 and not _newlines(path, size, size - 1))


def character_start(path: str, position: int) -> int:
    """``position``, or the next place in a file where a character begins."""
    with open(path, "rb") as file:
        file.seek(position)
        return position + _continuation(file.read(4))


def divide(spans: Sequence[Span], folder: Path, name: str) -> list[Shard]:
    """Shards ``folder/name-NUMBER`` of spans, in order."""
    pieces = [piece for span in spans for piece in span.pieces(PIECE)]
    return [
        Shard(str(folder / f"{name}-{number:06}"), pieces[start : start + SHARD])
        for number, start in enumerate(range(0, len(pieces), SHARD))
    ]


def encode_shards(
    shards: Sequence[Shard], tokenizer: Tokenizer, folder: Path, num_workers: int
) -> int:
    """Write the shards that are missing; returns how often a worker was killed.

    A shard that a killed worker had begun is begun again.

    Args:
        shards: of the text.
        tokenizer: encodes it.
        folder: for the job that workers read; exists only while they run.
        num_workers: processes; with 1, or a text of at most ``SHARD`` pieces, this one does the
            work.
    Raises:
        ValueError: text that is not UTF-8, or unknown to the tokenizer.
        OSError: the disk is full.
        RuntimeError: workers are killed, or fail, again and again.
    """
    killed = fruitless = 0
    while missing := [shard for shard in shards if shard.is_missing()]:
        count = min(num_workers, len(missing))
        if count == 1 or sum(len(shard.pieces) for shard in missing) <= SHARD:
            for shard in missing:
                shard.write(tokenizer)
            continue
        failures = _run_workers(missing, tokenizer, folder / "job.json", count)
        killed += len(failures)
        progress = sum(shard.is_missing() for shard in missing) < len(missing)
        fruitless = 0 if progress else fruitless + 1
        if fruitless == ATTEMPTS:
            raise RuntimeError(
                f"tokenising stops: {ATTEMPTS} times in a row the workers ended before a shard "
                f"was written ({failures[0]}); free memory, or give num_workers=1"
            )
    return killed


def _run_workers(
    shards: Sequence[Shard], tokenizer: Tokenizer, job: Path, count: int
) -> list[str]:
    """Let processes write the shards; returns how those ended that ended early."""
    atomic_write_text(job, json.dumps([tokenizer.to_json(), os.getpid(), count, shards]))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
        "RAYON_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "trellis.sequence.token_shards", str(job)]
    workers = [
        subprocess.Popen([*command, str(number)], env=environment, stderr=subprocess.PIPE)
        for number in range(count)
    ]
    try:
        messages = [worker.communicate()[1].decode().strip() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        with suppress(OSError):
            job.unlink()
    failures = []
    for worker, message in zip(workers, messages, strict=True):
        if worker.returncode in ERRORS:
            raise ERRORS[worker.returncode](message)
        if worker.returncode:
            last = message.splitlines()[-1:] or [f"exit status {worker.returncode}"]
            failures.append(last[0])
    return failures


def _work(job: str, number: int) -> None:
    """Write every ``count``-th missing shard of a job, as long as its owner lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who ends the workers
    learnt, owner, count, shards = json.loads(Path(job).read_text("utf-8"))
    tokenizer = from_json(learnt)
    for target, pieces in shards[number::count]:
        shard = Shard(target, [Span(*piece) for piece in pieces])
        if not os.path.exists(job) or (os.name == "posix" and os.getppid() != owner):
            return  # another worker has met an error, or nobody waits any more
        if shard.is_missing():
            try:
                shard.write(tokenizer)
            except tuple(ERRORS.values()) as error:
                Path(job).unlink(missing_ok=True)
                print(error, file=sys.stderr)
                sys.exit(next(each for each, kind in ERRORS.items() if isinstance(error, kind)))


def _continuation(raw: bytes) -> int:
    """How many of the first bytes belong to a character that began before."""
    return next((i for i, byte in enumerate(raw) if byte & 0xC0 != 0x80), len(raw))


def _newlines(path: str | Path, end: int, start: int = 0) -> int:
    count, left = 0, end - start
    with open(path, "rb") as file:
        file.seek(start)
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            count, left = count + block.count(b"\n"), left - len(block)
    return count


if __name__ == "__main__":
    _work(sys.argv[1], int(sys.argv[2]))

"""Text of any size, tokenised once into a file that is memory-mapped."""

import hashlib
import json
import os
import random
import shutil
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from trellis.checks import at_least_one, fraction
from trellis.datamodules.engine.downloads import file_digest
from trellis.datamodules.sequence.text_files import learn_tokenizer
from trellis.datamodules.sequence.windows import MappedTokens
from trellis.files import atomic_write, atomic_write_text, locked
from trellis.hyperparameters import to_plain
from trellis.sequence.token_shards import (
    PIECE,
    Shard,
    Span,
    character_start,
    divide,
    encode_shards,
)
from trellis.sequence.tokenizer import Tokenizer, TokenizerFactory, from_json

FORMAT = 1  # raised when the meaning of the files changes, so that old ones are made again
BLOCK = 1 << 16  # bytes of each piece of the sample that the vocabulary is learnt from


@dataclass(frozen=True)
class Source:
    """A text file as it was when it was tokenised."""

    name: str
    size: int
    mtime_ns: int
    sha256: str


NONE = Source("", 0, 0, "")


class TokenisedText:
    """The tokens of a text file, or of all ``.txt`` files of a folder in alphabetical order.

    ``prepare`` writes them into ``tokens/NAME-KEY`` beside the text, where KEY is a hash of the
    options: ``tokens.bin`` holds the ids of the training part, then those of the held-out part,
    in the smallest of uint8, uint16 and uint32; ``corpus.json`` holds the tokenizer, the counts
    and a checksum of each text file. Worker processes write shards, which are joined at the end;
    if something ends them, the next call goes on with the shards that are missing.

    Text is encoded in pieces of about 1 MB, cut after a line. The vocabulary is learnt from the
    whole training part if it has at most ``sample_bytes``, otherwise from as many bytes in blocks
    of 64 KB at random places, the same in each run.

    Args:
        path: of a file or a folder, in UTF-8.
        cache_dir: folder of the tokens; ``None``: ``tokens`` beside ``path``.
        tokenizer: learns the vocabulary.
        lowercase: convert the text to lower case.
        held_out: share of the bytes, from the end, that is not trained on.
        sample_bytes: of the text that the vocabulary is learnt from, at most.
        num_workers: processes that tokenise; ``None``: as many as there are processors.
    Raises:
        ValueError: ``held_out`` is not between 0 and 1, a number is below 1, ``path`` is
            compressed, or ``tokenizer`` has no importable name.
    """

    def __init__(
        self,
        path: Path,
        cache_dir: str | None,
        tokenizer: TokenizerFactory,
        *,
        lowercase: bool,
        held_out: float,
        sample_bytes: int,
        num_workers: int | None,
    ) -> None:
        if path.suffix in (".gz", ".bz2", ".xz", ".zip"):
            raise ValueError(f"path={str(path)!r} is compressed: unpack it, and give the text")
        self.path, self.factory, self.lowercase = path, tokenizer, lowercase
        self.held_out = fraction("held_out", held_out)
        self.sample_bytes = at_least_one("sample_bytes", sample_bytes)
        workers = (os.cpu_count() or 1) if num_workers is None else num_workers
        self.num_workers = at_least_one("num_workers", workers)
        try:
            options = [FORMAT, to_plain(tokenizer), lowercase, held_out, sample_bytes]
        except ValueError as error:
            raise ValueError(
                f"tokenizer={tokenizer!r} ({error}): give a class, or a functools.partial of one, "
                f"whose tokens can be found again"
            ) from None
        if cache_dir:  # texts of one name may share it
            options.append(str(path.absolute()))
        key = hashlib.sha256(json.dumps(options).encode()).hexdigest()[:12]
        root = Path(cache_dir) if cache_dir else path.parent / "tokens"
        self.folder = root / f"{path.name}-{key}"
        self._opened: dict[str, Any] | None = None

    def prepare(self) -> None:
        """Tokenise the text, unless that is done and the text is still the same.

        Raises:
            FileNotFoundError: there is no text.
            OSError: the folder of the tokens cannot be written, or the disk is full.
            ValueError: it is empty, not UTF-8, or has a character unknown to the tokenizer.
        """
        files = self._files()
        if self._is_current(files):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"{self.folder} cannot be made ({error.strerror}): give cache_dir, a folder for "
                f"the tokens"
            ) from error
        with locked(self.folder / "lock"):
            if self._is_current(files):  # by now: another process has tokenised it meanwhile
                return
            if self._read() is not None:
                rank_zero_info(
                    f"{self.path} was changed after it was tokenised: tokenising it again"
                )
            self._make(files)

    def _make(self, files: list[Path]) -> None:
        started = time.perf_counter()
        sources = [_source(file) for file in files]
        tokenizer = learn_tokenizer(
            self.factory, self._sample(files), lowercase=self.lowercase, folder=self.folder
        )
        counts = self._tokenise(files, sources, tokenizer)
        if [(each.size, each.mtime_ns) for each in sources] != [_size_and_time(f) for f in files]:
            raise ValueError(f"{self.path} was changed while it was tokenised: start again")
        self._write(tokenizer.to_json(), tokenizer.id_type.name, counts, sources)
        self._remove_shards()
        seconds, size = time.perf_counter() - started, sum(each.size for each in sources)
        rank_zero_info(
            f"{self.path}: {sum(counts.values()):,} tokens of {tokenizer.num_tokens:,} kinds, "
            f"{size / 1e6:,.1f} MB in {seconds:,.1f} s ({size / 1e6 / seconds:,.1f} MB/s), "
            f"kept in {self.folder}"
        )

    def open(self) -> tuple[Tokenizer, dict[str, MappedTokens]]:
        """The tokenizer, and the tokens of ``train`` and ``val``.

        Raises:
            FileNotFoundError: the text is not tokenised yet.
        """
        made = self._opened = self._read()
        if made is None:
            raise FileNotFoundError(f"{self.path} is not tokenised: call prepare_data() first")
        file, train, held_out = self.folder / "tokens.bin", made["train"], made["val"]
        return from_json(made["tokenizer"]), {
            "train": MappedTokens(file, made["type"], 0, train),
            "val": MappedTokens(file, made["type"], train, held_out),
        }

    def state(self) -> dict[str, Any]:
        """Checksum of each text file, for the checkpoint of a run."""
        made = self._opened or self._read()  # each checkpoint asks; the file has the vocabulary
        return {each["name"]: each["sha256"] for each in made["sources"]} if made else {}

    def compare(self, state: dict[str, Any]) -> None:
        """Warn if a run that goes on began with another text than this."""
        if state != self.state():
            rank_zero_warn(
                f"{self.path} is not the text that this run began with: its batches differ from "
                f"those of a run without a break"
            )

    def _files(self) -> list[Path]:
        files = sorted(self.path.glob("*.txt")) if self.path.is_dir() else [self.path]
        if not files:
            raise FileNotFoundError(f"{self.path} holds no .txt file: put the texts there")
        if not files[0].is_file():
            raise FileNotFoundError(f"{self.path} is missing: put it there, or give another path")
        return files

    def _spans(self, files: list[Path]) -> dict[str, list[Span]]:
        """The bytes of each split; no character is cut in two."""
        sizes = [file.stat().st_size for file in files]
        left = int((1 - self.held_out) * sum(sizes))
        spans: dict[str, list[Span]] = {"train": [], "val": []}
        for file, size in zip(map(str, files), sizes, strict=True):
            cut = character_start(file, left) if left < size else size
            spans["train"].append(Span(file, 0, cut))
            spans["val"].append(Span(file, cut, size))
            left = max(0, left - size)
        return {name: [s for s in each if s.end > s.start] for name, each in spans.items()}

    def _sample(self, files: list[Path]) -> list[str]:
        """Texts that the vocabulary is learnt from."""
        spans = self._spans(files)["train"]
        size = sum(span.end - span.start for span in spans)
        if size <= self.sample_bytes:
            texts = [piece.text() for span in spans for piece in span.pieces(PIECE)]
        else:
            texts = [block.text() for block in _blocks(spans, -(-self.sample_bytes // BLOCK))]
        if not any(text.strip() for text in texts):
            raise ValueError(f"{self.path} is empty: give a file with text")
        return texts

    def _tokenise(
        self, files: list[Path], sources: list[Source], tokenizer: Tokenizer
    ) -> dict[str, int]:
        """Write ``tokens.bin``; returns the number of tokens of each split."""
        content = [tokenizer.to_json(), [[s.name, s.sha256] for s in sources]]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
        folder = self.folder / f"shards-{digest}"  # of this very text and tokenizer
        self._remove_shards(but=folder)
        parts = {name: divide(spans, folder, name) for name, spans in self._spans(files).items()}
        shards = [shard for part in parts.values() for shard in part]
        if done := sum(not shard.is_missing() for shard in shards):
            rank_zero_info(f"{self.path}: going on after {done} of {len(shards)} shards")
        if killed := encode_shards(shards, tokenizer, folder, self.num_workers):
            rank_zero_info(f"{self.path}: {killed} processes were killed; others did their work")
        counts = {
            name: sum(os.path.getsize(shard.target) for shard in part)
            // tokenizer.id_type.itemsize
            for name, part in parts.items()
        }
        self._join(shards)
        return counts

    def _join(self, shards: list[Shard]) -> None:
        # Killed between the two files, a run must not leave new tokens beside old counts.
        (self.folder / "corpus.json").unlink(missing_ok=True)
        with atomic_write(self.folder / "tokens.bin") as joined:
            for shard in shards:
                with open(shard.target, "rb") as file:
                    shutil.copyfileobj(file, joined, 1 << 20)

    def _write(
        self, tokenizer: str, id_type: str, counts: dict[str, int], sources: list[Source]
    ) -> None:
        made = {
            "type": id_type,
            **counts,
            "sources": [asdict(each) for each in sources],
            "tokenizer": tokenizer,
        }
        atomic_write_text(self.folder / "corpus.json", json.dumps(made, indent=1))

    def _remove_shards(self, but: Path | None = None) -> None:
        for folder in self.folder.glob("shards-*"):
            if folder != but:
                shutil.rmtree(folder, ignore_errors=True)

    def _read(self) -> dict[str, Any] | None:
        """Contents of ``corpus.json``; ``None`` if it or the tokens are missing or not whole."""
        try:
            made: dict[str, Any] = json.loads((self.folder / "corpus.json").read_text("utf-8"))
            size = (self.folder / "tokens.bin").stat().st_size
            whole = (made["train"] + made["val"]) * np.dtype(made["type"]).itemsize
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return made if size == whole else None

    def _is_current(self, files: list[Path]) -> bool:
        """Whether this very text is tokenised."""
        if (made := self._read()) is None:
            return False
        known = {each["name"]: Source(**each) for each in made["sources"]}
        now = [Source(f.name, *_size_and_time(f), known.get(f.name, NONE).sha256) for f in files]
        if now == [*known.values()]:
            return True
        # A copy, or a file that was only touched, has another time and the same content.
        sizes = [(each.name, each.size) for each in known.values()]
        same_size = sizes == [(each.name, each.size) for each in now]
        if not same_size or any(
            _checksum(f) != each.sha256 for f, each in zip(files, now, strict=True)
        ):
            return False
        with suppress(OSError):  # only to be quicker next time
            counts = {split: made[split] for split in ("train", "val")}
            self._write(made["tokenizer"], made["type"], counts, now)
        return True


def _blocks(spans: list[Span], count: int) -> Iterator[Span]:
    """Some of the blocks of a text, in order; the same for the same text."""
    ends = [*accumulate(-(-(span.end - span.start) // BLOCK) for span in spans)]
    for number in sorted(random.Random(0).sample(range(ends[-1]), min(count, ends[-1]))):
        index = bisect_right(ends, number)
        span = spans[index]
        at = span.start + (number - (ends[index - 1] if index else 0)) * BLOCK
        yield Span(span.path, span.cut_at(at), span.cut_at(at + BLOCK))


def _source(file: Path) -> Source:
    return Source(file.name, *_size_and_time(file), _checksum(file))


def _size_and_time(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _checksum(file: Path) -> str:
    with open(file, "rb") as opened:
        return file_digest(opened, "sha256")

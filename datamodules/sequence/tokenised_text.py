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
from dataclasses import asdict, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from trellis.checks import at_least_one
from trellis.datamodules.sequence.mapped_array import MappedArray, MappedLines, write_ends
from trellis.datamodules.sequence.text_files import learn_tokenizer, require_usual_ids
from trellis.datamodules.sequence.text_sources import TextSource, are_unchanged, have_content
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

    With ``by_line``, each line is a sequence of its own, which ends with ``EOS``: ``ends.bin``
    holds the places of their ends, in int64.

    Args:
        path: of a file or a folder, in UTF-8; of a file with ``by_line``.
        cache_dir: folder of the tokens; ``None``: ``tokens`` beside ``path``.
        tokenizer: learns the vocabulary.
        lowercase: convert the text to lower case.
        held_out: share of the bytes, from the end, that is not trained on; 0 with ``by_line``.
        sample_bytes: of the text that the vocabulary is learnt from, at most.
        num_workers: processes that tokenise; ``None``: as many as there are processors.
        by_line: see above.
        learn_from: files that the vocabulary is learnt from, instead of from the training part.
    Raises:
        ValueError: a number is below 1, ``path`` is compressed, or ``tokenizer`` has no
            importable name.
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
        by_line: bool = False,
        learn_from: tuple[Path, ...] = (),
    ) -> None:
        if path.suffix in (".gz", ".bz2", ".xz", ".zip"):
            raise ValueError(f"path={str(path)!r} is compressed: unpack it, and give the text")
        self.path, self.factory, self.lowercase = path, tokenizer, lowercase
        self.held_out, self.by_line, self.learn_from = held_out, by_line, learn_from
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
        if by_line:
            options.append(["by line", *(str(each.absolute()) for each in learn_from)])
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
        if self.is_current():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"{self.folder} cannot be made ({error.strerror}): give cache_dir, a folder for "
                f"the tokens"
            ) from error
        with locked(self.folder / "lock"):
            if self.is_current():  # by now: another process has tokenised it meanwhile
                return
            if self._read() is not None:
                rank_zero_info(
                    f"{self.path} was changed after it was tokenised: tokenising it again"
                )
            self._make()

    def _make(self) -> None:
        started = time.perf_counter()
        files = self._files()
        sources = [TextSource.of(file) for file in self._read_files()]
        # What several texts learn from is learnt once.
        folder = self.folder.parent if self.learn_from else self.folder
        tokenizer = learn_tokenizer(
            self.factory, self._sample(files), lowercase=self.lowercase, folder=folder
        )
        if self.by_line:
            require_usual_ids(tokenizer)
        counts = self._tokenise(files, sources, tokenizer)
        if not are_unchanged(sources, self._read_files()):
            raise ValueError(f"{self.path} was changed while it was tokenised: start again")
        made = {"type": tokenizer.id_type.name, **counts, "tokenizer": tokenizer.to_json()}
        self._write(made, sources)
        self._remove_shards()
        seconds, size = time.perf_counter() - started, sum(file.stat().st_size for file in files)
        rank_zero_info(
            f"{self.path}: {counts['train'] + counts['val']:,} tokens of "
            f"{tokenizer.num_tokens:,} kinds, "
            f"{size / 1e6:,.1f} MB in {seconds:,.1f} s ({size / 1e6 / seconds:,.1f} MB/s), "
            f"kept in {self.folder}"
        )

    def open(self) -> tuple[Tokenizer, dict[str, MappedArray]]:
        """The tokenizer, and the tokens of ``train`` and ``val``.

        Raises:
            FileNotFoundError: the text is not tokenised yet.
        """
        made = self._opened = self._read()
        if made is None:
            raise FileNotFoundError(f"{self.path} is not tokenised: call prepare_data() first")
        file, train, held_out = self.folder / "tokens.bin", made["train"], made["val"]
        return from_json(made["tokenizer"]), {
            "train": MappedArray(file, made["type"], 0, train),
            "val": MappedArray(file, made["type"], train, held_out),
        }

    def open_lines(self, begin: tuple[int, ...] = ()) -> tuple[Tokenizer, MappedLines]:
        """The tokenizer, and the lines, with the ids ``begin`` before each; see ``open``."""
        tokenizer, parts = self.open()
        size = (self.folder / "ends.bin").stat().st_size
        ends = MappedArray(self.folder / "ends.bin", "int64", 0, size // 8)
        return tokenizer, MappedLines(parts["train"], ends, begin)

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
        is_folder = self.path.is_dir() and not self.by_line
        files = sorted(self.path.glob("*.txt")) if is_folder else [self.path]
        if not files:
            raise FileNotFoundError(f"{self.path} holds no .txt file: put the texts there")
        if not files[0].is_file():
            raise FileNotFoundError(f"{self.path} is missing: put it there, or give another path")
        return files

    def _read_files(self) -> list[Path]:
        """All files that the tokens depend on: first its own, then those learnt from."""
        own = self._files()
        return own + [file for file in self.learn_from if file not in own]

    def _spans(self, files: list[Path]) -> dict[str, list[Span]]:
        """The bytes of each split; no character is cut in two."""
        sizes = [file.stat().st_size for file in files]
        left = int((1 - self.held_out) * sum(sizes))
        spans: dict[str, list[Span]] = {"train": [], "val": []}
        for file, size in zip(map(str, files), sizes, strict=True):
            cut = character_start(file, left) if left < size else size
            spans["train"].append(Span(file, 0, cut, self.by_line))
            spans["val"].append(Span(file, cut, size, self.by_line))
            left = max(0, left - size)
        return {name: [s for s in each if s.end > s.start] for name, each in spans.items()}

    def _sample(self, files: list[Path]) -> list[str]:
        """Texts that the vocabulary is learnt from."""
        spans = self._spans([*self.learn_from] or files)["train"]
        size = sum(span.end - span.start for span in spans)
        if size <= self.sample_bytes:
            parts = [piece for span in spans for piece in span.pieces(PIECE)]
        else:
            parts = [*_blocks(spans, -(-self.sample_bytes // BLOCK))]
        texts = [text for part in parts for text in part.texts()]
        if not any(text.strip() for text in texts):
            raise ValueError(f"{self.path} is empty: give a file with text")
        return texts

    def _tokenise(
        self, files: list[Path], sources: list[TextSource], tokenizer: Tokenizer
    ) -> dict[str, int]:
        """Write the tokens; returns the number of those of each split, and of lines."""
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
        if self.by_line:
            tokens, ends = self.folder / "tokens.bin", self.folder / "ends.bin"
            counts["lines"] = write_ends(tokens, tokenizer.id_type, ends)
        return counts

    def _join(self, shards: list[Shard]) -> None:
        # Killed between the two files, a run must not leave new tokens beside old counts.
        (self.folder / "corpus.json").unlink(missing_ok=True)
        with atomic_write(self.folder / "tokens.bin") as joined:
            for shard in shards:
                with open(shard.target, "rb") as file:
                    shutil.copyfileobj(file, joined, 1 << 20)

    def _write(self, made: dict[str, Any], sources: list[TextSource]) -> None:
        whole = {**made, "sources": [asdict(each) for each in sources]}
        atomic_write_text(self.folder / "corpus.json", json.dumps(whole, indent=1))

    def _remove_shards(self, but: Path | None = None) -> None:
        for folder in self.folder.glob("shards-*"):
            if folder != but:
                shutil.rmtree(folder, ignore_errors=True)

    def _read(self) -> dict[str, Any] | None:
        """Contents of ``corpus.json``; ``None`` if it or the tokens are missing or not whole."""
        try:
            made: dict[str, Any] = json.loads((self.folder / "corpus.json").read_text("utf-8"))
            sizes = {"tokens.bin": (made["train"] + made["val"]) * np.dtype(made["type"]).itemsize}
            if self.by_line:
                sizes["ends.bin"] = made["lines"] * 8
            whole = all((self.folder / f).stat().st_size == size for f, size in sizes.items())
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return made if whole else None

    def is_current(self) -> bool:
        """Whether this very text is tokenised; see ``prepare``."""
        files = self._read_files()
        if (made := self._read()) is None:
            return False
        known = [TextSource(**each) for each in made["sources"]]
        if are_unchanged(known, files):
            return True
        if not have_content(known, files):
            return False
        pairs = zip(known, files, strict=True)
        touched = [replace(source, mtime_ns=file.stat().st_mtime_ns) for source, file in pairs]
        with suppress(OSError):  # only to be quicker next time
            self._write(made, touched)
        return True


def _blocks(spans: list[Span], count: int) -> Iterator[Span]:
    """Some of the blocks of a text, in order; the same for the same text."""
    ends = [*accumulate(-(-(span.end - span.start) // BLOCK) for span in spans)]
    for number in sorted(random.Random(0).sample(range(ends[-1]), min(count, ends[-1]))):
        index = bisect_right(ends, number)
        span = spans[index]
        at = span.start + (number - (ends[index - 1] if index else 0)) * BLOCK
        yield span._replace(start=span.cut_at(at), end=span.cut_at(at + BLOCK))

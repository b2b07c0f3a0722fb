"""The folder of raw data, atomic writes, locks, and text in UTF-8."""

import codecs
import errno
import os
import re
import secrets
import shutil
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, BinaryIO

# Marks arguments that name files, or may: from a checkpoint they count only if this account wrote
# it, since a stranger's could name any file.
TYPED_ONLY = "from a checkpoint of this account only"
FilePath = Annotated[str, TYPED_ONLY]
STALE_AFTER = 3600.0  # seconds without a write after which a temporary file has no writer
# Which host and process is writing: a killed writer cannot remove its temporary file itself.
_WRITER = re.compile(r"(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}\.tmp")


def data_root(data_dir: str | None = None) -> Path:
    """Folder of the raw data: the argument, else ``$TRELLIS_DATA``, else ``~/.cache/trellis``."""
    return Path(data_dir or os.environ.get("TRELLIS_DATA") or "~/.cache/trellis").expanduser()


@contextmanager
def atomic_write(path: str | Path, what: str = "file") -> Iterator[BinaryIO]:
    """A binary file that gets the name ``path`` once the block has ended without an error.

    The block writes to a temporary file in the same folder, which is created where needed; the
    file is flushed to the disk before it is renamed. After an error nothing is left of it, and a
    previous file of that name is untouched. Temporary files of killed writers are removed.

    Args:
        path: of the file.
        what: it is, for the message about a full disk.
    Raises:
        OSError: it cannot be written; of a full disk, with the free space (errno ``ENOSPC``).
    """
    target = Path(path).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(target)
    temporary = target.with_name(
        f".{target.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    )
    # Not tempfile: its files are for their owner alone, these have the mode of any new file.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:
        free = shutil.disk_usage(target.parent).free
        if _is_full(error, free):
            kept = f"; the previous {what} is untouched" if target.exists() else ""
            message = f"no space left for {target} ({free} bytes free){kept}"
            raise OSError(errno.ENOSPC, message) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all; see ``atomic_write``."""
    with atomic_write(path) as file:
        file.write(text.encode())


def read_bytes(path: str | Path, what: str) -> bytes:
    """Contents of a file; ``-`` is standard input.

    Args:
        path: of the file.
        what: the option that gave it, for the message.
    Raises:
        FileNotFoundError: there is no such file.
    """
    if str(path) == "-":
        return sys.stdin.buffer.read()
    if not Path(path).is_file():
        raise FileNotFoundError(f"{what}={path}: no such file (in {Path.cwd()})")
    return Path(path).read_bytes()


def name_of(path: str | Path) -> str:
    """What messages call a file, or ``-``, that ``read_bytes`` reads."""
    return "standard input" if str(path) == "-" else str(path)


def decode_utf8(raw: bytes, name: str, first_line: int = 1) -> str:
    """Text of UTF-8 bytes, without the byte order mark that a file may begin with.

    Args:
        raw: the bytes.
        name: of the file, for the message.
        first_line: number of the first line of ``raw`` in the file.
    Raises:
        ValueError: the bytes are not UTF-8; names line and column.
    """
    if first_line == 1:
        raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        before, newline = raw[: error.start], b"\n"
        column = len(before.rpartition(newline)[2].decode()) + 1
        raise ValueError(
            f"{name}, line {first_line + before.count(newline)}, column {column}: byte "
            f"{raw[error.start]:#04x} is not UTF-8; convert it, as iconv -f latin1 -t utf8 does"
        ) from None


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Let one process at a time run the block; the others wait.

    A lock ends with its process. Windows has no such locks: there, nobody waits.

    Args:
        path: of an empty file, which is created and stays.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "ab") as file:
        with suppress(ImportError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_stale(path: str | Path) -> None:
    """Remove the temporary files that killed writers of ``path`` have left beside it.

    Those are stale whose process on this host has ended, or that have not changed for an hour.
    """
    target = Path(path).absolute()
    prefix = f".{target.name}."
    for entry in target.parent.iterdir():
        writer = _WRITER.fullmatch(entry.name.removeprefix(prefix))
        if writer is None or not entry.name.startswith(prefix):
            continue
        with suppress(OSError):  # another process may have removed it
            gone = writer["host"] == _host() and not _is_running(int(writer["pid"]))
            if gone or time.time() - entry.stat().st_mtime > STALE_AFTER:
                entry.unlink()


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_running(pid: int) -> bool:
    """Whether there is such a process on this host; true where asking would end it."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _is_full(error: OSError | RuntimeError, free: int) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    # torch.save reports a failed write as a RuntimeError.
    return "unexpected pos" in str(error) or free < 1 << 20

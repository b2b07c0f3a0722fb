"""Raw files: downloaded with a checksum, read with clear errors."""

import gzip
import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from trellis.files import atomic_write


def fetch(folder: Path, files: Mapping[str, str | None], urls: tuple[str, ...]) -> None:
    """Download the missing ones of ``files``; a file appears only once it has been checked.

    Existing files are used as they are: a user's own copy need not be the mirror's.

    Args:
        folder: where the files belong.
        files: file name -> checksum of the download as ``"sha256:..."`` or ``"md5:..."``
            (``None``: none is published).
        urls: mirrors, each the address of a folder that holds the files.
    Raises:
        FileNotFoundError: a file is missing and cannot be downloaded; says what to put where.
        OSError: every mirror that answers sends something with another checksum.
        ValueError: a checksum of another kind.
    """
    for name, checksum in files.items():
        if not (folder / name).is_file():
            _download(folder / name, checksum, urls)


DAMAGE = (EOFError, OSError, zlib.error)  # what gzip raises


class _WrongDownload(OSError):
    """The download is not the expected file."""


_NO_DOWNLOAD = (
    urllib.error.URLError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
    _WrongDownload,
)


def _download(target: Path, checksum: str | None, urls: tuple[str, ...]) -> None:
    failure: Exception = FileNotFoundError("no mirror is known")
    reasons = []
    for url in urls:
        try:
            with urllib.request.urlopen(f"{url.rstrip('/')}/{target.name}", timeout=30) as reply:
                _store(reply, target, checksum)
            return
        except _NO_DOWNLOAD as error:
            failure = error
            reasons.append(f"{url}: {getattr(error, 'reason', error)}")
    if isinstance(failure, _WrongDownload):
        raise OSError(
            f"{target.name} cannot be downloaded ({'; '.join(reasons)}): put it in {target.parent}"
        )
    raise FileNotFoundError(
        f"{target.name} is not in {target.parent} and cannot be downloaded "
        f"({'; '.join(reasons) or failure}): "
        f"put it there, or set TRELLIS_DATA to a folder that holds it"
    )


def _store(reply: Any, target: Path, checksum: str | None) -> None:
    with atomic_write(target) as file:
        shutil.copyfileobj(reply, file)
        size, announced = file.tell(), reply.headers.get("Content-Length")
        if announced is not None and int(announced) != size:
            raise _WrongDownload(f"{size} of {announced} bytes arrived")
        if checksum is not None and (digest := file_digest(file, checksum)) != checksum:
            raise _WrongDownload(f"the download has {digest}, expected {checksum}")


def file_digest(file: BinaryIO, checksum: str) -> str:
    """Checksum of an open file, of the kind that ``checksum`` begins with.

    Raises:
        ValueError: it is of a kind that is not known.
    """
    kind = checksum.partition(":")[0]
    if kind not in ("md5", "sha256"):
        raise ValueError(f"checksum {checksum!r}: write 'sha256:...' or 'md5:...'")
    digest = hashlib.new(kind, usedforsecurity=False)
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)
    return f"{kind}:{digest.hexdigest()}"


def require_file(path: Path) -> None:
    """Check that a raw file is there.

    Raises:
        FileNotFoundError: it is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: call prepare_data() first, or put it there")


def damaged_file(path: Path, reason: object) -> OSError:
    """The error for a raw file of a public data set that cannot be read, and what to do.

    The file may be the user's own copy: nobody is told to delete it.
    """
    return OSError(f"{path} is damaged ({reason}): move it away to download it again")


def read_gzip(path: Path) -> bytes:
    """Contents of a gzip file.

    Raises:
        FileNotFoundError: it is missing.
        OSError: the file is damaged or truncated; says to move it away.
    """
    require_file(path)
    try:
        return unzipped(path)
    except DAMAGE as error:
        raise damaged_file(path, error) from error


def unzipped(path: Path) -> bytes:
    """Contents of a gzip file; raises one of ``DAMAGE`` if it is damaged."""
    with gzip.open(path) as file:
        return file.read()

"""Text files as they were when something was made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trellis.datamodules.engine.downloads import file_digest


@dataclass(frozen=True)
class TextSource:
    """A text file as it was when it was tokenised."""

    name: str
    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, file: Path) -> "TextSource":
        """The file as it is now."""
        status = file.stat()
        return cls(file.name, status.st_size, status.st_mtime_ns, checksum(file))

    def is_unchanged(self, file: Path) -> bool:
        """Whether a file has this name, size and time."""
        status = file.stat()
        now = (file.name, status.st_size, status.st_mtime_ns)
        return now == (self.name, self.size, self.mtime_ns)


def are_unchanged(sources: Sequence[TextSource], files: Sequence[Path]) -> bool:
    """Whether files have the names, sizes and times of the sources; reads none of them."""
    return len(sources) == len(files) and all(map(TextSource.is_unchanged, sources, files))


def have_content(sources: Sequence[TextSource], files: Sequence[Path]) -> bool:
    """Whether files have the names and the content of the sources, whatever their times.

    A copy, or a file that was only touched, has another time and the same content.
    """
    named = [(source.name, source.size) for source in sources]
    if named != [(file.name, file.stat().st_size) for file in files]:
        return False
    return all(
        checksum(file) == source.sha256 for source, file in zip(sources, files, strict=True)
    )


def checksum(file: Path) -> str:
    """SHA-256 of a file."""
    with open(file, "rb") as opened:
        return file_digest(opened, "sha256")

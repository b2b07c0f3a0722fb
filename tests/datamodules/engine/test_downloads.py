import gzip
import hashlib
import io
import urllib.error
from email.message import Message
from pathlib import Path

import pytest

from trellis.datamodules.engine.downloads import fetch, read_gzip

CONTENT = b"what the mirror holds"
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


class Reply(io.BytesIO):
    def __init__(self, content: bytes, announced: int | None = None) -> None:
        super().__init__(content)
        self.headers = Message()
        self.headers["Content-Length"] = str(len(content) if announced is None else announced)


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> dict[str, Reply | Exception]:
    """Address -> reply; any other address cannot be reached."""
    replies: dict[str, Reply | Exception] = {}

    def urlopen(url: str, timeout: float) -> Reply:
        reply = replies.get(url, urllib.error.URLError("no network"))
        if isinstance(reply, Exception):
            raise reply
        return reply

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return replies


@pytest.mark.parametrize("checksum", [None, SHA256, MD5])
def test_a_missing_file_is_downloaded(mirrors: dict, tmp_path: Path, checksum: str | None) -> None:
    mirrors["http://a/file"] = Reply(CONTENT)
    fetch(tmp_path / "new", {"file": checksum}, ("http://a/",))
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_file_that_lies_there_is_not_touched(mirrors: dict, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    mirrors["http://a/file"] = Reply(CONTENT)
    fetch(tmp_path, {"file": SHA256}, ("http://a",))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_leaves_nothing_behind(mirrors: dict, tmp_path: Path, kind: str) -> None:
    mirrors["http://a/file"] = Reply(CONTENT)
    with pytest.raises(OSError, match=rf"file cannot be downloaded .*has {kind}:.*, expected "):
        fetch(tmp_path, {"file": f"{kind}:0123"}, ("http://a",))
    assert list(tmp_path.iterdir()) == []


def test_a_download_cut_short_leaves_nothing_behind(mirrors: dict, tmp_path: Path) -> None:
    mirrors["http://a/file"] = Reply(CONTENT, announced=len(CONTENT) + 1)
    with pytest.raises(OSError, match="21 of 22 bytes arrived"):
        fetch(tmp_path, {"file": None}, ("http://a",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [Reply(b"altered"), TimeoutError("slow"), None])
def test_the_next_mirror_is_asked(
    mirrors: dict, tmp_path: Path, first: Reply | Exception | None
) -> None:
    if first is not None:
        mirrors["http://a/file"] = first
    mirrors["http://b/file"] = Reply(CONTENT)
    fetch(tmp_path, {"file": SHA256}, ("http://a", "http://b"))
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_without_network_the_message_says_what_to_put_where(mirrors: dict, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no network") as caught:
        fetch(tmp_path / "raw", {"file": None}, ("http://a",))
    assert str(caught.value).startswith(f"file is not in {tmp_path / 'raw'} and cannot")
    assert "put it there, or set TRELLIS_DATA" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checksum_of_another_kind_is_refused(mirrors: dict, tmp_path: Path) -> None:
    mirrors["http://a/file"] = Reply(CONTENT)
    with pytest.raises(ValueError, match="'crc:1': write 'sha256:...' or 'md5:...'"):
        fetch(tmp_path, {"file": "crc:1"}, ("http://a",))


@pytest.mark.parametrize("change", ["cut", "altered", "no gzip"])
def test_a_damaged_gzip_file_is_named(tmp_path: Path, change: str) -> None:
    content = bytearray(gzip.compress(bytes(range(256)) * 20))
    if change == "cut":
        content = content[:-20]
    elif change == "altered":
        content[len(content) // 2] ^= 0xFF
    else:
        content = bytearray(b"<html>not found</html>")
    (tmp_path / "file.gz").write_bytes(content)
    with pytest.raises(OSError, match=r"file\.gz is damaged .*: move it away"):
        read_gzip(tmp_path / "file.gz")


def test_a_missing_gzip_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"file\.gz is missing: call prepare_data"):
        read_gzip(tmp_path / "file.gz")

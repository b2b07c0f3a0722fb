import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from trellis import files
from trellis.files import (
    atomic_write,
    atomic_write_text,
    data_root,
    decode_utf8,
    remove_stale,
)


def test_the_data_folder_is_the_argument_then_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRELLIS_DATA", "/from/environment")
    assert data_root("/given") == Path("/given")
    assert data_root() == Path("/from/environment")
    monkeypatch.delenv("TRELLIS_DATA")
    assert data_root() == Path.home() / ".cache" / "trellis"


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path) as file:
        file.write(b"half")
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert list(path.parent.iterdir()) == [path]
    atomic_write_text(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, bytes]] = []

    def note(name: str, number: int | None = None) -> None:
        (temporary,) = tmp_path.iterdir()
        assert number is None or os.path.samestat(os.fstat(number), temporary.stat())
        done.append((name, temporary.read_bytes()))

    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda number: note("fsync", number))
    monkeypatch.setattr(os, "replace", lambda *paths: note("replace") or replace(*paths))
    atomic_write_text(tmp_path / "file", "whole")
    assert done == [("fsync", b"whole"), ("replace", b"whole")]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError, RuntimeError])
def test_an_error_leaves_the_previous_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(error, match="mine"), atomic_write(path) as file:  # noqa: PT012
        file.write(b"half")
        raise error("mine")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        atomic_write_text(tmp_path / "file", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), RuntimeError("unexpected pos 64 vs 0")]
)
def test_a_full_disk_is_named(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "file"
    message = r"no space left for .*file \(\d+ bytes free\)"
    with pytest.raises(OSError, match=f"{message}$") as caught, atomic_write(path):
        raise error
    assert caught.value.errno == errno.ENOSPC
    path.write_text("before")
    message += "; the previous checkpoint is untouched"
    with pytest.raises(OSError, match=f"{message}$"), atomic_write(path, "checkpoint"):
        raise error


def test_torch_saves_into_it(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "x.pt") as file:
        torch.save({"x": torch.arange(3)}, file)
    assert torch.load(tmp_path / "x.pt", weights_only=True)["x"].tolist() == [0, 1, 2]


def killed_writer(path: Path) -> Path:
    """Temporary file of a process that ended in the middle of a write."""
    code = (
        "import os, sys; from trellis.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file: file.write(b'half'); file.flush(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 9
    (left,) = (other for other in path.parent.iterdir() if other.name.startswith(f".{path.name}."))
    return left


@pytest.mark.skipif(os.name != "posix", reason="elsewhere age alone tells")
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a[b].txt"
    left = killed_writer(path)
    assert left.read_bytes() == b"half"
    atomic_write_text(tmp_path / "a", "another file")
    atomic_write_text(tmp_path / "a[b].txt.x", "another file")
    assert left.exists()
    atomic_write_text(path, "x")
    assert not left.exists()


def test_what_is_being_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"first")
        atomic_write_text(path, "second")  # as another thread would
    assert path.read_bytes() == b"first"
    monkeypatch.setattr(files, "_host", lambda: "00000000")
    with atomic_write(path):
        (mine,) = (other for other in tmp_path.iterdir() if other != path)
        elsewhere = mine.with_name(mine.name.replace(str(os.getpid()), "999999999"))
        monkeypatch.setattr(files, "_host", lambda: "11111111")
        elsewhere.touch()
        remove_stale(path)
        assert elsewhere.exists(), "the processes of another host are not known here"
        hour_ago = time.time() - 3700
        os.utime(elsewhere, (hour_ago, hour_ago))
        remove_stale(path)
        assert not elsewhere.exists()
        assert mine.exists()


def test_text_is_utf_8_with_or_without_a_mark() -> None:
    assert decode_utf8("größer\nda".encode("utf-8-sig"), "x") == "größer\nda"
    assert decode_utf8("\ufeffda".encode(), "x", first_line=2) == "\ufeffda"
    with pytest.raises(ValueError, match=r"^x, line 8, column 3: byte 0xe9 is not UTF-8; convert"):
        decode_utf8("é\nüé".encode() + b"\xe9", "x", first_line=7)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such locks")
def test_a_lock_is_waited_for_and_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    code = (
        "import sys, time\nfrom trellis.files import locked\n"
        "with locked(sys.argv[1]):\n    print('mine', flush=True)\n    time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "mine\n"
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
            time.sleep(0.5)
            assert waiting.poll() is None
            owner.kill()
            assert waiting.stdout.readline() == "mine\n"
            waiting.kill()
    with files.locked(path):
        pass

"""Modules of the user's own: found, imported first, trusted, and only those."""

import os
import sys
from pathlib import Path

import pytest

from trellis.own_code import (
    import_first,
    named,
    own_names,
    registers_environments,
    trusted_packages,
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TRELLIS_IMPORT", raising=False)
    monkeypatch.delenv("TRELLIS_TRUST", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)


def test_a_module_of_the_working_folder_is_imported_and_trusted_in_here_only() -> None:
    Path("first_of_all.py").write_text("class Thing: pass\n")
    with named(["first_of_all"]):
        assert [module.__name__ for module in import_first()] == ["first_of_all"]
        assert "Thing" in own_names()
        assert trusted_packages() == ["first_of_all"]
        assert registers_environments("first_of_all.part")
    assert "TRELLIS_IMPORT" not in os.environ
    assert trusted_packages() == []
    assert not registers_environments("first_of_all")


def test_a_file_of_any_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "from_there.py").write_text("answer = 42\n")
    with named(["there/from_there.py"]):
        os.chdir("/")  # as a process that is started elsewhere
        (module,) = import_first()
        assert module.answer == 42
        assert trusted_packages() == ["from_there"]


def test_several_add_up_and_none_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_IMPORT", "json, email.message")
    monkeypatch.setenv("TRELLIS_TRUST", "one two")
    with named(["csv", "json"]):
        assert trusted_packages() == ["one", "two", "json", "email", "csv"]
        assert [module.__name__ for module in import_first()] == ["json", "email.message", "csv"]
    assert os.environ["TRELLIS_IMPORT"] == "json, email.message"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("not_there", None, "--import not_there: there is no module not_there; install it"),
        ("not_there.py", None, "there is no file .*not_there.py"),
        ("torn.py", "1 / 0\n", r"torn.py, line 1: ZeroDivisionError"),
        ("json.py", "", "json is the name of .*json/__init__.py, too: rename the file"),
    ],
)
def test_what_cannot_be_imported_is_named(name: str, code: str | None, message: str) -> None:
    if code is not None:
        Path(name).write_text(code)
    with named([name]), pytest.raises(ValueError, match=message):
        import_first()

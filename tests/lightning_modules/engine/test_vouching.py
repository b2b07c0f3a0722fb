"""A checkpoint's paths count only on the account that wrote it."""

from pathlib import Path
from typing import Any

import pytest

from trellis.datamodules.graph import EdgeSplit, GraphFromFiles, KarateClub, Planetoid
from trellis.datamodules.rl import EnvironmentRollouts
from trellis.lightning_modules.engine.vouching import forget_unsigned, signature, typed_only


def test_only_what_names_files_and_is_no_default_is_typed() -> None:
    given = {"edges": "mine.csv", "nodes": "nodes.csv", "label": "label", "seed": 3}
    assert typed_only(GraphFromFiles, given) == {"edges": "mine.csv"}
    assert typed_only(Planetoid, {"name": "Cora", "data_dir": None}) == {}
    options = {"xml_file": "/etc/passwd"}
    assert typed_only(EnvironmentRollouts, {"options": options}) == {"options": options}
    assert typed_only(KarateClub, {"steps_per_epoch": 1}) == {}


def test_signed_files_stay_and_others_are_forgotten_by_name() -> None:
    mine = {"edges": "mine.csv", "seed": 3}
    signed = signature(GraphFromFiles, mine)
    forget_unsigned(GraphFromFiles, mine, signed, "last.ckpt")
    assert mine["edges"] == "mine.csv"
    for files, sign in (("/home/me/.ssh/id", signed), ("mine.csv", ""), ("mine.csv", None)):
        other = {"edges": files, "seed": 3}
        with pytest.warns(UserWarning, match="by another account.*give --data.edges"):
            forget_unsigned(GraphFromFiles, other, sign, "last.ckpt")
        assert other == {"seed": 3}


def test_another_account_has_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {"edges": "mine.csv"}
    here = signature(GraphFromFiles, mine)
    assert here == signature(GraphFromFiles, mine)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert signature(GraphFromFiles, mine) != here
    assert (tmp_path / "trellis" / "key").stat().st_mode & 0o777 == 0o600


def test_without_a_key_nothing_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert signature(GraphFromFiles, {"edges": "mine.csv"}) == ""
    with pytest.warns(UserWarning, match="another account"):
        forget_unsigned(GraphFromFiles, {"edges": "mine.csv"}, "", "last.ckpt")


def test_files_of_the_data_that_others_are_made_of_are_vouched_for_too() -> None:
    inner = {"class_path": "trellis.datamodules.graph.GraphFromFiles"}

    def links(edges: str) -> dict[str, Any]:
        return {"data": {**inner, "init_args": {"edges": edges, "seed": 1}}, "seed": 2}

    assert typed_only(EdgeSplit, links("mine.csv")) == {"data.edges": "mine.csv"}
    signed = signature(EdgeSplit, links("mine.csv"))
    mine, other = links("mine.csv"), links("/etc/passwd")
    forget_unsigned(EdgeSplit, mine, signed, "last.ckpt")
    assert mine == links("mine.csv")
    with pytest.warns(UserWarning, match=r"data\.data\.edges='/etc/passwd' is left out"):
        forget_unsigned(EdgeSplit, other, signed, "last.ckpt")
    assert other == {"data": {**inner, "init_args": {"seed": 1}}, "seed": 2}

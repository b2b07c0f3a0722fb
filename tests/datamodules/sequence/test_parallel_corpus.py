"""Pairs of files, tokenised once: the batches of ``ParallelText``, and what ends the work."""

import gzip
import math
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from config_cases import CONFIGS, parsed
from sequence_cases import check_exact_resume, plain, written

from trellis.datamodules.sequence import Multi30k, ParallelCorpus, ParallelText, mapped_array
from trellis.datamodules.sequence import tokenised_text as tokenised
from trellis.sequence import token_shards
from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tokenizer import BOS, EOS, CharTokenizer, WordTokenizer

Files = dict[str, tuple[str, str]]
PAIRS = {"train": 300, "val": 15, "test": 12}


def text(split: str, side: str) -> str:
    """Lines of one to ten words; those of the two sides differ in number and in their words."""
    draw = random.Random(f"{split} {side}")
    words = [f"{side}ö{i}" for i in range(60)]
    lines = [" ".join(draw.choices(words, k=draw.randint(1, 10))) for _ in range(PAIRS[split])]
    lines[3] = f"  {lines[3]}\u2028{lines[4]}\t"  # one line: only \n ends it
    return "\n".join(lines) + "\n"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return {
        split: (
            written(tmp_path, f"{split}.de", text(split, "d")),
            written(tmp_path, f"{split}.en", text(split, "e")),
        )
        for split in PAIRS
    }


def ready(files: Files, kind: type = ParallelCorpus, stage: str | None = None, **options):
    options = {"tokenizer": WordTokenizer, "max_tokens": 60} | options
    if kind is ParallelCorpus:
        options.setdefault("num_workers", 1)  # to start others takes seconds
    data = kind(**files, **options)
    data.prepare_data()
    data.setup(stage)
    return data


def token_files(data: ParallelCorpus) -> list[bytes]:
    sides = (data.texts.tokenised.source, data.texts.tokenised.target)
    return [(s.folder / f"{name}.bin").read_bytes() for s in sides for name in ("tokens", "ends")]


def replaced(files: Files, side: int, old: str, new: str, split: str = "train") -> None:
    path = Path(files[split][side])
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(tokenised, "rank_zero_info", lines.append)
    return lines


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of some kilobytes takes several pieces, shards and workers."""
    monkeypatch.setattr(token_shards, "PIECE", 700)
    monkeypatch.setattr(token_shards, "SHARD", 2)


def served(data: ParallelCorpus | ParallelText, epochs: int = 2) -> list:
    batches = plain(data.predict_dataloader())
    for split in PAIRS:
        loader = data.loader(split)
        for epoch in range(epochs):
            loader.set_epoch(epoch)
            batches.append(plain(loader))
    return batches


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("tokenizer", [WordTokenizer, BPETokenizer])
def test_batches_are_those_of_the_files_in_memory(files: Files, tokenizer, shared: bool) -> None:
    options = {"tokenizer": tokenizer, "shared_vocabulary": shared, "lowercase": True}
    large, small = ready(files, **options), ready(files, ParallelText, **options)
    assert large.spec == small.spec
    assert served(large) == served(small)
    batch = next(iter(large.train_dataloader()))
    assert batch.source.dtype == batch.target.dtype == torch.int64
    assert batch.references == ()
    assert len([*Path(files["train"][0]).parent.glob("tokens/train.*")]) == 2


@pytest.mark.parametrize(
    "form",
    [
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.removesuffix(b"\n"),
        lambda raw: raw + b"\n\n",
        lambda raw: b"\xef\xbb\xbf" + raw,
    ],
    ids=["of Windows", "no line end", "blank lines", "byte order mark"],
)
def test_however_files_begin_and_end_the_batches_are_the_same(files: Files, form) -> None:
    for path in map(Path, files["train"]):
        path.write_bytes(form(path.read_bytes()))
    options = {"drop_empty": True}
    assert served(ready(files, **options)) == served(ready(files, ParallelText, **options))


def test_what_is_left_out_is_what_memory_leaves_out(files: Files) -> None:
    replaced(files, 0, "\n", "\n \n")
    replaced(files, 1, "\n", "\n" + "lang " * 30 + "\n")
    for options, message in (
        ({}, r"train\.de and .*train\.en, line 2: empty in one of them, the first of 1; .*drop_e"),
        ({"drop_empty": True, "max_tokens": 20}, "line 2: 32 tokens, more than max_tokens=20"),
    ):
        errors = []
        for kind in (ParallelCorpus, ParallelText):
            with pytest.raises(ValueError, match=message) as error:
                ready(files, kind, **options)
            errors.append(str(error.value))
        assert errors[0] == errors[1]
    options = {"drop_empty": True, "max_length": 8}
    large = ready(files, **options)
    assert served(large) == served(ready(files, ParallelText, **options))
    assert 0 < large.train_dataloader().num_examples < 300


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_stages_in_any_order(files: Files, stage: str) -> None:
    data, whole = ready(files, stage=stage), ready(files)
    assert data.spec == whole.spec
    data.setup()
    assert served(data) == served(whole)


def test_the_vocabulary_is_learnt_from_a_sample_of_lines(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenised, "BLOCK", 256)
    for path, word in zip(files["train"], "ab", strict=True):
        Path(path).write_text("".join(f" {word}{i} {word}{i}\n" for i in range(2000)))
    separate, shared = (
        ready(files, sample_bytes=2560, shared_vocabulary=value).texts for value in (False, True)
    )
    for tokenizer in (separate.source, separate.target):
        known = sorted(int(word[1:]) for word in tokenizer.words)
        assert 100 < len(known) < 300, "of some 200 lines in ten blocks"
        assert known[0] < 700 < 1300 < known[-1], "they are from everywhere"
    assert shared.source == shared.target
    assert {word[0] for word in shared.source.words} == {"a", "b"}


@pytest.mark.parametrize("side", [0, 1])
def test_a_killed_run_goes_on_and_leaves_nothing_half_written(
    files: Files, side: int, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = token_files(ready(files, cache_dir=str(tmp_path / "straight")))
    write, begun = token_shards.Shard.write, []
    name = Path(files["train"][side]).name

    def stop_in_the_middle(shard: token_shards.Shard, tokenizer) -> None:
        mine = name in shard.pieces[0].path
        begun.append(mine)
        if begun.count(True) == 4:
            raise KeyboardInterrupt
        write(shard, tokenizer)

    with monkeypatch.context() as patch:
        patch.setattr(token_shards.Shard, "write", stop_in_the_middle)
        with pytest.raises(KeyboardInterrupt):
            ready(files)
    assert len([*(tmp_path / "tokens").glob(f"{name}-*/shards-*/*")]) == 3
    fresh = ParallelCorpus(**files, tokenizer=WordTokenizer)
    with pytest.raises(FileNotFoundError, match=rf"{name if side else 'train.de'} is not token"):
        fresh.setup()
    del said[:]
    data = ready(files)
    assert any("going on after 3 of" in line for line in said)
    assert token_files(data) == expected
    assert not [*(tmp_path / "tokens").glob("*/shards-*")]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("side", [0, 1])
def test_a_changed_file_is_tokenised_again(
    files: Files, side: int, shared: bool, said: list[str]
) -> None:
    state = ready(files, shared_vocabulary=shared).state_dict()
    assert len(said) == 2
    ready(files, shared_vocabulary=shared).load_state_dict(state)
    assert len(said) == 2, "the same files are tokenised once"
    replaced(files, side, "dö1" if side == 0 else "eö1", "neu")
    data = ready(files, shared_vocabulary=shared)
    again = [line for line in said[2:] if "was changed after it was tokenised" in line]
    # What the other side has learnt from both is old, too.
    assert len(again) == (2 if shared else 1)
    assert f"/{Path(files['train'][side]).name} was changed" in " ".join(again)
    assert served(data) == served(ready(files, ParallelText, shared_vocabulary=shared))
    with pytest.warns(UserWarning, match="is not the text that this run began with"):
        data.load_state_dict(state)


@pytest.mark.parametrize("loss", ["tokens.bin", "ends.bin", "corpus.json"])
def test_a_damaged_file_is_made_again(files: Files, loss: str) -> None:
    data = ready(files)
    expected = token_files(data)
    path = data.texts.tokenised.target.folder / loss
    path.write_bytes(path.read_bytes()[:-9])
    assert token_files(ready(files)) == expected


def test_a_file_that_changes_in_between_is_noticed(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a shared vocabulary, the side that is ready has learnt from the file as it was."""
    make = tokenised.TokenisedText._make

    def slowly(text: tokenised.TokenisedText) -> None:
        make(text)
        if text.path.name == "train.de":
            replaced(files, 1, "eö1", "neu")

    monkeypatch.setattr(tokenised.TokenisedText, "_make", slowly)
    with pytest.raises(ValueError, match=r"train\.en was changed while they were tokenised"):
        ready(files, shared_vocabulary=True)


def test_two_at_once_tokenise_once(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their locks are of open files, so that threads wait for each other as processes do."""
    write, written_by = token_shards.Shard.write, []

    def watched(shard: token_shards.Shard, tokenizer) -> None:
        written_by.append((shard.target, threading.get_ident()))
        write(shard, tokenizer)

    monkeypatch.setattr(token_shards.Shard, "write", watched)
    made = [ParallelCorpus(**files, tokenizer=WordTokenizer, num_workers=1) for _ in range(2)]
    threads = [threading.Thread(target=data.prepare_data) for data in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    targets = [target for target, _ in written_by]
    assert len(targets) == len({*targets}) > 4
    for data in made:
        data.setup()
    assert served(made[0]) == served(made[1])


def test_unequal_files_are_refused_before_they_are_tokenised(files: Files, tmp_path: Path) -> None:
    replaced(files, 1, "\n", "\nand one more\n")
    with pytest.raises(ValueError, match=r"/train\.de has 300 lines and .*/train\.en has 301"):
        ready(files)
    assert not (tmp_path / "tokens").exists()


def test_bad_files_and_options_are_refused(files: Files, tmp_path: Path) -> None:
    source, target = files["train"]
    for paths, message in (
        ((source, str(tmp_path / "gone.en")), "gone.en is missing: put it there"),
        ((str(tmp_path / "gone.de"), target), "gone.de is missing: put it there"),
        ((source, str(tmp_path)), "is missing: put it there"),
        ((source, f"{target}.gz"), "train.en.gz' is compressed: unpack it"),
        ((written(tmp_path, "a", ""), written(tmp_path, "b", "")), "a is empty: give a file"),
    ):
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            ready({**files, "train": paths})
    for options, message in (
        ({"tokenizer": CharTokenizer}, "CharTokenizer has no pad_id: give it special=True"),
        ({"max_length": 61}, "max_length=61: give 3 to max_tokens=60"),
        ({"num_workers": 0}, "num_workers=0: give at least 1"),
        ({"sample_bytes": 0}, "sample_bytes=0: give at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            ready(files, **options)
    path = Path(target)
    path.write_bytes(path.read_bytes()[:5000] + b"\xff" + path.read_bytes()[5000:])
    number = path.read_bytes()[:5000].count(b"\n") + 1
    with pytest.raises(ValueError, match=rf"train\.en, line {number}, column \d+: byte 0xff is"):
        ready(files)


def test_files_of_one_name_share_a_folder_of_tokens(files: Files, tmp_path: Path) -> None:
    paths = []
    for path in files["train"]:
        folder = tmp_path / Path(path).suffix[1:]
        folder.mkdir()
        paths.append(str(Path(path).rename(folder / "train.txt")))
    same = {**files, "train": tuple(paths)}
    for shared in (False, True):
        options = {"shared_vocabulary": shared}
        data = ready(same, cache_dir=str(tmp_path / "tokens"), **options)
        assert served(data) == served(ready(same, ParallelText, **options))


def test_exact_resume_and_ranks(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ready(files)
    check_exact_resume(data.train_dataloader(), ready(files).train_dataloader())
    alone, shares = plain(data.loader("train")), []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(dist, "get_rank", lambda r=rank: r)
        shares.append(plain(data.loader("train")))
    turns = [batch for pair in zip(*shares, strict=True) for batch in pair]
    assert turns[: len(alone)] == alone
    assert len(turns) - len(alone) < 2


def test_memory_does_not_grow_with_what_is_read(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, maps, mapped = ready(files), [], mapped_array.np.memmap
    monkeypatch.setattr(mapped_array.np, "memmap", lambda *args: maps.append(1) or mapped(*args))
    pairs = data.texts.splits["train"]
    for _ in range(200):
        for side, first in ((pairs.source, None), (pairs.target, BOS)):
            rows = side.padded(torch.tensor([0, 299]), pad_id=0)
            assert (rows == EOS).sum() == 2
            assert first is None or (rows[:, 0] == first).all()
    assert 4 <= len(maps) < 80, "mapped anew now and then, not for each batch"


@pytest.mark.long
@pytest.mark.data
def test_captions_are_those_of_multi30k(
    data_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_shards, "PIECE", 1 << 17)
    raw = Path(data_dir) / "multi30k" / "raw"
    for path in raw.glob("*.gz"):
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    paths = {
        split: (str(tmp_path / f"{name}.de"), str(tmp_path / f"{name}.en"))
        for split, name in (("train", "train"), ("val", "val"))
    }
    options = {"tokenizer": WordTokenizer, "lowercase": True, "max_tokens": 2048}
    large, small = ready(paths, stage="fit", **options), Multi30k(data_dir, **options)
    small.setup("fit")
    assert large.spec == small.spec
    assert plain(large.train_dataloader()) == plain(small.train_dataloader())
    assert plain(large.val_dataloader()) == plain(small.val_dataloader())


@pytest.mark.long
@pytest.mark.data
def test_a_config_trains_with_it(data_dir: str, tmp_path: Path) -> None:
    raw, paths = Path(data_dir) / "multi30k" / "raw", {}
    for name, count in (("train", 2000), ("val", 50)):
        for side in ("de", "en"):
            lines = gzip.decompress((raw / f"{name}.{side}.gz").read_bytes()).splitlines(True)
            (tmp_path / f"{name}.{side}").write_bytes(b"".join(lines[:count]))
        paths[name] = f"[{tmp_path / name}.de,{tmp_path / name}.en]"
    path = next(path for path in CONFIGS if path.name == "transformer_multi30k.yaml")
    sizes = {"embed_dim": 32, "num_heads": 2, "num_layers": 1, "feedforward_dim": 32}
    cli = parsed(
        path,
        tmp_path,
        "--data=ParallelCorpus",
        *(f"--data.{name}={pair}" for name, pair in paths.items()),
        "--data.num_workers=1",
        "--data.tokenizer=WordTokenizer",
        "--model.lr_scheduler.init_args.warmup_steps=5",
        "--model.optimizer.init_args.lr=0.01",
        *(f"--model.network.init_args.{name}={size}" for name, size in sizes.items()),
        "--model.num_beams=1",
        "--model.max_new_tokens=3",
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=40",
    )
    assert isinstance(cli.datamodule, ParallelCorpus)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    kinds = cli.datamodule.spec.target.num_tokens
    assert kinds > 2000
    assert float(cli.trainer.callback_metrics["val/loss"]) < 0.75 * math.log(kinds)


@pytest.mark.long
def test_other_processes_write_the_same(files: Files, tmp_path: Path) -> None:
    here, there = (
        ready(files, cache_dir=str(tmp_path / str(count)), num_workers=count) for count in (1, 2)
    )
    assert token_files(here) == token_files(there)


MEMORY = """
import sys
from trellis.datamodules.sequence import ParallelCorpus
from trellis.sequence.tokenizer import WordTokenizer

def memory():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

data = ParallelCorpus(sys.argv[1:3], sys.argv[3:], tokenizer=WordTokenizer, sample_bytes=1 << 18)
data.prepare_data()
before = memory()
data.setup("fit")
loader = data.train_dataloader()
pairs = sum(len(batch.source) for batch in loader)
print(pairs, memory() - before)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_some_bytes_of_memory_for_each_pair(tmp_path: Path) -> None:
    """Measured: 22 bytes for a pair of 95 in the files; ``ParallelText`` takes 400 for it."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(2, 8))) for _ in range(5000)]
    lines = [" ".join(draw.choices(words, k=draw.randint(2, 14))) for _ in range(20_000)]
    block = "\n".join(lines) + "\n"
    paths = [written(tmp_path, name, block * 30) for name in ("train.a", "train.b")]
    paths += [written(tmp_path, name, "ab\n") for name in ("val.a", "val.b")]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *paths], stdout=subprocess.PIPE, text=True, check=True
    )
    pairs, memory = map(int, done.stdout.split())
    assert pairs == 600_000
    assert memory < 10e6 + 40 * pairs

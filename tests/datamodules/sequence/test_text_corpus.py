import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from sequence_cases import check_exact_resume, plain, written

from trellis.datamodules.sequence import TextCorpus, TinyShakespeare, mapped_array, text_sources
from trellis.datamodules.sequence import tokenised_text as tokenised
from trellis.sequence import token_shards
from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tokenizer import CharTokenizer, WordTokenizer, from_json

TEXT = "".join(f"line {i}: to be, or not to be {i * i % 97}\n" for i in range(400))


def ready(folder: Path, text: str | None = TEXT, **options) -> TextCorpus:
    path = folder / "text.txt" if text is None else written(folder, "text.txt", text)
    options = {"tokenizer": CharTokenizer, "context": 8, "batch_size": 4, **options}
    data = TextCorpus(str(path), **options)
    data.prepare_data()
    data.setup()
    return data


def folder_of(folder: Path, **options) -> TextCorpus:
    data = TextCorpus(str(folder), tokenizer=CharTokenizer, context=8, **options)
    data.prepare_data()
    data.setup()
    return data


def whole(data: TextCorpus, split: str) -> list[int]:
    tokens = data.parts[split]
    return tokens.rows(torch.tensor([0]), len(tokens))[0].tolist()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(tokenised, "rank_zero_info", lines.append)
    return lines


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of some kilobytes takes several pieces, shards and workers."""
    monkeypatch.setattr(token_shards, "PIECE", 700)
    monkeypatch.setattr(token_shards, "SHARD", 2)
    monkeypatch.setattr(token_shards, "_LOOK_AHEAD", 100)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tokenizer", [CharTokenizer, WordTokenizer, BPETokenizer])
def test_batches_are_those_of_the_text_in_memory(tmp_path: Path, stream: bool, tokenizer) -> None:
    options = {"tokenizer": tokenizer, "context": 9, "batch_size": 5, "stream": stream, "seed": 3}
    large = ready(tmp_path, **options)
    small = TinyShakespeare(path=str(tmp_path / "text.txt"), **options)
    small.setup()
    assert large.spec == small.spec
    for split in ("train", "val", "test"):
        mine, theirs = large.loader(split), small.loader(split)
        for epoch in (0, 1):
            mine.set_epoch(epoch), theirs.set_epoch(epoch)
            assert plain(mine) == plain(theirs)
        assert all(batch.dtype == torch.int64 for batch in mine)


@pytest.mark.usefixtures("small_pieces")
def test_pieces_and_shards_change_nothing(tmp_path: Path) -> None:
    text = "é, ü and 一二三\r\n" * 200 + "ab" * 3000
    data = ready(tmp_path, text, num_workers=1, held_out=0.3)
    both = data.tokenizer.decode(whole(data, "train") + whole(data, "val"))
    assert both == (tmp_path / "text.txt").read_bytes().decode().replace("\r\n", "\n")
    assert not [*data.text.folder.glob("shards-*")], "shards are removed once they are joined"


@pytest.mark.usefixtures("small_pieces")
def test_words_are_not_cut_where_there_are_spaces(tmp_path: Path) -> None:
    for text in (TEXT, TEXT.replace("\n", " ")):
        data = ready(tmp_path, text, tokenizer=WordTokenizer, num_workers=1)
        cut = int(0.9 * len(text))
        assert whole(data, "train") == data.tokenizer.encode(text[:cut])
        assert whole(data, "val") == data.tokenizer.encode(text[cut:])


def test_a_folder_is_its_texts_in_alphabetical_order(tmp_path: Path) -> None:
    for name, text in (
        ("b.txt", "world" * 9),
        ("a.txt", "hello" * 9),
        ("c.md", "no"),
        ("d.txt", ""),
    ):
        written(tmp_path, name, text)
    data = folder_of(tmp_path, held_out=0.2)
    ids = whole(data, "train") + whole(data, "val")
    assert data.tokenizer.decode(ids) == "hello" * 9 + "world" * 9
    assert len(data.parts["val"]) == 18
    written(tmp_path, "aa.txt", "d")
    data = folder_of(tmp_path, held_out=0.2)
    assert len(data.parts["train"]) + len(data.parts["val"]) == 91


def test_a_text_that_is_gone_from_its_folder_is_gone(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        written(tmp_path, name, f"{name} " * 20)
    assert len(folder_of(tmp_path).parts["train"]) == 216
    (tmp_path / "b.txt").unlink()
    data = folder_of(tmp_path)
    assert data.tokenizer.decode(whole(data, "train")) == ("a.txt " * 20)[:108]


def test_a_sample_reaches_into_every_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenised, "BLOCK", 100)
    texts = {"a.txt": "a" * 250, "b.txt": "b" * 250, "c.txt": "c" * 250}
    for name, text in texts.items():
        written(tmp_path, name, text)
    # Eight of nine blocks: at least two of each text.
    data = folder_of(tmp_path, sample_bytes=740, held_out=0.01)
    assert data.tokenizer.decode(whole(data, "train") + whole(data, "val")) == "".join(
        texts.values()
    )


def test_a_run_that_is_killed_at_the_end_leaves_no_counts_of_another_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_) -> None:
        raise InterruptedError

    ready(tmp_path, TEXT)
    with monkeypatch.context() as patch:
        patch.setattr(tokenised, "atomic_write_text", killed)
        with pytest.raises(InterruptedError):
            ready(tmp_path, TEXT.upper())
    data = TextCorpus(str(tmp_path / "text.txt"), tokenizer=CharTokenizer, context=8)
    with pytest.raises(FileNotFoundError, match="is not tokenised"):
        data.setup()
    data = ready(tmp_path, None)
    assert data.tokenizer.decode(whole(data, "train")) == TEXT.upper()[: int(0.9 * len(TEXT))]


def test_tokenised_once_in_the_smallest_type(tmp_path: Path, said: list[str]) -> None:
    data = ready(tmp_path, TEXT)
    file = data.text.folder / "tokens.bin"
    assert file.stat().st_size == len(TEXT), "a byte for each of few kinds of characters"
    assert len(said) == 1
    assert "MB/s" in said[0]
    before = file.stat().st_mtime_ns
    again = ready(tmp_path, None)
    assert file.stat().st_mtime_ns == before
    assert len(said) == 1
    assert again.spec == data.spec
    other = ready(tmp_path, None, tokenizer=partial(BPETokenizer, num_tokens=300))
    assert other.text.folder != data.text.folder
    assert other.parts["train"].dtype == "uint16"
    assert from_json(other.spec.tokenizer) == other.tokenizer


def test_a_changed_text_is_tokenised_again_and_said_so(tmp_path: Path, said: list[str]) -> None:
    ready(tmp_path, TEXT)
    changed = TEXT.replace("not", "now")
    data = ready(tmp_path, changed)  # of the same size
    assert any("was changed after it was tokenised: tokenising it again" in line for line in said)
    assert data.tokenizer.decode(whole(data, "train")) == changed[: int(0.9 * len(TEXT))]
    said.clear()
    data = ready(tmp_path, changed + "note")
    assert len(data.parts["train"]) + len(data.parts["val"]) == len(TEXT) + 4
    assert "tokenising it again" in said[0]
    assert len(said) == 2


def test_a_text_that_was_only_touched_is_not(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(tmp_path)
    os.utime(tmp_path / "text.txt", (1, 1))
    ready(tmp_path, None)
    assert len(said) == 1
    monkeypatch.setattr(text_sources, "checksum", None)
    ready(tmp_path, None)  # the new time is known: no checksum is taken


@pytest.mark.parametrize("loss", ["tokens.bin", "corpus.json"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, loss: str) -> None:
    data = ready(tmp_path)
    expected = whole(data, "train")
    os.truncate(data.text.folder / loss, 100)
    assert whole(ready(tmp_path, None), "train") == expected


def test_a_run_that_goes_on_with_another_text_is_warned(tmp_path: Path) -> None:
    state = ready(tmp_path).state_dict()
    ready(tmp_path, None).load_state_dict(state)
    with pytest.warns(UserWarning, match="is not the text that this run began with"):
        ready(tmp_path, TEXT.replace("not", "now")).load_state_dict(state)


def test_a_folder_that_cannot_be_made_is_named_with_the_option(tmp_path: Path) -> None:
    written(tmp_path, "tokens", "a file")
    with pytest.raises(OSError, match=r"tokens/text.txt-\w+ cannot be made .*: give cache_dir"):
        ready(tmp_path)


@pytest.mark.parametrize("stream", [False, True])
def test_exact_resume(tmp_path: Path, stream: bool) -> None:
    data = ready(tmp_path, stream=stream)
    loader, fresh = data.train_dataloader(), ready(tmp_path, None, stream=stream).loader("train")
    if stream:  # each epoch is the same
        expected, begun = plain(loader), iter(loader)
        next(begun), next(begun)
        fresh.load_state_dict(loader.state_dict())
        assert plain(fresh) == expected[2:]
    else:
        check_exact_resume(loader, fresh)


def test_two_processes_share_the_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ready(tmp_path)
    for split in ("train", "val"):
        alone = plain(data.loader(split))
        shares = []
        with monkeypatch.context() as patch:
            patch.setattr(dist, "is_initialized", lambda: True)
            patch.setattr(dist, "get_world_size", lambda: 2)
            for rank in range(2):
                patch.setattr(dist, "get_rank", lambda r=rank: r)
                shares.append(plain(data.loader(split)))
        turns = [batch for pair in zip(*shares, strict=True) for batch in pair]
        assert turns[: len(alone)] == alone, "complete, and each batch in one process"
        assert len(turns) - len(alone) < 2


@pytest.mark.usefixtures("small_pieces")
def test_a_killed_run_goes_on_and_leaves_nothing_half_written(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "straight").mkdir()
    straight = ready(tmp_path / "straight", num_workers=1)
    write, begun = token_shards.Shard.write, []

    def stop_in_the_middle(shard: token_shards.Shard, tokenizer) -> None:
        begun.append(shard.target)
        if len(begun) == 4:
            raise KeyboardInterrupt
        write(shard, tokenizer)

    monkeypatch.setattr(token_shards.Shard, "write", stop_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        ready(tmp_path, num_workers=1)
    folder = next((tmp_path / "tokens").iterdir())
    assert not (folder / "corpus.json").exists()
    kept = [*folder.glob("shards-*/*")]
    assert sorted(path.name for path in kept) == [Path(name).name for name in begun[:3]]
    with pytest.raises(FileNotFoundError, match=r"text\.txt is not tokenised: call prepare_data"):
        TextCorpus(str(tmp_path / "text.txt"), tokenizer=CharTokenizer).setup()

    times = {path.name: path.stat().st_mtime_ns for path in kept}
    del said[:]
    resumed = []

    def watched(shard: token_shards.Shard, tokenizer) -> None:
        resumed.append(Path(shard.target).name)
        write(shard, tokenizer)

    monkeypatch.setattr(token_shards.Shard, "write", watched)
    data = ready(tmp_path, None, num_workers=1)
    assert not {*resumed} & {*times}
    assert "going on after 3 of" in said[0]
    ours, theirs = (each.text.folder / "tokens.bin" for each in (data, straight))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.usefixtures("small_pieces")
def test_shards_of_another_text_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def joins_nothing(*_: object) -> None:
        raise KeyboardInterrupt

    join = tokenised.TokenisedText._join
    monkeypatch.setattr(tokenised.TokenisedText, "_join", joins_nothing)
    with pytest.raises(KeyboardInterrupt):
        ready(tmp_path, num_workers=1)
    monkeypatch.setattr(tokenised.TokenisedText, "_join", join)
    changed = TEXT.replace("not", "now")
    data = ready(tmp_path, changed, num_workers=1)
    assert data.tokenizer.decode(whole(data, "train") + whole(data, "val")) == changed


KILLER = """
import os, signal, sys
from trellis.sequence import token_shards
write = token_shards.Shard.write
def killed(shard, tokenizer):
    write(shard, tokenizer)
    if {often} or not os.path.exists({mark!r}):
        open({mark!r}, "w").close()
        {undo}
        os.kill(os.getpid(), signal.SIGKILL)
token_shards.Shard.write = killed
token_shards._work(sys.argv[-2], int(sys.argv[-1]))
"""


def killing(monkeypatch: pytest.MonkeyPatch, mark: Path, often: bool) -> None:
    """Workers are killed: the first one after its first shard, or all before any shard."""
    undo = "os.unlink(shard.target)" if often else "pass"
    code = KILLER.format(mark=str(mark), often=often, undo=undo)
    start = subprocess.Popen

    def with_a_kill(command: list[str], **options) -> subprocess.Popen:
        return start([sys.executable, "-c", code, *command[-2:]], **options)

    monkeypatch.setattr(subprocess, "Popen", with_a_kill)


@pytest.mark.long
@pytest.mark.usefixtures("small_pieces")
def test_a_killed_worker_costs_its_shard_only(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killing(monkeypatch, tmp_path / "mark", often=False)
    data = ready(tmp_path, num_workers=2)
    assert (tmp_path / "mark").exists()
    assert any("1 processes were killed" in line for line in said)
    assert data.tokenizer.decode(whole(data, "train") + whole(data, "val")) == TEXT
    assert sorted(path.name for path in data.text.folder.iterdir()) == [
        "corpus.json", "lock", "tokens.bin", "vocabularies",
    ]  # fmt: skip


@pytest.mark.long
@pytest.mark.usefixtures("small_pieces")
def test_workers_that_are_always_killed_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killing(monkeypatch, tmp_path / "mark", often=True)
    with pytest.raises(RuntimeError, match="3 times in a row .* give num_workers=1"):
        ready(tmp_path, num_workers=2)


@pytest.mark.long
@pytest.mark.usefixtures("small_pieces")
def test_a_worker_says_which_text_it_cannot_encode(tmp_path: Path) -> None:
    text = TEXT[:-300] + "\nüber" + TEXT[-300:]
    with pytest.raises(ValueError, match=r"text\.txt, from byte [\d,]+ on: character 'ü' at"):
        ready(tmp_path, text, num_workers=2, held_out=0.3)
    assert not [*tmp_path.rglob("job.json")]


@pytest.mark.long
@pytest.mark.usefixtures("small_pieces")
def test_an_error_of_the_disk_ends_the_run(
    tmp_path: Path,
) -> None:
    gone = [token_shards.Span(str(tmp_path / "missing"), 0, 1)] * 2
    unwritable = [token_shards.Shard(str(tmp_path / str(i)), gone) for i in range(3)]
    with pytest.raises(OSError, match="missing"):
        token_shards.encode_shards(unwritable, CharTokenizer(["a"]), tmp_path, 2)


@pytest.mark.usefixtures("small_pieces")
def test_text_that_is_not_utf8_is_found_by_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    raw = TEXT.encode()
    at = raw.index(b"line 150")
    path.write_bytes(raw[:at] + b"li\xff" + raw[at:])
    with pytest.raises(ValueError, match=r"text\.txt, line 151, column 3: byte 0xff is not UTF-8"):
        ready(tmp_path, None, num_workers=1)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"text\.txt is empty: give a file with text"),
        (" \n", {}, r"text\.txt is empty: give a file with text"),
        ("a", {}, r"text\.txt is (empty|too short)"),
        ("ab" * 4, {}, r"too short: 7 tokens to train on and 1 .* context=8 needs 9 and 2"),
        (TEXT, {"held_out": 1.0}, r"held_out=1\.0: give a number between 0 and 1"),
        (TEXT, {"num_workers": 0}, "num_workers=0: give at least 1"),
        (TEXT, {"sample_bytes": 0}, "sample_bytes=0: give at least 1"),
        (TEXT, {"context": 0}, "context=0: give at least 1"),
        (TEXT, {"steps_per_epoch": 5, "stream": True}, "steps_per_epoch is for random windows"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, text: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ready(tmp_path, text, **options)


def test_a_tokenizer_without_a_name_is_refused(tmp_path: Path) -> None:
    with (
        pytest.warns(UserWarning, match="cannot be imported by name"),
        pytest.raises(ValueError, match="give a class, or a functools.partial of one"),
    ):
        ready(tmp_path, TEXT, tokenizer=lambda texts, lowercase: None)


def test_what_is_missing_or_compressed_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"text\.txt is missing: put it there"):
        ready(tmp_path, None)
    with pytest.raises(FileNotFoundError, match=r"holds no \.txt file: put the texts there"):
        TextCorpus(str(tmp_path)).prepare_data()
    with pytest.raises(ValueError, match=r"text\.txt\.gz' is compressed: unpack it"):
        TextCorpus(str(tmp_path / "text.txt.gz"))


def test_the_vocabulary_of_a_large_text_is_learnt_from_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenised, "BLOCK", 256)
    monkeypatch.setattr(token_shards, "_LOOK_AHEAD", 100)
    rare = "".join(f"word{i} and more\n" for i in range(2000))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    data, same = (
        ready(tmp_path / name, rare, tokenizer=WordTokenizer, sample_bytes=2560)
        for name in ("one", "two")
    )
    assert 100 < data.spec.num_tokens < 300, "of some 150 words in ten blocks"
    known = sorted(int(w[4:]) for w in data.tokenizer.words if w.startswith("word"))
    assert known[0] < 600 < 1200 < known[-1], "they are from everywhere"
    assert same.spec == data.spec


def test_memory_does_not_grow_with_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ready(tmp_path)
    tokens, maps = data.parts["train"], []
    mapped = mapped_array.np.memmap
    monkeypatch.setattr(mapped_array.np, "memmap", lambda *args: maps.append(1) or mapped(*args))
    for start in range(2000):
        tokens.rows(torch.tensor([start, start + 1]), 9)
    assert 1 < len(maps) < 40, "mapped anew now and then, not for each batch"


def test_workers_end_with_their_owner(tmp_path: Path) -> None:
    """Nobody has to find and kill processes that go on for hours."""
    job = tmp_path / "job.json"
    shards = [[str(tmp_path / f"train-{i}"), [[str(tmp_path / "text"), 0, 3]]] for i in range(3)]
    written(tmp_path, "text", "abc")
    tokenizer = CharTokenizer(["abc"]).to_json()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal, "signal", lambda *_: None)
        job.write_text(token_shards.json.dumps([tokenizer, os.getpid(), 1, shards]))
        token_shards._work(str(job), 0)
        assert not [*tmp_path.glob("train-*")], "this process is not the child of its own"
        job.write_text(token_shards.json.dumps([tokenizer, os.getppid(), 1, shards]))
        token_shards._work(str(job), 0)
    assert len([*tmp_path.glob("train-*")]) == 3


@pytest.mark.data
def test_the_real_text(data_dir: str, tmp_path: Path) -> None:
    data = TextCorpus(
        data_dir=data_dir, cache_dir=str(tmp_path), tokenizer=CharTokenizer, steps_per_epoch=300
    )
    data.prepare_data()
    data.setup()
    assert data.spec.num_tokens == 65
    loader = data.train_dataloader()
    batches = iter(loader)
    next(batches)
    start = time.process_time()
    for _ in range(200):
        next(batches)
    assert (time.process_time() - start) / 200 < 1e-3

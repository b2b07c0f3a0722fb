import hashlib
import time
import urllib.error
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from sequence_cases import check_exact_resume, plain, written

from trellis.datamodules.sequence.tiny_shakespeare import CHECKSUM, TinyShakespeare
from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tokenizer import from_json

ALPHABET = "abcdefghij"
TEXT = "".join(ALPHABET[i * i % 7 + i % 3] for i in range(1000))


def ready(folder: Path, text: str = TEXT, **options) -> TinyShakespeare:
    data = TinyShakespeare(path=written(folder, "text.txt", text), **options)
    data.prepare_data()
    data.setup()
    return data


def test_the_first_nine_tenths_train_and_the_vocabulary_is_theirs(tmp_path: Path) -> None:
    data = ready(tmp_path)
    assert data.spec.num_tokens == len(set(TEXT[:900]))
    assert data.tokenizer.decode(data.parts["train"].tolist()) == TEXT[:900]
    assert data.tokenizer.decode(data.parts["val"].tolist()) == TEXT[900:]
    assert from_json(data.spec.tokenizer) == data.tokenizer
    data.setup("test")


def test_random_windows_are_from_the_text_and_everywhere(tmp_path: Path) -> None:
    data = ready(tmp_path, "".join(chr(0x4E00 + i) for i in range(900)) + "一" * 100, context=8)
    seen = []
    for batch in data.train_dataloader():
        assert batch.shape == (12, 9)
        assert (batch.diff(dim=1) == 1).all(), "each window is a piece of the text"
        seen += batch[:, 0].tolist()
    assert len(data.train_dataloader()) == 10, "as many steps as read the text once"
    assert len(set(seen)) > 0.85 * len(seen) * 0.9
    assert min(seen) < 60
    assert max(seen) > 830


def test_the_last_window_can_be_drawn(tmp_path: Path) -> None:
    data = ready(tmp_path, "ab" * 5 + "a", context=7, steps_per_epoch=20, batch_size=3)
    assert len(data.parts["train"]) == 9
    rows = {tuple(row) for batch in data.train_dataloader() for row in batch.tolist()}
    assert rows == {(0, 1) * 4, (1, 0) * 4}


def test_steps_per_epoch_and_exact_resume(tmp_path: Path) -> None:
    data = ready(tmp_path, context=8, batch_size=4, steps_per_epoch=7)
    assert len(data.train_dataloader()) == 7
    check_exact_resume(data.train_dataloader(), data.train_dataloader())
    assert plain(data.train_dataloader()) == plain(data.train_dataloader())
    other = ready(tmp_path, context=8, batch_size=4, steps_per_epoch=7, seed=5)
    assert plain(other.train_dataloader()) != plain(data.train_dataloader())


@pytest.mark.parametrize("context", [8, 9, 11, 98, 99, 200])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_validation_predicts_each_token_once(
    tmp_path: Path, context: int, batch_size: int
) -> None:
    data = ready(tmp_path, context=context, batch_size=batch_size)
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        batches = list(loader)
        assert len(batches) == len(loader)
        rows = [row for batch in batches for row in batch]
        assert torch.equal(torch.cat([row[1:] for row in rows]), data.parts["val"][1:])
        assert torch.equal(torch.cat([row[:-1] for row in rows]), data.parts["val"][:-1])
        assert all(len(row) == context + 1 for row in rows[:-1])
        assert len(rows[-1]) > 1


@pytest.mark.parametrize("split", ["train", "val"])
def test_streams_go_on_from_batch_to_batch(tmp_path: Path, split: str) -> None:
    data = ready(tmp_path, context=8, batch_size=4, stream=True)
    batches = list(data.loader(split))
    assert len(batches) == len(data.loader(split)) == (28 if split == "train" else 3)
    for batch, after in zip(batches, batches[1:], strict=False):
        assert torch.equal(batch[:, -1], after[:, 0])
    rows = torch.cat([batches[0][:, :1], *(batch[:, 1:] for batch in batches)], dim=1)
    tokens, length = data.parts[split], (len(data.parts[split]) - 1) // 4
    for number, row in enumerate(rows):
        assert torch.equal(row, tokens[number * length :][: len(row)])
    if split == "val":
        assert rows.shape == (4, length + 1), "all but fewer tokens than there are rows"
        assert batches[-1].shape == (4, 24 - 2 * 8 + 1)
    else:
        assert {tuple(batch.shape) for batch in batches} == {(4, 9)}


def test_streams_resume_where_they_stopped(tmp_path: Path) -> None:
    data = ready(tmp_path, context=8, batch_size=4, stream=True)
    loader, fresh = data.train_dataloader(), data.train_dataloader()
    expected, begun = plain(loader), iter(loader)
    next(begun), next(begun)
    fresh.load_state_dict(loader.state_dict())
    assert plain(fresh) == expected[2:]


def test_each_process_has_streams_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ready(tmp_path, context=8, batch_size=2, stream=True)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    shards = []
    for rank in range(2):
        monkeypatch.setattr(dist, "get_rank", lambda r=rank: r)
        batches = list(data.train_dataloader())
        for batch, after in zip(batches, batches[1:], strict=False):
            assert torch.equal(batch[:, -1], after[:, 0])
        shards.append(batches)
    together = [torch.cat(pair).tolist() for pair in zip(*shards, strict=True)]
    monkeypatch.undo()
    assert together == plain(ready(tmp_path, context=8, batch_size=4, stream=True).loader("train"))


def test_subwords_and_small_letters(tmp_path: Path) -> None:
    text = "To be, or not to be: that is the question.\n" * 50
    data = ready(tmp_path, text, context=8, lowercase=True, tokenizer=BPETokenizer)
    assert data.tokenizer.decode(data.parts["train"].tolist()) == text[:1935].lower()
    assert data.tokenizer.encode("TO BE") == data.tokenizer.encode("to be")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"text\.txt is empty"),
        ("ab" * 20, {}, r"is too short: 36 tokens to train on .* context=64 needs 65"),
        ("ab" * 450 + "ü" * 100, {}, r"text\.txt, its last 10 %, from 900 on: character 'ü' at"),
        (TEXT, {"context": 0}, "context=0: give at least 1"),
        (TEXT, {"batch_size": 0}, "batch_size=0: give at least 1"),
        (TEXT, {"steps_per_epoch": 0}, "steps_per_epoch=0: give at least 1"),
        (TEXT, {"steps_per_epoch": 5, "stream": True}, "steps_per_epoch is for random windows"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, text: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ready(tmp_path, text, **options)


def test_streams_need_something_for_each_row(tmp_path: Path) -> None:
    data = ready(tmp_path, "ab" * 20, context=8, stream=True)
    for split, tokens in (("train", 36), ("val", 4)):
        with pytest.raises(ValueError, match=f"too short: {tokens} tokens for 12 streams of cont"):
            data.loader(split)


def test_a_missing_file_is_fetched_unless_it_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def unreachable(url: str, timeout: float) -> None:
        asked.append(url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(FileNotFoundError, match=r"input\.txt is not in .*/tinyshakespeare and"):
        TinyShakespeare(str(tmp_path)).prepare_data()
    assert asked == [
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
    ]
    mine = TinyShakespeare(path=str(tmp_path / "mine.txt"))
    mine.prepare_data()
    with pytest.raises(FileNotFoundError, match=r"mine\.txt is missing: put it there"):
        mine.setup()
    assert len(asked) == 1


@pytest.mark.data
def test_the_real_text(data_dir: str) -> None:
    data = TinyShakespeare(data_dir)
    data.prepare_data()
    data.setup()
    assert data.spec.num_tokens == 65
    assert "sha256:" + hashlib.sha256(data.path.read_bytes()).hexdigest() == CHECKSUM
    assert len(data.parts["train"]) + len(data.parts["val"]) == 1_115_394
    assert len(data.parts["val"]) == 111_540
    loader = data.train_dataloader()
    batches = iter(loader)
    next(batches)
    start = time.process_time()
    for _ in range(200):
        next(batches)
    assert (time.process_time() - start) / 200 < 1e-3

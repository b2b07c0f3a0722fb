"""Damaged and unusual data files are read as they are meant, or refused in a line or two."""

import gzip
import os
import random
import struct
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trellis.datamodules.graph.graph_from_files import GraphFromFiles
from trellis.datamodules.graph.tu_dataset import TUDataset
from trellis.datamodules.image.image_folder import ImageFolder
from trellis.datamodules.image.mnist import MNIST
from trellis.datamodules.sequence.conll import CoNLL
from trellis.datamodules.sequence.labelled_text import LabelledText
from trellis.datamodules.sequence.parallel_text import ParallelText
from trellis.datamodules.sequence.sentence_order import SentenceOrder
from trellis.datamodules.sequence.tiny_shakespeare import TinyShakespeare
from trellis.sequence.tokenizer import WordTokenizer

JUNK = [b"nan", b"inf", b"-1", b"1e400", b"99999999999999999999", b"0.5", b"", b"x", b"\xff\xfe",
        b"\x00", b"\xef\xbb\xbf", "٣".encode(), "é".encode("latin-1"), b'"', b",", b"\t", b";",
        b"\r\n", b"\n\n", b" ", b"1_0", b"0x1f", b"None", b"#", b"-"]  # fmt: skip


def graph(folder: Path) -> GraphFromFiles:
    rows = [f"n{i},{i * 0.5},{i % 3},{'ab'[i % 2]}" for i in range(20)]
    (folder / "nodes.csv").write_text("\n".join(["id,x,y,label", *rows, ""]))
    edges = [f"n{i},n{(i * 7 + 1) % 20}" for i in range(20)]
    (folder / "edges.csv").write_text("\n".join(["source,target", *edges, ""]))
    return GraphFromFiles(str(folder / "edges.csv"), str(folder / "nodes.csv"))


def graphs(folder: Path) -> TUDataset:
    raw = folder / "TUDataset" / "MUTAG" / "raw"
    raw.mkdir(parents=True)
    nodes = range(1, 61)  # 20 triangles
    edges = [(i, j) for i in nodes for j in nodes if i != j and (i - 1) // 3 == (j - 1) // 3]
    (raw / "MUTAG_A.txt").write_text("".join(f"{i}, {j}\n" for i, j in edges))
    (raw / "MUTAG_graph_indicator.txt").write_text("".join(f"{(i + 2) // 3}\n" for i in nodes))
    (raw / "MUTAG_graph_labels.txt").write_text("1\n-1\n" * 10)
    (raw / "MUTAG_node_labels.txt").write_text("".join(f"{i % 3}\n" for i in nodes))
    return TUDataset("MUTAG", data_dir=str(folder))


def labelled(folder: Path) -> LabelledText:
    for split in ("train", "val"):
        lines = ("good a fine film", "bad no words", "good well, well", "bad poor") * 2
        text = "".join(line.replace(" ", "\t", 1) + "\n" for line in lines)
        (folder / f"{split}.tsv").write_text(text)
    return LabelledText(str(folder / "train.tsv"), str(folder / "val.tsv"))


def tagged(folder: Path) -> CoNLL:
    for split in ("train", "val"):
        (folder / f"{split}.conll").write_text("Anna B-PER\nruns O\n\nto O\nRome B-LOC\n\n" * 3)
    return CoNLL(str(folder / "train.conll"), str(folder / "val.conll"))


def pairs(folder: Path) -> ParallelText:
    for split in ("train", "val"):
        (folder / f"{split}.de").write_text("ein Hund\nzwei Hunde\ndrei\n" * 3)
        (folder / f"{split}.en").write_text("a dog\ntwo dogs\nthree\n" * 3)
    names = [tuple(str(folder / f"{s}.{end}") for end in ("de", "en")) for s in ("train", "val")]
    return ParallelText(names[0], names[1], tokenizer=WordTokenizer)


def shakespeare(folder: Path) -> TinyShakespeare:
    (folder / "own.txt").write_text("To be, or not to be: that is the question.\n" * 30)
    return TinyShakespeare(path=str(folder / "own.txt"), context=8, batch_size=2)


def ordered(folder: Path) -> SentenceOrder:
    (folder / "own.txt").write_text("One thing. Another thing. A third one. And more.\n\n" * 20)
    return SentenceOrder(str(folder / "own.txt"))


def pictures(folder: Path) -> ImageFolder:
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(10):
            pixels = draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{i}.png")
    return ImageFolder(str(folder / "pictures"), batch_size=4)


def digits(folder: Path) -> MNIST:
    raw, draw = folder / "MNIST" / "raw", np.random.default_rng(0)
    raw.mkdir(parents=True)
    for name, number in (("train", 60_000), ("t10k", 10_000)):
        images = draw.integers(0, 2, (number, 28, 28), dtype=np.uint8).tobytes()
        labels = (np.arange(number) % 10).astype(np.uint8).tobytes()
        for kind, header, content in (
            ("images-idx3", struct.pack(">4i", 0x803, number, 28, 28), images),
            ("labels-idx1", struct.pack(">2i", 0x801, number), labels),
        ):
            (raw / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + content, 1))
    return MNIST(data_dir=str(folder))


KINDS: list[tuple[Callable[[Path], Any], int]] = [
    (graph, 70), (graphs, 50), (labelled, 45), (tagged, 45), (pairs, 30), (shakespeare, 20),
    (ordered, 20), (pictures, 30), (digits, 6),
]  # fmt: skip


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A file with one mistake in it, of those that disks, editors and spreadsheets make."""
    lines = content.splitlines(keepends=True) or [b""]
    position, line = draw.randrange(len(content) + 1), draw.randrange(len(lines))
    match draw.randrange(10):
        case 0:
            return content[:position]
        case 1:
            return b""
        case 2:
            return b"".join(lines[:line] + lines[line + 1 :])
        case 3:
            return b"".join([*lines[: line + 1], *lines[line:]])
        case 4:
            old, new = draw.choice([(b",", b";"), (b"\t", b" "), (b" ", b"\t"), (b"\n", b"\r\n")])
            return content.replace(old, new)
        case 5:
            changed = bytearray(content or b"x")
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
            return bytes(changed)
        case 6:
            return content + draw.choice(JUNK)
        case 7:
            return draw.choice(JUNK) + content
    return content[:position] + draw.choice(JUNK) + content[position + draw.randrange(4) :]


def tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value.to_dense() if value.layout != torch.strided else value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
    elif hasattr(value, "to_dict"):  # a graph
        yield from tensors(value.to_dict())
    elif hasattr(value, "__dataclass_fields__"):
        yield from tensors([getattr(value, name) for name in value.__dataclass_fields__])


def reading(data: Any) -> str | None:
    """What is wrong with how files were read; ``None`` if nothing is."""
    try:
        data.setup(None)
        for split in ("train", "val", "test"):
            batch = next(iter(data.loader(split)), None)
            for tensor in tensors(batch):
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    return f"{split} holds numbers that are not finite"
    except (ValueError, OSError) as error:
        text = str(error)
        raw = any(word in text for word in ("size of tensor", "aten::", "Expected all"))
        if not text or len(text.splitlines()) > 2 or len(text) > 600 or raw:
            return f"unclear: {text[:300]}"
        return None
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        return f"{type(error).__name__}: {str(error)[:200]} at {place}"
    return None


@pytest.mark.long
@pytest.mark.parametrize(("make", "number"), KINDS, ids=[make.__name__ for make, _ in KINDS])
def test_a_damaged_file_is_refused_or_read_as_it_is(
    make: Callable[[Path], Any], number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings.simplefilter("ignore")
    monkeypatch.setattr("urllib.request.urlopen", _offline)
    data = make(tmp_path)
    assert (fault := reading(data)) is None, fault
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    draw, faults = random.Random(0), []
    if make is pictures or make is digits:
        files = [path for path in sorted(whole) if path.suffix in (".png", ".gz")]
    else:
        files = sorted(whole)
    for attempt in range(int(os.environ.get("TRELLIS_FUZZ", number))):
        path = draw.choice(files)
        changed = damaged(whole[path], draw)
        path.write_bytes(changed)
        hidden = type(data)(**_arguments(data))
        if fault := reading(hidden):
            start = len(os.path.commonprefix([whole[path], changed]))
            shown = changed[max(0, start - 20) : start + 20]
            faults.append(f"{attempt} {path.name} {shown!r}: {fault}")
        for name, content in whole.items():
            name.write_bytes(content)
    assert not faults, "\n".join(faults)


def _arguments(data: Any) -> dict[str, Any]:
    """Constructor arguments of a data module."""
    plain = {k: v for k, v in data.hparams.items() if not k.startswith("_")}
    return {**plain, **({"tokenizer": WordTokenizer} if "tokenizer" in plain else {})}


def _offline(*args: Any, **options: Any) -> None:
    raise OSError("no network")

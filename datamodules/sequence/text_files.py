"""Text files, and tokenizers learnt from them."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from trellis.datamodules.engine.base import Split
from trellis.datamodules.engine.downloads import DAMAGE, unzipped
from trellis.files import atomic_write_text, decode_utf8
from trellis.hyperparameters import to_plain
from trellis.sequence.token_shards import split_lines
from trellis.sequence.tokenizer import BOS, EOS, PAD, Tokenizer, TokenizerFactory, from_json
from trellis.signature import takes

# Splits that each of Lightning's stages needs.
STAGES: dict[str | None, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
    None: ("train", "val", "test"),
}
CACHE_VERSION = 2  # raised when learning changes, so that old vocabularies are not used


def read_text(path: Path) -> str:
    """Contents of a text file in UTF-8, compressed if it ends in ``.gz``.

    Raises:
        FileNotFoundError: it is missing.
        OSError: it is compressed and damaged.
        ValueError: it is empty or not UTF-8; names line and column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: put it there, or give another path")
    try:
        content = unzipped(path) if path.suffix == ".gz" else path.read_bytes()
    except DAMAGE as error:
        raise OSError(f"{path} is damaged ({error}): put a good copy in its place") from error
    text = decode_utf8(content, str(path))
    if not text.strip():
        raise ValueError(f"{path} is empty: give a file with text")
    return text.replace("\r\n", "\n")


def read_lines(path: Path) -> list[str]:
    """Lines of a text file, stripped of white space; see ``read_text``."""
    return split_lines(read_text(path))


def check_aligned(source: Path, num_source: int, target: Path, num_target: int) -> None:
    """Check that two files have equally many lines.

    Raises:
        ValueError: they do not; names both numbers.
    """
    if num_source != num_target:
        raise ValueError(
            f"{source} has {num_source:,} lines and {target} has {num_target:,}: line n of one "
            f"must be the translation of line n of the other"
        )


def too_short(text: Path | str, problem: str) -> ValueError:
    """The error about a text with less in it than a data module needs."""
    return ValueError(f"{text} is too short: {problem}")


def learn_tokenizer(
    factory: TokenizerFactory, texts: Sequence[str], *, lowercase: bool, folder: Path
) -> Tokenizer:
    """The tokenizer that ``factory`` learns from ``texts``, cached in a file.

    The name of the file is a hash of all that the vocabulary depends on. If the folder is not
    writable, or the factory has no importable name, the tokenizer is learnt again each time. The
    file begins with a checksum: one that was changed is replaced, with a warning.

    Args:
        factory: learns the tokenizer.
        texts: of the training split only.
        lowercase: passed to the factory.
        folder: of the data; the cache is ``folder/vocabularies``.
    """
    try:
        plain = to_plain(factory)
    except ValueError:  # a lambda
        return factory(texts, lowercase=lowercase)
    # What reads a file may find another one next time.
    if "SavedTokenizer" in str(plain) or "'vectors'" in str(plain):
        return factory(texts, lowercase=lowercase)
    options = json.dumps([CACHE_VERSION, plain, lowercase])
    path = folder / "vocabularies" / f"{_digest(options, texts)}.json"
    if (kept := _read_cache(path)) is not None:
        return kept
    tokenizer = factory(texts, lowercase=lowercase)
    with suppress(OSError):
        text = tokenizer.to_json()
        atomic_write_text(path, f"{_digest(text, ())}\n{text}")
    return tokenizer


def _read_cache(path: Path) -> Tokenizer | None:
    """The tokenizer of a cache; ``None`` if it is missing or not as it was written."""
    try:
        checksum, _, text = path.read_text("utf-8").partition("\n")
        if checksum == _digest(text, ()):
            return from_json(text)
    except OSError:
        return None
    except ValueError:  # not UTF-8, or written by a newer release
        pass
    rank_zero_warn(f"{path} was changed after it was written: the vocabulary is learnt again")
    return None


def require_ids(tokenizer: Tokenizer, *names: str) -> None:
    """Check that a tokenizer has certain special ids.

    Raises:
        ValueError: names the missing one and the option that adds it.
    """
    for name in names:
        if getattr(tokenizer, name) is None:
            option = "mask" if name == "mask_id" else "special"
            fix = "give another, such as WordPieceTokenizer"
            fix = f"give it {option}=True" if takes(type(tokenizer), option) else fix
            raise ValueError(f"{type(tokenizer).__name__} has no {name}: {fix}")


def require_usual_ids(tokenizer: Tokenizer) -> None:
    """Check that padding, beginning and end have the ids that tokenizers of ours give them.

    Raises:
        ValueError: they have not, as in an imported vocabulary.
    """
    require_ids(tokenizer, "pad_id", "bos_id", "eos_id")
    if (ids := (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id)) != (PAD, BOS, EOS):
        raise ValueError(
            f"{type(tokenizer).__name__} has padding, beginning and end at {ids}: pairs of texts "
            f"need a tokenizer learnt by trellis, such as BPETokenizer"
        )


def _digest(options: str, texts: Iterable[str]) -> str:
    digest = hashlib.sha256(options.encode())
    for text in texts:
        digest.update(b"\0" + text.encode())
    return digest.hexdigest()[:32]

"""New texts to make predictions for, a line each."""

import torch

from trellis.datamodules.engine.base import Inputs
from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.sequence.budget import budget_loader
from trellis.files import decode_utf8, name_of, read_bytes
from trellis.sequence.batches import Ragged, TokenPairs
from trellis.sequence.token_shards import split_lines
from trellis.sequence.tokenizer import BOS, EOS, PAD, Tokenizer, from_json
from trellis.spec import TokenPairSpec, TokenSpec


def read_new_text(path: str) -> str:
    """Text in UTF-8 of a file, or of standard input for ``-``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty or not UTF-8; names line and column.
    """
    text = decode_utf8(read_bytes(path, "input"), name_of(path))
    if not text.strip():
        raise ValueError(f"input={path} is empty: give it text")
    return text.replace("\r\n", "\n")


def read_new_lines(path: str) -> list[str]:
    """Its lines, stripped of white space; see ``read_new_text``.

    Raises:
        ValueError: a line is empty: nothing can be said about it.
    """
    lines = split_lines(read_new_text(path))
    for number, line in enumerate(lines, 1):
        if not line:
            raise in_line(name_of(path), number, "it is empty: give each line a text")
    return lines


def tokenizer_of(spec: TokenSpec, path: str) -> Tokenizer:
    """The tokenizer that a model was trained with.

    Raises:
        ValueError: there is none: its tokens are not text.
    """
    if not spec.tokenizer:
        raise ValueError(f"input={path}: the model was trained on tokens that are not text")
    return from_json(spec.tokenizer)


def new_sources(path: str, spec: TokenPairSpec, max_tokens: int) -> Inputs:
    """Lines to be translated, as batches of ``TokenPairs`` without targets.

    Args:
        path: of the lines; ``-`` is standard input.
        spec: of the pairs that the model was trained on.
        max_tokens: in a batch, padding included.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty or not UTF-8, or a line is empty or longer than ``max_tokens``.
    """
    lines = read_new_lines(path)
    encoded = tokenizer_of(spec.source, path).encode_batch(lines)
    sources = Ragged([[*ids, EOS] for ids in encoded])
    for number, length in enumerate(sources.lengths.tolist(), 1):
        if length > max_tokens:
            problem = f"{length:,} tokens, more than max_tokens={max_tokens}: raise it"
            raise in_line(name_of(path), number, problem)

    def batch(indices: torch.Tensor) -> TokenPairs:
        target = torch.tensor([[BOS, EOS]]).expand(len(indices), 2)
        return TokenPairs(sources.padded(indices, PAD), target)

    return Inputs(budget_loader(sources.lengths, batch, max_tokens, "as given"), lines)

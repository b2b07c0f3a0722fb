"""Characters as tokens, in the form of the ``tokenizers`` library."""

from collections.abc import Mapping, Sequence
from typing import Any


def character_model(
    special: Sequence[str],
    characters: Mapping[str, int],
    lowercase: bool,
    normalization: str | None,
) -> dict[str, Any]:
    """Contents of a ``tokenizer.json`` with a token for each character.

    Args:
        special: names of the special tokens, in the order of their ids, from 0 on.
        characters: character -> id.
        lowercase: whether texts are converted to lower case.
        normalization: normal form of Unicode; ``None`` for none.
    """
    steps = [{"type": "Lowercase"}] if lowercase else []
    steps += [{"type": normalization}] if normalization else []
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    names = {name: i for i, name in enumerate(special)}
    return {
        "added_tokens": [
            {"id": i, "content": name, "special": True, **flags} for name, i in names.items()
        ],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": r"[\s\S]"},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        # Without special tokens there is no such token, and the library refuses what is unknown.
        "model": {
            "type": "WordLevel",
            "vocab": {**names, **characters},
            "unk_token": "<unk>",
        },
    }

"""A tokenizer for texts that begin with a tag, such as the language to translate into."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tokenizer import Tokenizer, TokenizerFactory, from_json


class TaggedTokenizer(Tokenizer):
    """Another tokenizer, whose texts may begin with one of a few tags: each is one token.

    Their ids come after those of the other tokenizer. ``decode`` skips them. With it any data of
    translations is one of several languages: write the tags in front of its sources.

    Args:
        texts: to learn from, with their tags or without.
        tags: in the normal form and the case of the texts.
        tokenizer: of what follows a tag.
        lowercase: see ``Tokenizer``.
    Raises:
        ValueError: there are no tags, one is given twice, or one begins with another, has spaces
            or is not in the form of the texts.

    Source: Johnson et al. 2017, section 3, whose tag of a sentence to translate is its target
    language.

    >>> from trellis.sequence.tokenizer import WordTokenizer
    >>> tokenizer = TaggedTokenizer(
    ...     ["<2en> ein Hund"], tags=["<2en>", "<2de>"], tokenizer=WordTokenizer
    ... )
    >>> tokenizer.encode("<2de> ein Hund"), tokenizer.decode([7, 5])
    ([7, 5, 4], 'ein')
    """

    def __init__(
        self,
        texts: Iterable[str],
        *,
        tags: Sequence[str],
        tokenizer: TokenizerFactory = BPETokenizer,
        lowercase: bool = False,
    ) -> None:
        self.tags = _checked(tags)
        inner = tokenizer([self._split(text)[1] for text in texts], lowercase=lowercase)
        self._use(inner)
        for tag in tags:
            if (normal := self.normalized(tag)) != tag:
                raise ValueError(f"tag {tag!r} is not in the form of the texts: give {normal!r}")

    def _use(self, inner: Tokenizer) -> None:
        super().__init__(inner.lowercase, inner.num_special, inner.normalization)
        self.inner = inner

    def _learnt(self) -> dict[str, Any]:
        return {"tags": self.tags, "tokenizer": json.loads(self.inner.to_json())}

    def _restore(self, learnt: dict[str, Any]) -> None:
        self.tags = learnt["tags"]
        self._use(from_json(json.dumps(learnt["tokenizer"])))

    @property
    def num_tokens(self) -> int:
        return self.inner.num_tokens + len(self.tags)

    def tag_id(self, tag: str) -> int:
        """Id of a tag.

        Raises:
            ValueError: there is no such tag; names those there are.
        """
        if tag not in self.tags:
            raise ValueError(f"tag {tag!r} was not learnt: give one of {', '.join(self.tags)}")
        return self.inner.num_tokens + self.tags.index(tag)

    def _split(self, text: str) -> tuple[str, str]:
        """The tag, empty where there is none, and the rest."""
        text = text.lstrip()
        tag = next((tag for tag in self.tags if text.startswith(tag)), "")
        return tag, text.removeprefix(tag).lstrip() if tag else text

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        parts = [self._split(self.normalized(text)) for text in texts]
        encoded = self.inner.encode_batch([rest for _, rest in parts])
        return [
            [self.tag_id(tag), *ids] if tag else ids
            for (tag, _), ids in zip(parts, encoded, strict=True)
        ]

    def _encode(self, text: str) -> list[int]:
        return self.encode_batch([text])[0]

    def _decode(self, ids: list[int]) -> str:
        return self.inner.decode(i for i in ids if i < self.inner.num_tokens)


def _checked(tags: Sequence[str]) -> list[str]:
    if not tags:
        raise ValueError("tags=[]: give at least one, or use the tokenizer without tags")
    for k, tag in enumerate(tags):
        others = [*tags[:k], *tags[k + 1 :]]
        if not tag or tag.split() != [tag] or any(other.startswith(tag) for other in others):
            raise ValueError(
                f"tag {tag!r} of {list(tags)}: give each once, without spaces, so that none "
                f"begins with another"
            )
    return list(tags)

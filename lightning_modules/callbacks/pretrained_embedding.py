"""Vectors of words from a file, as the embedding of any network."""

from collections.abc import Iterator

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from trellis.files import FilePath
from trellis.hyperparameters import to_plain
from trellis.index import did_you_mean
from trellis.lightning_modules.engine.sharding import gathered, load_whole
from trellis.sequence.tokenizer import Tokenizer, from_json
from trellis.sequence.word_vectors import read_word_vectors
from trellis.spec import tokenizers_in


class PretrainedEmbedding(L.Callback):
    """An embedding that begins as vectors of words from a file, where the file has them.

    Words of the vocabulary are matched as they are written, then in lower case; others begin as
    the network has them, and their number is told. A run that is resumed goes on with its own.

    Args:
        path: in the text format of word2vec or GloVe, compressed if it ends in ``.gz``; such as
            ``trellis export CHECKPOINT --formats word2vec`` writes.
        part: name of the embedding, such as ``network.embedding``; ``None``: the only one of as
            many rows as there are tokens.
        frozen: whether it stays as it is.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a broken line, vectors of another width than the embedding's, no word in
            common, no embedding of this name or several to choose from, or data without words.

    Source: Kim 2014, section 3.1 (CNN-static where it is frozen, CNN-non-static).
    """

    def __init__(self, path: FilePath, part: str | None = None, frozen: bool = False) -> None:
        self.path, self.part, self.frozen = path, part, frozen

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        name, embedding, tokenizer = self._find(pl_module)
        wanted = {number: text for number, text in _texts(tokenizer) if text}
        both = {each for text in wanted.values() for each in (text, text.lower())}
        words, vectors = read_word_vectors(self.path, both)
        if vectors.size(1) != embedding.embedding_dim:
            raise ValueError(
                f"PretrainedEmbedding: {self.path} has vectors of {vectors.size(1)} numbers, "
                f"{name} has {embedding.embedding_dim}: give the network "
                f"embed_dim={vectors.size(1)}"
            )
        rows = {word: row for row, word in enumerate(words)}
        found = {
            number: rows[each]
            for number, text in wanted.items()
            for each in (text.lower(), text)  # the second counts, if both are there
            if each in rows
        }
        share = f"{len(found):,} of {len(wanted):,} words"
        if not found:
            raise ValueError(f"PretrainedEmbedding: {self.path} has none of {len(wanted):,} words")
        with gathered(pl_module):
            weight = embedding.weight.detach().clone()
        weight[torch.tensor([*found])] = vectors[torch.tensor([*found.values()])].to(weight)
        load_whole(pl_module, {f"{name}.weight": weight}, strict=False)
        embedding.weight.requires_grad_(not self.frozen)
        rank_zero_info(f"{name}: {share} have a vector in {self.path}")

    def _find(self, module: L.LightningModule) -> tuple[str, nn.Embedding, Tokenizer]:
        """Name of the embedding, the embedding, and the tokenizer of its rows."""
        spec = getattr(module, "spec", None)
        plain = to_plain(spec) if spec is not None else None
        tokenizers = [from_json(text) for text in dict.fromkeys(tokenizers_in(plain))]
        if not tokenizers:
            raise ValueError(f"PretrainedEmbedding: {type(module).__name__} learns from no words")
        sizes = {tokenizer.num_tokens: tokenizer for tokenizer in reversed(tokenizers)}
        tables = {
            name: part for name, part in module.named_modules() if isinstance(part, nn.Embedding)
        }
        fitting = [n for n, table in tables.items() if table.num_embeddings in sizes]
        if self.part is not None and self.part not in fitting:
            hint = did_you_mean(self.part, fitting, cutoff=0.3)
            raise ValueError(
                f"PretrainedEmbedding: part={self.part}: no embedding of the vocabulary{hint}"
            )
        if self.part is None and len(fitting) != 1:
            several = f"give part: one of {', '.join(fitting)}" if fitting else "there is none"
            raise ValueError(f"PretrainedEmbedding: which embedding? {several}")
        name = self.part or fitting[0]
        return name, tables[name], sizes[tables[name].num_embeddings]


def _texts(tokenizer: Tokenizer) -> Iterator[tuple[int, str]]:
    """Ids with what they are the tokens of, without special ones."""
    for number in range(tokenizer.num_special, tokenizer.num_tokens):
        yield number, tokenizer.decode([number]).strip()

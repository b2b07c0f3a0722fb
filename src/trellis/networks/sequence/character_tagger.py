"""Taggers that read words and how they are spelled."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_sequences, check_shape, check_tokens
from trellis.networks.sequence.recurrent import token_embedding
from trellis.sequence.character_cnn import CharacterCNN
from trellis.sequence.contextual_words import ContextualWords
from trellis.sequence.recurrent_stack import CellName, RecurrentStack


class CharacterTagger(nn.Module):
    """One score of each tag for each word, which is read as a whole and letter by letter.

    The input of the recurrent layers is the embedding of a word beside what a ``CharacterCNN``
    makes of its letters, so that words that are unknown differ, too, and, with ``context``, what a
    language model makes of the word in its sentence.

    Args:
        num_tokens: size of the vocabulary.
        out_channels: number of tags.
        pad_id: padding token at the end of short sequences, which the layers skip; its scores
            have no meaning.
        embed_dim: width of the embeddings of words.
        character_dim: width of the embeddings of bytes.
        character_channels: filters of each width.
        character_widths: bytes in a window.
        cell: elman, lstm or gru.
        hidden_size: width of a recurrent layer, in each direction.
        num_layers: number of recurrent layers.
        dropout: probability on the inputs of all layers and before the output.
        context: makes vectors of words in their sentence, see ``ContextualWords``; ``None``:
            there are none.
    Shape:
        tokens ``[B, T]``, characters ``[B, T, C]``, see ``SpelledTokens`` -> logits
        ``[B, T, out_channels]``
    Raises:
        ValueError: a size below 1, an id outside the vocabulary, a sequence of nothing but
            padding, or shapes that do not fit.

    Source: Ma and Hovy 2016, section 2, without the CRF, which is an ``output`` of ``Tagging``;
    Peters et al. 2018, section 3.3 (``context``).

    >>> tokens, characters = torch.tensor([[4, 5, 0]]), torch.ones(1, 3, 7, dtype=torch.long)
    >>> CharacterTagger(100, 5, pad_id=0)(tokens, characters).shape
    torch.Size([1, 3, 5])
    """

    def __init__(
        self,
        num_tokens: int,
        out_channels: int,
        *,
        pad_id: int,
        embed_dim: int = 100,
        character_dim: int = 30,
        character_channels: int = 30,
        character_widths: Sequence[int] = (3,),
        cell: CellName = "lstm",
        hidden_size: int = 200,
        num_layers: int = 1,
        dropout: float = 0.5,
        context: Callable[[], ContextualWords] | None = None,
    ) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.embedding = token_embedding(num_tokens, embed_dim, pad_id)
        self.characters = CharacterCNN(character_dim, character_channels, character_widths)
        self.context = None if context is None else context()
        beside = 0 if self.context is None else self.context.out_features
        self.rnn = RecurrentStack(
            embed_dim + self.characters.out_features + beside,
            hidden_size,
            cell=cell,
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=True,
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.rnn.out_features, at_least_one("out_channels", out_channels))

    def forward(self, tokens: Tensor, characters: Tensor) -> Tensor:
        check_tokens("tokens", tokens, self.embedding.num_embeddings)
        lengths = check_sequences("tokens", tokens, self.pad_id)
        shape = (*tokens.shape, characters.size(-1))
        check_shape("characters", characters, shape, "each token")
        parts = [self.embedding(tokens), self.characters(characters)]
        if self.context is not None:
            parts.append(self.context(characters, lengths))
        outputs, _ = self.rnn(self.dropout(torch.cat(parts, -1)), None, lengths)
        return self.output(self.dropout(outputs))

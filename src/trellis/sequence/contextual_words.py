"""Vectors of words in their sentence, from language models that read it in both directions.

Legend: B sentences, T words, C letters, D width of a direction, L recurrent layers.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_equal
from trellis.sequence.character_cnn import CharacterCNN
from trellis.sequence.recurrent_stack import RecurrentStack


class BidirectionalEncoder(nn.Module):
    """Two recurrent language models without their softmax, which share a reader of letters.

    Neither direction ever sees the other: the state of the first at a word knows this word and
    those before it, that of the second this word and those after it.

    Args:
        hidden_size: width D of a state, and of what is read of a word.
        num_layers: recurrent layers of each direction; from the second on, the input of a layer
            is added to its output.
        character_dim: width of the embeddings of bytes.
        character_channels: filters of each width.
        character_widths: bytes in a window.
        dropout: probability on the inputs of all layers.
    Shape:
        characters ``[B, T, C]``, see ``SpelledTokens``, lengths ``[B]`` or ``None`` -> ``L + 1``
        layers ``[B, T, 2 D]``: the words alone, twice, and the states of both directions; beyond
        the end of a sentence they have no meaning
    Raises:
        ValueError: a size below 1.

    Source: Peters et al. 2018, section 3.1. Deviates: no highway layers; LSTMs have no projection.
    """

    def __init__(
        self,
        *,
        hidden_size: int = 128,
        num_layers: int = 1,
        character_dim: int = 16,
        character_channels: int = 64,
        character_widths: Sequence[int] = (1, 2, 3, 4, 5),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        at_least_one("num_layers", num_layers)
        self.characters = CharacterCNN(character_dim, character_channels, character_widths)
        self.project = nn.Linear(self.characters.out_features, hidden_size)
        self.directions = nn.ModuleList(
            nn.ModuleList(RecurrentStack(hidden_size, hidden_size) for _ in range(num_layers))
            for _ in ("forward", "backward")
        )
        self.dropout = nn.Dropout(dropout)
        self.out_features = 2 * hidden_size

    def forward(self, characters: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
        words = self.project(self.characters(characters))  # [B, T, D]
        ahead, back = self.directions
        order = _backwards(words, lengths)
        forward = self._read(ahead, words, lengths)
        backward = [
            layer.gather(1, order) for layer in self._read(back, words.gather(1, order), lengths)
        ]
        both = zip([words, *forward], [words, *backward], strict=True)
        return [torch.cat(pair, -1) for pair in both]

    def _read(self, layers: nn.Module, x: Tensor, lengths: Tensor | None) -> list[Tensor]:
        outputs: list[Tensor] = []
        for layer in layers:  # type: ignore[attr-defined]
            read, _ = layer(self.dropout(x), None, lengths)
            x = read + x if outputs else read
            outputs.append(x)
        return outputs


def _backwards(words: Tensor, lengths: Tensor | None) -> Tensor:
    """Positions ``[B, T, D]`` of the words of each sentence, the last one first.

    They are their own inverse; what is beyond the end stays where it is.
    """
    steps = torch.arange(words.size(1), device=words.device).expand(words.shape[:2])
    ends = words.size(1) if lengths is None else lengths.unsqueeze(1)
    back = ends - 1 - steps
    return back.where(back >= 0, steps).unsqueeze(2).expand_as(words)


class ScalarMixture(nn.Module):
    r"""A learned mean of layers.

    .. math:: \gamma \sum_l \mathrm{softmax}(s)_l\, h_l

    Args:
        num_layers: how many there are.
    Shape:
        tensors of one shape -> the same shape
    Raises:
        ValueError: not as many layers as it has weights.

    Source: Peters et al. 2018, eq. 1.

    >>> ScalarMixture(2)([torch.tensor(1.0), torch.tensor(3.0)]).item()
    2.0
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(at_least_one("num_layers", num_layers)))
        self.gamma = nn.Parameter(torch.ones(()))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        check_equal("ScalarMixture", num_layers=len(self.weights), layers=len(layers))
        shares = self.gamma * self.weights.softmax(0)
        return (torch.stack([*layers], -1) * shares).sum(-1)


class ContextualWords(nn.Module):
    """ELMo: a learned mean of the layers of a ``BidirectionalEncoder``, for a network of words.

    The encoder begins at random. What was pretrained by ``BidirectionalLM`` is taken by
    ``--init_from CHECKPOINT --init_map '{network.body: network.context.body}'``.

    Args:
        frozen: the encoder does not learn, and has no dropout; the mean does.
        body: options of ``BidirectionalEncoder``.
    Shape:
        characters ``[B, T, C]``, lengths ``[B]`` -> ``[B, T, out_features]``

    Source: Peters et al. 2018, section 3.2.
    """

    def __init__(self, *, frozen: bool = True, **body: Any) -> None:
        super().__init__()
        self.frozen = frozen
        self.body = BidirectionalEncoder(**body).requires_grad_(not frozen)
        self.mixture = ScalarMixture(len(self.body.directions[0]) + 1)  # type: ignore[arg-type]
        self.out_features = self.body.out_features

    def train(self, mode: bool = True) -> "ContextualWords":
        """As of any module, but for an encoder that is frozen."""
        super().train(mode)
        if self.frozen:
            self.body.eval()
        return self

    def forward(self, characters: Tensor, lengths: Tensor) -> Tensor:
        return self.mixture(self.body(characters, lengths))

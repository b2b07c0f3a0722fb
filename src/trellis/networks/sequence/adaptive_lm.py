"""A recurrent language model for vocabularies of tens of thousands of words."""

from collections.abc import Sequence

from torch import Tensor, nn

from trellis.checks import check_tokens
from trellis.nn.adaptive_softmax import AdaptiveSoftmax
from trellis.sequence.recurrent_stack import CellName, RecurrentStack, State


class AdaptiveLM(nn.Module):
    """Recurrent layers between embeddings and an adaptive softmax that share their vectors.

    Like ``RecurrentLM``, it continues a text from the state that it returned. ``log_prob`` is
    what ``CausalLM`` trains and evaluates it by, at a fraction of the cost of all logits.

    Args:
        num_tokens: size of the vocabulary.
        cutoffs: where frequent tokens end and groups of rarer ones begin: see ``AdaptiveSoftmax``.
        cell: elman, lstm or gru.
        hidden_size: width of a layer and of the embeddings.
        num_layers: number of recurrent layers.
        dropout: probability on embeddings, between layers and before the output.
    Shape:
        tokens ``[B, T]``, state of ``[B, L, H]`` or None -> log-probabilities ``[B, T, V]``, state
    Raises:
        ValueError: see ``AdaptiveSoftmax``; an unknown cell, or ids outside the vocabulary.

    Source: Grave et al. 2017; Zaremba et al. 2014, section 3.1 (dropout).

    >>> import torch
    >>> network = AdaptiveLM(5000, cutoffs=[500, 2000], hidden_size=32)
    >>> tokens = torch.zeros(2, 5, dtype=torch.long)
    >>> logits, state = network(tokens)
    >>> log_prob, state = network.log_prob(tokens, tokens, state)
    >>> logits.shape, log_prob.shape
    (torch.Size([2, 5, 5000]), torch.Size([2, 5]))
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        cutoffs: Sequence[int],
        cell: CellName = "lstm",
        hidden_size: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.words = AdaptiveSoftmax(num_tokens, hidden_size, cutoffs=cutoffs)
        self.rnn = RecurrentStack(
            hidden_size, hidden_size, cell=cell, num_layers=num_layers, dropout=dropout
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        hidden, state = self._read(tokens, state)
        return self.words.log_prob(hidden), state

    def log_prob(
        self, tokens: Tensor, targets: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Log-probabilities ``[B, T]`` of the targets alone, and the state."""
        check_tokens("targets", targets, self.words.num_tokens)
        hidden, state = self._read(tokens, state)
        return self.words.log_prob_of(hidden, targets), state

    def _read(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State]:
        check_tokens("tokens", tokens, self.words.num_tokens)
        outputs, state = self.rnn(self.dropout(self.words.embed(tokens)), state)
        return self.dropout(outputs), state

"""Building blocks for text and other sequences: tokenizers, batches, cells, decoding."""

from trellis.sequence.alignment import (
    AdditiveAttention,
    Alignment,
    AlignmentFactory,
    DotAttention,
    GeneralAttention,
    KernelAttention,
    LastState,
    LearnedValue,
    MeanState,
    ReducedRankAttention,
)
from trellis.sequence.batches import (
    Ragged,
    SentencePairs,
    TokenPairs,
    consecutive_budget,
    token_budget,
)
from trellis.sequence.beam_search import beam_search, gnmt_penalty
from trellis.sequence.character_cnn import CharacterCNN
from trellis.sequence.contextual_words import BidirectionalEncoder, ContextualWords, ScalarMixture
from trellis.sequence.convolutional_cells import ConvGRUCell, ConvLSTMCell, ConvolutionalCell
from trellis.sequence.decoding import (
    Hypotheses,
    Step,
    block_repeats,
    greedy_search,
    language_model,
    sample,
    suppress_tokens,
    transition_table,
)
from trellis.sequence.entities import EntityCounts, Tags, bio_allowed, bio_tags, entity_counts
from trellis.sequence.linear_chain_crf import Allowed, LinearChainCRF
from trellis.sequence.masking import MaskedTokens, mask_tokens
from trellis.sequence.recurrent_cells import (
    MUT1,
    MUT2,
    MUT3,
    ElmanCell,
    GatedCell,
    LongShortTermCell,
    RecurrentCell,
    unroll,
)
from trellis.sequence.recurrent_stack import RecurrentStack
from trellis.sequence.saved_tokenizer import SavedTokenizer
from trellis.sequence.spelling import SpelledSequences, SpelledTokens, spelled
from trellis.sequence.subword import BPETokenizer, SubwordTokenizer, WordPieceTokenizer
from trellis.sequence.tagged_tokenizer import TaggedTokenizer
from trellis.sequence.token_mixture import mixed_token
from trellis.sequence.tokenizer import (
    CharTokenizer,
    Tokenizer,
    TokenizerFactory,
    WordTokenizer,
    from_json,
)

__all__ = [
    "AdditiveAttention",
    "Alignment",
    "AlignmentFactory",
    "Allowed",
    "BPETokenizer",
    "BidirectionalEncoder",
    "CharTokenizer",
    "CharacterCNN",
    "ContextualWords",
    "ConvGRUCell",
    "ConvLSTMCell",
    "ConvolutionalCell",
    "DotAttention",
    "ElmanCell",
    "EntityCounts",
    "GatedCell",
    "GeneralAttention",
    "Hypotheses",
    "KernelAttention",
    "LastState",
    "LearnedValue",
    "LinearChainCRF",
    "LongShortTermCell",
    "MUT1",
    "MUT2",
    "MUT3",
    "MaskedTokens",
    "MeanState",
    "Ragged",
    "RecurrentCell",
    "RecurrentStack",
    "ReducedRankAttention",
    "SavedTokenizer",
    "ScalarMixture",
    "SentencePairs",
    "SpelledSequences",
    "SpelledTokens",
    "Step",
    "SubwordTokenizer",
    "TaggedTokenizer",
    "Tags",
    "TokenPairs",
    "Tokenizer",
    "TokenizerFactory",
    "WordPieceTokenizer",
    "WordTokenizer",
    "beam_search",
    "bio_allowed",
    "bio_tags",
    "block_repeats",
    "consecutive_budget",
    "entity_counts",
    "from_json",
    "gnmt_penalty",
    "greedy_search",
    "language_model",
    "mask_tokens",
    "mixed_token",
    "sample",
    "spelled",
    "suppress_tokens",
    "token_budget",
    "transition_table",
    "unroll",
]

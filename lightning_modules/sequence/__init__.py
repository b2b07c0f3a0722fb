"""Objectives for sequences of tokens, or of the nodes of walks."""

from trellis.lightning_modules.sequence.bidirectional_lm import BidirectionalLM
from trellis.lightning_modules.sequence.causal_lm import CausalLM
from trellis.lightning_modules.sequence.counting_lm import CountingLM
from trellis.lightning_modules.sequence.glove import GloVe
from trellis.lightning_modules.sequence.masked_lm import MaskedLM
from trellis.lightning_modules.sequence.pmi_factorization import PMIFactorization
from trellis.lightning_modules.sequence.sentence_similarity import SentenceSimilarity
from trellis.lightning_modules.sequence.sequence_classification import SequenceClassification
from trellis.lightning_modules.sequence.sequence_to_sequence import SequenceToSequence
from trellis.lightning_modules.sequence.skip_gram import CBOW, SkipGram
from trellis.lightning_modules.sequence.span_answering import SpanAnswering
from trellis.lightning_modules.sequence.tagging import Tagging

__all__ = [
    "BidirectionalLM",
    "CBOW",
    "CausalLM",
    "CountingLM",
    "GloVe",
    "MaskedLM",
    "PMIFactorization",
    "SentenceSimilarity",
    "SequenceClassification",
    "SequenceToSequence",
    "SkipGram",
    "SpanAnswering",
    "Tagging",
]

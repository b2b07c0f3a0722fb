"""Text and other sequences."""

from trellis.datamodules.sequence.conll import CoNLL
from trellis.datamodules.sequence.cooccurrences import Cooccurrences
from trellis.datamodules.sequence.copy_reverse import CopyReverse
from trellis.datamodules.sequence.date_formats import DateFormats
from trellis.datamodules.sequence.fact_questions import FactQuestions
from trellis.datamodules.sequence.labelled_sentences import LabelledSentences
from trellis.datamodules.sequence.labelled_text import LabelledText
from trellis.datamodules.sequence.mnist1d import MNIST1D
from trellis.datamodules.sequence.multi30k import Multi30k
from trellis.datamodules.sequence.packed_sentences import PackedSentences
from trellis.datamodules.sequence.parallel_corpus import ParallelCorpus
from trellis.datamodules.sequence.parallel_text import ParallelText
from trellis.datamodules.sequence.rated_sentences import RatedSentences
from trellis.datamodules.sequence.sentence_order import SentenceOrder
from trellis.datamodules.sequence.span_order import SpanOrder
from trellis.datamodules.sequence.squad import SQuAD
from trellis.datamodules.sequence.text_corpus import TextCorpus
from trellis.datamodules.sequence.tiny_shakespeare import TinyShakespeare
from trellis.datamodules.sequence.wikitext2 import WikiText2
from trellis.datamodules.sequence.word_contexts import WordContexts

__all__ = [
    "CoNLL",
    "Cooccurrences",
    "CopyReverse",
    "DateFormats",
    "FactQuestions",
    "LabelledSentences",
    "LabelledText",
    "MNIST1D",
    "Multi30k",
    "PackedSentences",
    "ParallelCorpus",
    "ParallelText",
    "RatedSentences",
    "SQuAD",
    "SentenceOrder",
    "SpanOrder",
    "TextCorpus",
    "TinyShakespeare",
    "WikiText2",
    "WordContexts",
]

"""Networks of sequences: tokens, and signals."""

from trellis.networks.sequence.adaptive_lm import AdaptiveLM
from trellis.networks.sequence.bag_of_words import BagOfWords
from trellis.networks.sequence.bert import (
    BERT,
    BertAnswering,
    BertClassifier,
    BertPretraining,
    BertTagger,
)
from trellis.networks.sequence.character_tagger import CharacterTagger
from trellis.networks.sequence.elmo import ELMo
from trellis.networks.sequence.glove_embedding import GloVeEmbedding
from trellis.networks.sequence.gpt import GPT
from trellis.networks.sequence.ngram import AddKLM, KneserNeyLM
from trellis.networks.sequence.recurrent import RecurrentClassifier, RecurrentLM, RecurrentTagger
from trellis.networks.sequence.recurrent_seq2seq import RecurrentSeq2Seq
from trellis.networks.sequence.sentence_cnn import SentenceCNN
from trellis.networks.sequence.sentence_encoder import SentenceEncoder
from trellis.networks.sequence.signal import SignalCNN, SignalRNN, SignalTCN
from trellis.networks.sequence.skip_gram_embedding import SkipGramEmbedding
from trellis.networks.sequence.subword_embedding import SubwordEmbedding
from trellis.networks.sequence.tcn import TCN
from trellis.networks.sequence.transformer import TransformerSeq2Seq
from trellis.networks.sequence.wavenet import WaveNet

__all__ = [
    "AdaptiveLM",
    "AddKLM",
    "BERT",
    "BagOfWords",
    "BertAnswering",
    "BertClassifier",
    "BertPretraining",
    "BertTagger",
    "CharacterTagger",
    "ELMo",
    "GPT",
    "KneserNeyLM",
    "GloVeEmbedding",
    "RecurrentClassifier",
    "RecurrentLM",
    "RecurrentSeq2Seq",
    "RecurrentTagger",
    "SentenceCNN",
    "SentenceEncoder",
    "SignalCNN",
    "SignalRNN",
    "SignalTCN",
    "SkipGramEmbedding",
    "TCN",
    "SubwordEmbedding",
    "TransformerSeq2Seq",
    "WaveNet",
]

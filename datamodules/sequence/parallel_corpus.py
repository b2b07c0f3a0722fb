"""Translations of any number, in pairs of text files."""

from trellis.datamodules.sequence.parallel_text import AlignedTexts, TranslatedText, paths_of
from trellis.datamodules.sequence.tokenised_pairs import TokenFiles
from trellis.files import FilePath
from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tokenizer import TokenizerFactory


class ParallelCorpus(TranslatedText):
    """Two text files larger than memory, aligned line by line, for translation.

    Batch: ``TokenPairs``, as of ``ParallelText``, and the very same where ``sample_bytes`` are
    enough for all training pairs. These are tokenised once, by several processes, into files that
    are memory-mapped; in memory are some 20 bytes for each pair. A file that has changed is
    noticed by its size and time, and then by its checksum, and tokenised again; see
    ``TokenisedText``. Those of validation and test are read into memory.

    Args:
        train: paths of sources and of their translations, in UTF-8, not compressed.
        val, test: see ``ParallelText``.
        cache_dir: folder of the tokens; ``None``: ``tokens`` beside each file.
        tokenizer: learnt from the training files, or from ``sample_bytes`` of each.
        lowercase, max_tokens, max_length, drop_empty: see ``AlignedTexts``.
        shared_vocabulary: learn one tokenizer from ``sample_bytes`` of both sides together.
        sample_bytes, num_workers: see ``TextCorpus``.
    Raises:
        FileNotFoundError: a file is missing.
        OSError: the tokens cannot be written.
        ValueError: as ``ParallelText``, a training file is compressed, or the tokenizer has no
            importable name.
    """

    def __init__(
        self,
        train: tuple[FilePath, FilePath],
        val: tuple[FilePath, FilePath],
        test: tuple[FilePath, FilePath] | None = None,
        cache_dir: FilePath | None = None,
        tokenizer: TokenizerFactory = BPETokenizer,
        lowercase: bool = False,
        shared_vocabulary: bool = False,
        max_tokens: int = 4096,
        max_length: int | None = None,
        drop_empty: bool = False,
        sample_bytes: int = 1 << 24,
        num_workers: int | None = None,
    ) -> None:
        super().__init__()
        self.texts = AlignedTexts(
            paths_of(train, val, test),
            tokenizer,
            lowercase=lowercase,
            shared_vocabulary=shared_vocabulary,
            max_tokens=max_tokens,
            max_length=max_length,
            drop_empty=drop_empty,
            token_files=TokenFiles(cache_dir, sample_bytes, num_workers),
        )

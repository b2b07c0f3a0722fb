"""Text and other sequences outside any network: tokenizers, batches, decoding."""

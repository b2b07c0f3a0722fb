"""Words and their letters: padding, special tokens, errors."""

import pytest
import torch
from torch import Tensor

from trellis.networks.sequence.character_tagger import CharacterTagger
from trellis.sequence.character_cnn import CharacterCNN
from trellis.sequence.spelling import MAX_BYTES, spelled


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def network() -> CharacterTagger:
    return CharacterTagger(9, 3, pad_id=0, embed_dim=4, hidden_size=5).eval()


def batch() -> tuple[Tensor, Tensor]:
    tokens = torch.tensor([[1, 5, 3, 2], [1, 3, 2, 0]])
    letters = spelled(["", "Peter", "sings", "é"])
    return tokens, letters[torch.tensor([[0, 1, 2, 0], [0, 3, 0, 0]])][..., :5].long()


def test_letters_beyond_the_longest_word_and_sentence_do_not_matter() -> None:
    tagger, (tokens, characters) = network(), batch()
    logits = tagger(tokens, characters)
    wide = torch.nn.functional.pad(characters, (0, 4, 0, 3))
    padded = tagger(torch.nn.functional.pad(tokens, (0, 3)), wide)
    torch.testing.assert_close(padded[:, :4][tokens != 0], logits[tokens != 0])
    alone = tagger(tokens[1:, :3], characters[1:, :3, :2])
    torch.testing.assert_close(alone, logits[1:, :3])


def test_unknown_words_differ_by_their_letters() -> None:
    tagger, (tokens, characters) = network(), batch()
    other = characters.clone()
    other[0, 2, 4] += 1
    assert not torch.allclose(tagger(tokens, characters)[0, 2], tagger(tokens, other)[0, 2])
    assert torch.equal(tagger(tokens, characters)[1], tagger(tokens, other)[1])


def test_a_filter_answers_to_its_window() -> None:
    """By hand: one filter of two bytes, the largest response over all places."""
    cnn = CharacterCNN(embed_dim=2, channels=1, widths=(2,))
    weight, bias = cnn.filters[0].weight[0], cnn.filters[0].bias
    letters = spelled(["abc"])[:, :6].long()
    rows = [torch.zeros(2), *cnn.embedding(letters[0, :3]), torch.zeros(2)]
    pairs = zip(rows[:-1], rows[1:], strict=True)
    largest = max((weight[:, 0] @ a + weight[:, 1] @ b + bias).relu().item() for a, b in pairs)
    assert largest > 0
    assert cnn(letters.unsqueeze(0)).item() == pytest.approx(largest)


def test_bytes_of_utf8_are_all_that_is_read() -> None:
    table = spelled(["", "aé", "x" * 60])
    assert table.shape == (3, MAX_BYTES)
    assert [n - 1 for n in table[1].tolist() if n] == [*"aé".encode()]
    assert not table[0].any()
    assert (table[2] == ord("x") + 1).all()


def test_what_does_not_fit_is_named() -> None:
    tagger, (tokens, characters) = network(), batch()
    with pytest.raises(ValueError, match=r"characters \[2, 3, 5\]: give .* each token, \[2, 4, 5"):
        tagger(tokens, characters[:, :3])
    with pytest.raises(ValueError, match="characters holds id 257"):
        tagger(tokens, characters.where(characters != 0, 257))
    with pytest.raises(ValueError, match="channels=0"):
        CharacterTagger(9, 3, pad_id=0, character_channels=0)

"""Tokenizers of the tokenizers library: the same ids there and here, in both directions."""

import json
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from trellis.sequence.imported_tokenizer import ImportedTokenizer
from trellis.sequence.subword import BPETokenizer, WordPieceTokenizer
from trellis.sequence.tokenizer import CharTokenizer, Tokenizer, WordTokenizer, from_json
from trellis.spec import TokenSpec

TEXTS = ["low lower lowest", "newer wide; it's a café.", "  two spaces [MASK] <eos>"]
VOCABULARY = {"[PAD]": 0, "[UNK]": 3, "[CLS]": 5, "[SEP]": 6, "[MASK]": 7, "low": 8, "##er": 9}


def wordpiece(added: bool = True) -> dict[str, Any]:
    model = tokenizers.Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.decoder = decoders.WordPiece()
    if added:
        model.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[MASK]"])
    model.enable_padding(length=9)
    model.enable_truncation(2)
    return json.loads(model.to_str())


def imported(**options: Any) -> ImportedTokenizer:
    given = {"pad": 0, "bos": 5, "eos": 6, "unknown": 3, "mask": 7}
    return ImportedTokenizer(model=wordpiece(), special=given, **options)


def test_special_ids_are_where_the_file_has_them() -> None:
    spec = imported(num_tokens=16).spec
    assert spec == TokenSpec(16, 0, 5, 6, 3, 7, spec.tokenizer)
    assert imported().num_tokens == 10, "ids without a token count"


def test_texts_are_neither_padded_nor_cut_and_hold_no_special_tokens() -> None:
    tokenizer = imported()
    ids = tokenizer.encode("low lower low [MASK]")
    assert ids[:4] == [8, 8, 9, 8]
    assert 7 not in ids
    assert tokenizer.encode_batch(["low", "lower", "low lower low"]) == [[8], [8, 9], [8, 8, 9, 8]]
    assert tokenizer.decode([5, 8, 8, 9, 6]) == "low lower"


def test_it_comes_back_from_json() -> None:
    tokenizer = imported(num_tokens=12)
    again = from_json(tokenizer.to_json())
    assert again == tokenizer
    assert (again.mask_id, again.num_tokens) == (7, 12)
    assert again.decode([8, 11]) == "low", "an id without a token is no text"
    with pytest.raises(ValueError, match="id 12 is not in the vocabulary"):
        again.decode([12])


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="num_tokens=9, but the tokenizer has ids up to 9"):
        imported(num_tokens=9)
    with pytest.raises(ValueError, match="special mask=10: give an id"):
        ImportedTokenizer(model=wordpiece(), special={"mask": 10})
    with pytest.raises(ValueError, match="special cls=5"):
        ImportedTokenizer(model=wordpiece(), special={"cls": 5})
    with pytest.raises(ValueError, match="expected|missing|did not match"):
        ImportedTokenizer(model={"model": 3}, special={})


TOKENIZERS = {
    "bytes": BPETokenizer(TEXTS, num_tokens=290),
    "bytes in lower case": BPETokenizer(TEXTS, num_tokens=290, lowercase=True, mask=True),
    "pieces": WordPieceTokenizer(TEXTS, num_tokens=90, lowercase=True),
    "characters": CharTokenizer(TEXTS, special=True, lowercase=True),
    "decomposed": CharTokenizer(TEXTS, special=True, normalization="NFD"),
    "imported": imported(),
}


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())
def test_the_library_gives_the_same_ids(tokenizer: Tokenizer) -> None:
    plain = tokenizer.to_tokenizers()
    assert plain is not None
    library = tokenizers.Tokenizer.from_str(json.dumps(plain))
    library.encode_special_tokens = True
    texts = [*TEXTS, "Low LOWER café", " low", "  low", "low\n low", "", "lowéest…", "a b\tc"]
    for text in texts:
        assert library.encode(text, add_special_tokens=False).ids == tokenizer.encode(text), text


def test_characters_without_special_ids_stay_an_error() -> None:
    plain = CharTokenizer(["abc\n"]).to_tokenizers()
    library = tokenizers.Tokenizer.from_str(json.dumps(plain))
    assert library.encode("cab\n").ids == [3, 1, 2, 0]
    assert library.decode([3, 1, 2, 0]) == "cab\n"
    with pytest.raises(Exception, match="Missing"):
        library.encode("d")


def test_words_have_no_such_form() -> None:
    assert WordTokenizer(TEXTS).to_tokenizers() is None

"""Characters and words to ids and back; what every tokenizer promises."""

import json
import pickle

import pytest
import sacrebleu

from trellis.sequence.subword import BPETokenizer, WordPieceTokenizer
from trellis.sequence.tokenizer import (
    BOS,
    EOS,
    PAD,
    UNKNOWN,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    from_json,
)

TEXTS = [
    "Two young, White males are outside near many bushes.",
    "A man's t-shirt says: 3.5 apples, 1,000 pears (cheap)!",
    "Ein Mädchen klettert in ein Spielhaus aus Holz.",
    'A "quoted" sign; is it? Yes... dogs bark.',
] * 3
EVERY = {
    "characters": lambda texts, **o: CharTokenizer(texts, special=True, **o),
    "words": WordTokenizer,
    "pairs": lambda texts, **o: BPETokenizer(texts, num_tokens=300, **o),
    "pieces": lambda texts, **o: WordPieceTokenizer(texts, num_tokens=120, **o),
}


@pytest.fixture(params=EVERY)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return EVERY[request.param](TEXTS)


def test_json_and_pickle_bring_back_the_same(tokenizer: Tokenizer) -> None:
    odd = [*TEXTS, "", "  ", "<eos> <pad> naïve 漢 😀", "x" * 200]
    for copy in (from_json(tokenizer.to_json()), pickle.loads(pickle.dumps(tokenizer))):
        assert copy == tokenizer
        assert type(copy) is type(tokenizer)
        assert copy.encode_batch(odd) == tokenizer.encode_batch(odd)
        assert copy.spec == tokenizer.spec
    json.loads(tokenizer.to_json())


def test_spec_holds_sizes_ids_and_the_tokenizer(tokenizer: Tokenizer) -> None:
    spec = tokenizer.spec
    assert (spec.pad_id, spec.bos_id, spec.eos_id, spec.unknown_id) == (0, 1, 2, 3)
    assert spec.num_tokens == tokenizer.num_tokens
    assert from_json(spec.tokenizer) == tokenizer
    asked = 4 if type(tokenizer) is WordPieceTokenizer else None
    assert spec.mask_id == tokenizer.mask_id == asked


def test_ids_stay_within_the_vocabulary_and_all_are_used(tokenizer: Tokenizer) -> None:
    used = {i for ids in tokenizer.encode_batch(TEXTS) for i in ids}
    assert max(used) <= tokenizer.num_tokens - 1
    assert min(used) > UNKNOWN, "the texts it learnt from hold nothing unknown and nothing special"
    if type(tokenizer) in (CharTokenizer, WordTokenizer):
        assert used == set(range(4, tokenizer.num_tokens))


def test_batches_are_as_the_texts_one_by_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_batch(TEXTS) == [tokenizer.encode(text) for text in TEXTS]
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.encode("") == []


def test_special_ids_are_never_read_and_never_written(tokenizer: Tokenizer) -> None:
    """A text with "<eos>" in it must not end there."""
    for text in ("<pad><bos><eos><unk><mask>", "a <eos> b", "[PAD] [SEP]"):
        assert not {PAD, BOS, EOS} & set(tokenizer.encode(text))
    ids = tokenizer.encode(TEXTS[0])
    plain = tokenizer.decode(ids)
    assert tokenizer.decode([BOS, *ids[:2], UNKNOWN, *ids[2:], EOS, PAD, PAD]) == plain


def test_an_id_outside_the_vocabulary_is_refused(tokenizer: Tokenizer) -> None:
    last = tokenizer.num_tokens - 1
    tokenizer.decode([5, last])
    for wrong in (-1, last + 1):
        with pytest.raises(ValueError, match=rf"id {wrong} is not in the vocabulary: 0\.\.{last}"):
            tokenizer.decode([5, wrong])


@pytest.mark.parametrize("kind", EVERY)
def test_lowercase_is_remembered(kind: str) -> None:
    tokenizer = from_json(EVERY[kind](TEXTS, lowercase=True).to_json())
    assert tokenizer.lowercase
    for text in TEXTS:
        assert tokenizer.encode(text.upper()) == tokenizer.encode(text.lower())
        assert tokenizer.decode(tokenizer.encode(text)).islower()
    assert EVERY[kind](TEXTS) != EVERY[kind](TEXTS, lowercase=True)
    small = [text.lower() for text in TEXTS]
    assert tokenizer == EVERY[kind](small, lowercase=True), "capitals take no room"


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_nothing_can_be_learnt_from_nothing(kind: str, texts: list[str]) -> None:
    if kind == "characters" and texts:
        texts = [""]  # a space is a character
    with pytest.raises(ValueError, match=r"nothing to learn from|no word is left"):
        EVERY[kind](texts)


@pytest.mark.parametrize("kind", ["words", "pairs", "pieces"])
def test_a_mask_takes_the_fifth_id(kind: str) -> None:
    tokenizer = EVERY[kind](TEXTS, mask=True)
    assert tokenizer.mask_id == 4
    assert min(i for ids in tokenizer.encode_batch(TEXTS) for i in ids) > 4
    assert tokenizer.decode([4, 4]) == ""


def test_char_ids_follow_the_code_points() -> None:
    tokenizer = CharTokenizer(["hello", "world"])
    assert tokenizer.characters == "dehlorw"
    assert tokenizer.encode("hold") == [2, 4, 3, 0]
    assert tokenizer.num_tokens == 7
    assert tokenizer.spec.pad_id is None
    assert tokenizer.decode(tokenizer.encode("world")) == "world"


def test_unseen_characters_are_refused_with_their_place() -> None:
    with pytest.raises(ValueError, match=r"character 'é' at position 3 is not .* the 3 .*special"):
        CharTokenizer(["abc"]).encode("abcé")
    assert CharTokenizer(["abc"], special=True).encode("aéc") == [4, UNKNOWN, 6]


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("extra", ["", "".join(map(chr, range(0x4E00, 0x4E00 + 300)))])
def test_a_long_text_is_an_array_of_the_same_ids(special: bool, extra: str) -> None:
    tokenizer = CharTokenizer(["abcÀ𝄞\ud800" + extra], special=special, lowercase=False)
    text = "caÀ" + "A\u0300" + "𝄞b\ud800"
    ids = tokenizer.encode_array(text)
    assert ids.tolist() == tokenizer.encode(text)
    assert ids.dtype == ("uint16" if extra else "uint8")
    assert tokenizer.encode_array("").tolist() == []
    if special:
        assert tokenizer.encode_array("aéb").tolist() == tokenizer.encode("aéb")
    else:
        with pytest.raises(ValueError, match="character 'é' at position 1 is not among"):
            tokenizer.encode_array("aéb")


@pytest.mark.parametrize("kind", [WordTokenizer, BPETokenizer, WordPieceTokenizer])
def test_other_tokenizers_make_the_same_array(kind: type[Tokenizer]) -> None:
    tokenizer = kind(["to be or not to be"], lowercase=True)
    for text in ("Be it\n to", "", " to"):
        assert tokenizer.encode_array(text).tolist() == tokenizer.encode(text)
        assert tokenizer.encode_array(text).dtype == tokenizer.id_type


def test_words_are_ranked_by_frequency_then_alphabet() -> None:
    tokenizer = WordTokenizer(["b a e", "b a d", "b c"], max_tokens=7)
    assert tokenizer.words == ["b", "a", "c"]
    assert tokenizer.num_tokens == 7
    assert tokenizer.encode("a b z") == [5, 4, UNKNOWN]
    assert WordTokenizer(["b a e", "b a d", "b c"], min_count=2).words == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a man's t-shirt.", ["a", "man's", "t-shirt", "."]),
        ("3.5 or 1,000, yes", ["3.5", "or", "1,000", ",", "yes"]),
        ('say "no"!?', ["say", '"', "no", '"', "!", "?"]),
        ("Straße über-all", ["Straße", "über-all"]),
        ("tail- 'em", ["tail", "-", "'", "em"]),
    ],
)
def test_words_keep_together_what_bleu_keeps_together(text: str, tokens: list[str]) -> None:
    tokenizer = WordTokenizer([text])
    assert [tokenizer.words[i - 4] for i in tokenizer.encode(text)] == tokens


def test_words_are_joined_as_they_are_written() -> None:
    tokenizer = WordTokenizer(TEXTS)
    for text in TEXTS[:3]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    back = [tokenizer.decode(tokenizer.encode(text)) for text in TEXTS]
    assert sacrebleu.corpus_bleu(back, [TEXTS], tokenize="13a").score == pytest.approx(100)


def test_words_apart_from_punctuation_only_where_asked() -> None:
    tokenizer = WordTokenizer(["U.N. says: no."], split_punctuation=False)
    assert sorted(tokenizer.words) == ["U.N.", "no.", "says:"]
    assert tokenizer.decode(tokenizer.encode("no. U.N.")) == "no. U.N."
    assert from_json(tokenizer.to_json()).encode("U.N.") == tokenizer.encode("U.N.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_count": 0}, "min_count=0: give at least 1"),
        ({"min_count": 9}, "no word is left of 3 with min_count=9"),
        ({"max_tokens": 4}, "no word is left of 3 .*max_tokens=4"),
    ],
)
def test_a_vocabulary_of_words_has_words(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WordTokenizer(["a b c"], **options)


@pytest.mark.parametrize(
    "text",
    ["", "not json", "[]", "{}", '{"class": "os.system"}', '{"class": "Tokenizer"}',
     '{"class":"CharTokenizer","lowercase":false,"num_special":4}',
     '{"class":"BPETokenizer","lowercase":false,"num_special":4,"model":{}}'],
)  # fmt: skip
def test_what_is_no_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a tokenizer of trellis") as caught:
        from_json(text)
    assert len(str(caught.value)) < 300

"""Texts of many scripts, in both normal forms, through every tokenizer and back."""

import unicodedata
from collections.abc import Callable

import pytest

from trellis.sequence.subword import BPETokenizer, WordPieceTokenizer
from trellis.sequence.tokenizer import CharTokenizer, Tokenizer, WordTokenizer, from_json
from trellis.sequence.words import first_word_rules, word_rules

# A sentence of each script, and its number of words and punctuation marks.
SCRIPTS = {
    "Hindi": ("हिन्दी में लिखा हुआ वाक्य, है न?", 9),
    "Bengali": ("আমি বাংলায় কথা বলি।", 5),
    "Tamil": ("தமிழ் மொழி ஒரு செம்மொழி.", 5),
    "Telugu": ("తెలుగు భాష చాలా మధురమైనది.", 5),
    "Hebrew": ("שָׁלוֹם עֲלֵיכֶם, מה שלומך?", 6),
    "Arabic": ("اَلْعَرَبِيَّةُ لُغَةٌ جميلة، أليس كذلك؟", 7),
    "Persian": ("می\u200cخواهم کتاب\u200cها را بخوانم.", 5),
    "Urdu": ("یہ اُردو ہے۔", 4),
    "Thai": ("ภาษาไทยเขียนติดกัน ไม่เว้นวรรค", 2),
    "Khmer": ("ភាសាខ្មែរ ពិរោះណាស់។", 3),
    "Burmese": ("မြန်မာဘာသာစကား ဖြစ်သည်။", 3),
    "Tibetan": ("བོད་ཡིག ཡིན།", 5),
    "Amharic": ("አማርኛ ቋንቋ ነው።", 4),
    "Chinese": ("你好，世界。今天很好！", 6),
    "Japanese": ("これは、ガラスです。", 4),
    "Korean": ("한국어 문장이다.", 3),
    "Greek": ("Η γλώσσα είναι ωραία;", 5),
    "Russian": ("Ёлка и чай, йогурт.", 6),
    "Vietnamese": ("Tiếng Việt có dấu.", 5),
    "German": ("Über Größe, schön (sehr).", 8),
}
FORMS = ("NFC", "NFD")
KINDS: dict[str, Callable[..., Tokenizer]] = {
    "characters": lambda texts, **o: CharTokenizer(texts, special=True, **o),
    "words": WordTokenizer,
    "pairs": lambda texts, **o: BPETokenizer(texts, num_tokens=400, **o),
    "pieces": lambda texts, **o: WordPieceTokenizer(texts, num_tokens=800, **o),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("learnt_from", FORMS)
def test_every_script_comes_back_from_both_normal_forms(kind: str, learnt_from: str) -> None:
    texts = [unicodedata.normalize(learnt_from, text) for text, _ in SCRIPTS.values()]
    tokenizer = from_json(KINDS[kind](texts * 2).to_json())
    assert tokenizer.normalization == "NFC"
    for name, (text, _) in SCRIPTS.items():
        expected = unicodedata.normalize("NFC", text)
        for form in FORMS:
            ids = tokenizer.encode(unicodedata.normalize(form, text))
            assert tokenizer.decode(ids) == expected, (name, form)
            assert tokenizer.encode_batch([unicodedata.normalize(form, text)]) == [ids]


@pytest.mark.parametrize("form", FORMS)
def test_words_keep_their_combining_marks(form: str) -> None:
    for name, (text, count) in SCRIPTS.items():
        words = word_rules().split(unicodedata.normalize(form, text))
        assert len(words) == count, (name, words)


@pytest.mark.parametrize(
    "word",
    ["नमस्ते", "क्\u200dष", "می\u200cرود", "צה״ל", "בית־ספר", "ซื้อ",
     "e\u0301te\u0301", "🇩🇪", "👨\u200d👩\u200d👧", "👍🏽", "❤\ufe0f", "٣٫٥"],
)  # fmt: skip
def test_one_word_is_one_token(word: str) -> None:
    assert word_rules().split(f"{word} {word}") == [word, word]
    tokenizer = WordTokenizer([word], normalization=None)
    assert tokenizer.decode(tokenizer.encode(f"{word} {word}")) == f"{word} {word}"


def test_byte_pairs_merge_across_combining_marks() -> None:
    tokenizer = BPETokenizer(["हिन्दी में हिन्दी"] * 9, num_tokens=400)
    assert len(tokenizer.encode("हिन्दी")) == 1


def test_what_words_lose_is_what_their_docstring_says() -> None:
    """Spaces around quotation marks, dashes and symbols; runs of spaces; nothing else."""
    exact = ["It's 3.5 m, (or 1,000)!", "well-known: yes…", "¿Qué? ¡Sí!", "[a] {b}; 5% off."]
    lost = ['say "no" now', "a–b", "a + b=c", "two  spaces", "a\nb"]
    tokenizer = WordTokenizer([*exact, *lost])
    assert [tokenizer.decode(tokenizer.encode(text)) for text in exact] == exact
    back = [tokenizer.decode(tokenizer.encode(text)) for text in lost]
    assert sum(one != text for one, text in zip(back, lost, strict=True)) == len(lost)
    assert ["".join(one.split()) for one in back] == ["".join(text.split()) for text in lost]


def test_another_normal_form_or_none_is_kept() -> None:
    texts = ["e\u0301t\u00e9 ﬁn"]
    for form, back in (("NFD", "e\u0301te\u0301 ﬁn"), ("NFKC", "été fin"), (None, texts[0])):
        for kind, make in KINDS.items():
            tokenizer = from_json(make(texts, normalization=form).to_json())
            assert tokenizer.normalization == form
            assert tokenizer.decode(tokenizer.encode(texts[0])) == back, (kind, form)
    with pytest.raises(ValueError, match="normalization='NFX'"):
        WordTokenizer(["a"], normalization="NFX")


def test_tokenizers_of_the_first_release_split_as_they_did() -> None:
    old = '{"class":"WordTokenizer","lowercase":false,"num_special":4,"words":["ह","ि"],"split_punctuation":true}'  # noqa: E501
    tokenizer = from_json(old)
    assert tokenizer.normalization is None
    assert tokenizer.encode("हि") == [4, 5]
    assert tokenizer.decode([4, 5]) == "ह ि"
    assert tokenizer.to_json() == old
    assert first_word_rules().split("हि") == ["ह", "ि"]
    characters = from_json(
        '{"class":"CharTokenizer","lowercase":false,"num_special":4,"characters":"é"}'
    )
    assert characters.encode("e\u0301") == [3, 3]

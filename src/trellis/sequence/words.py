"""Where words begin and end, in all scripts that put spaces or punctuation between them."""

import re
import sys
import unicodedata
from functools import cache
from typing import NamedTuple

# Invisible characters inside words: joiners of Persian and Indian scripts and of emoji, marks of
# the direction of writing, soft hyphens.
INVISIBLE = "\u00ad\u061c\u200b-\u200f\u2060"
# Punctuation that belongs to the word before it, and that which has no space on either side.
_CLOSING = ".,;:!?%)\\]}…،؛؟۔٪։՞՜՝׃।॥၊။።፣፤፥፦፧៖។៕།"
_TIGHT = "་、。！？，．：；（）「」『』《》〈〉【】・"
_OPENING = "(\\[{¿¡"


class WordRules(NamedTuple):
    """How texts are split into words, and words joined to a text.

    Args:
        word: matches one word or punctuation mark.
        removed: match spaces that are not written.
    """

    word: re.Pattern[str]
    removed: tuple[re.Pattern[str], ...]

    def split(self, text: str) -> list[str]:
        """Words and punctuation marks of a text."""
        return self.word.findall(text)

    def joined(self, text: str) -> str:
        """A text with a space between any two words, spaced as it is usually written."""
        for spaces in self.removed:
            text = spaces.sub("", text)
        return text


@cache
def word_rules() -> WordRules:
    """Words as they are written in all scripts.

    Letters keep their combining marks and joiners, numbers their decimal marks, emoji their
    modifiers; as in sacrebleu's 13a, hyphens and apostrophes inside words do not split them.
    Scripts without spaces between words, such as Chinese and Thai, are split at punctuation only.
    """
    inner = f"{combining_marks()}{INVISIBLE}"
    letters = rf"\w[\w{inner}]*"
    word = (
        rf"\d+(?:[.,٫٬]\d+)+|{letters}(?:[-'’־׳״]{letters})*"
        rf"|[\U0001F1E6-\U0001F1FF]{{2}}"  # two regional indicators are one flag
        rf"|[^\w\s](?:[{inner}\U0001F3FB-\U0001F3FF]|(?<=\u200d)[^\w\s])*"
    )
    removed = (
        rf" (?=[{_CLOSING}](?:[ {_TIGHT}]|$))",
        rf"(?<=[{_OPENING}]) ",
        rf" (?=[{_TIGHT}])|(?<=[{_TIGHT}]) ",
    )
    return WordRules(re.compile(word), tuple(map(re.compile, removed)))


@cache
def first_word_rules() -> WordRules:
    """Those of vocabularies learnt by trellis 0.1, which split words at combining marks."""
    return WordRules(
        re.compile(r"\d+(?:[.,]\d+)+|\w+(?:[-'’]\w+)*|[^\w\s]"),
        (re.compile(r" (?=[.,;:!?%)\]}…](?: |$))"), re.compile(r"(?<=[(\[{]) ")),
    )


@cache
def combining_marks() -> str:
    """All combining marks, as ranges inside the brackets of a regular expression."""
    ranges: list[list[int]] = []
    # None are between the planes of Chinese characters and the variation selectors.
    for code in (*range(0x300, 0x20000), *range(0xE0000, min(0xE0200, sys.maxunicode))):
        if unicodedata.category(chr(code)).startswith("M"):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)

"""Whether words are English, the one language that the shipped model reads."""

import re
from collections.abc import Sequence
from typing import Any

LEAST = 4
"""Words, or letters of another script, below which nothing is said of a text's language."""
LATIN = "\u024f"
"""The last letter of the Latin script's blocks."""
COMMON = 0.1
"""Share of the commonest English words below which a text may be of another language..."""
PIECES = 1.4
"""...if its words also fall into more pieces each than this: the vocabulary was made from English."""
_COMMON = frozenset(
    """
    a about all am an and any are as at back be because been but by can could day did do does don't even first for from
    get give go going good got had has have he her here him his how i i'm if in into is it it's its just know like look
    make me more my new no not now of oh okay on one only or other our out over people really right said say see she so
    some take than that that's the their them then there these they think this time to too two up us use very want was
    way we well were what when where which who why will with would yeah yes you your
    """.split()  # noqa: SIM905
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def is_foreign(texts: Sequence[str | None], tokenizer: Any) -> bool:
    """Whether what is said looks like another language than English.

    Args:
        texts: of a recording.
        tokenizer: of the text encoder.
    """
    letters = [letter for text in texts if text for letter in text if letter.isalpha()]
    if len(letters) >= LEAST and sum(letter > LATIN for letter in letters) > len(letters) / 2:
        return True
    words = [word.lower().replace("’", "'") for text in texts if text for word in _WORD.findall(text)][:2000]
    if len(words) < LEAST or sum(word in _COMMON for word in words) >= COMMON * len(words):
        return False
    pieces = tokenizer(words, add_special_tokens=False)["input_ids"]
    return sum(map(len, pieces)) > PIECES * len(words)

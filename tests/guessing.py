"""Words about guesses, which no headless output may have."""

import re


def spoken_of(text: str) -> list[str]:
    """What a text says of a guess that somebody made, or did not make."""
    words = r"slider's default|your guess\b|no guess(?:es)?\b|you predicted"
    return re.findall(words, text, re.IGNORECASE)

"""Words about guesses, which no headless output may have."""

import re


def spoken_of(text: str) -> list[str]:
    """What a text says of a guess that somebody made, or did not make."""
    found = r"slider's default|you made no guess|your guess|show no guesses|no guess\b|you predicted"
    return re.findall(found, text, re.IGNORECASE)

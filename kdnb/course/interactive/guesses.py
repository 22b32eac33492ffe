"""What readers guessed and what came out, kept beside the finished runs: a small file per task."""

import json
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from kdnb.files import store_root, write_whole


@dataclass(frozen=True)
class Guessed:
    """A question, what the reader guessed before the answer was shown, and what came out.

    ``guess`` is None where nobody guessed: the slider's resting place ``start`` is no guess.
    ``value`` is None where no number came out, ``low`` and ``high`` where it has no interval.
    ``choice`` and ``outcome`` are words, for questions that ask what happens too. ``shown`` says
    that a reader has seen the outcome: no later guess counts.
    """

    question: str
    unit: str
    digits: int
    least: float
    most: float
    start: float
    value: float | None = None
    low: float | None = None
    high: float | None = None
    guess: float | None = None
    choice: str = ""
    outcome: str = ""
    shown: bool = False

    def __post_init__(self):
        for name in ("digits", "least", "most", "start"):
            if not isinstance(getattr(self, name), int | float):
                raise TypeError(f"{name} must be a number, got {getattr(self, name)!r}")
        for name in ("value", "low", "high", "guess"):
            if not isinstance(getattr(self, name), int | float | None):
                raise TypeError(f"{name} must be a number or null, got {getattr(self, name)!r}")

    def number(self, value: float) -> str:
        """A value in the question's unit: with its sign where the slider goes below 0.

        >>> Guessed("Gain?", "points", 1, -5, 15, 2).number(7.46)
        '+7.5 points'
        """
        sign = "+" if self.least < 0 else ""
        return f"{value:{sign}.{self.digits}f} {self.unit}".strip()

    @property
    def result(self) -> str:
        """What came out, with its interval."""
        if self.value is None:
            return "no number"
        if self.low is None or self.high is None:
            return self.number(self.value)
        sign = "+" if self.least < 0 else ""
        low, high = (f"{end:{sign}.{self.digits}f}" for end in (self.low, self.high))
        return f"{self.number(self.value)} (95 % interval {low} to {high})"

    def within(self, guess: float) -> bool:
        """Whether a guess lies within the interval, to the digits that are shown."""
        if self.low is None or self.high is None:
            return False
        return round(self.low, self.digits) <= guess <= round(self.high, self.digits)

    def judged(self, guess: float) -> str:
        """How far off a guess is, in words."""
        if self.value is None:
            return "nothing to compare with"
        off = round(guess - self.value, self.digits)
        if self.within(guess):
            return "within the interval"
        if not off:
            return "right"
        return f"too {'high' if off > 0 else 'low'} by {abs(off):.{self.digits}f}"


class NoGuessesError(ValueError):
    """A file is not what `Guesses` wrote; the message says what to do."""


class Guesses:
    """All that was guessed for one task, by keys such as "02", or "08/3" for one of several."""

    def __init__(self, task: str, root: str | Path | None = None):
        name = re.sub(r"[^\w.-]", "_", task)
        self.path = store_root(root) / f"guesses-{name}.json"

    def all(self) -> dict[str, Guessed]:
        """Every question that has an answer; of a file that holds no guesses it warns."""
        try:
            return self._read()
        except NoGuessesError as error:
            warnings.warn(str(error), stacklevel=2)
            return {}

    def keep(self, key: str, guessed: Guessed) -> None:
        """Write one, whole or not at all; where that fails it only warns.

        A file that holds something else is not overwritten.
        """
        try:
            entries = {name: asdict(each) for name, each in self._read().items()}
            text = json.dumps(entries | {key: asdict(guessed)}, indent=1) + "\n"
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, [text.encode()])
        except NoGuessesError as error:
            warnings.warn(f"this guess is not kept: {error}", stacklevel=2)
        except OSError as error:
            warnings.warn(
                f"this guess is not kept: cannot write {self.path} ({error}); set KDNB_RUNS to a "
                "folder that you can write",
                stacklevel=2,
            )

    def _read(self) -> dict[str, Guessed]:
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
            if not entries:  # kdnb keeps at least one
                raise ValueError("it is empty")
            return {key: Guessed(**entry) for key, entry in sorted(entries.items())}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise NoGuessesError(
                f"there are no guesses in {self.path} ({error}): move it away to keep new ones"
            ) from error

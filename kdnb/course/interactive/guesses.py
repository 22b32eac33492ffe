"""The reader's guesses and the results, stored beside the finished runs: a small file per task."""

import json
import re
import warnings
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from kdnb.files import store_root, write_whole

Number = int | float


@dataclass(frozen=True)
class Guessed:
    """A question, the reader's guess before the result was shown, and the result.

    ``ends`` are the slider's ends. ``guess`` is None without a guess: the slider's default
    ``start`` is no guess. ``value`` is None where the result is no number, ``low`` and ``high``
    where the result has no interval.
    ``choice`` and ``outcome`` are words, for questions that also ask for the outcome. ``shown`` is
    True once a reader has seen the result: no later guess counts.
    """

    question: str
    unit: str
    digits: int
    ends: list
    start: Number
    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    guess: Number | None = None
    choice: str = ""
    outcome: str = ""
    shown: bool = False

    def __post_init__(self):
        for field in fields(self):
            if not isinstance(value := getattr(self, field.name), field.type):
                raise TypeError(f"{field.name} cannot be {value!r}")

    def _digits(self, value: float) -> str:
        """A value's digits, with a sign if the slider goes below 0."""
        return f"{value:{'+' if self.ends[0] < 0 else ''}.{self.digits}f}"

    def number(self, value: float) -> str:
        """A value in the question's unit.

        >>> Guessed("Gain?", "points", 1, [-5, 15], 2).number(7.46)
        '+7.5 points'
        """
        return f"{self._digits(value)} {self.unit}".strip()

    @property
    def result(self) -> str:
        """The result with its interval."""
        if self.value is None:
            return "no number"
        if self.low is None or self.high is None:
            return self.number(self.value)
        low, high = self._digits(self.low), self._digits(self.high)
        return f"{self.number(self.value)} (95 % interval {low} to {high})"

    def outcomes(self) -> dict:
        """The result for the page: its words and its numbers."""
        names = ("value", "low", "high", "outcome")
        return {"result": self.result, **{name: getattr(self, name) for name in names}}

    def judged(self, guess: float) -> str:
        """The difference of a guess from the result in words, to the digits shown."""
        if self.value is None:
            return "nothing to compare with"
        if None not in (self.low, self.high) and (
            round(self.low, self.digits) <= guess <= round(self.high, self.digits)
        ):
            return "within the interval"
        off = round(guess - self.value, self.digits)
        return (
            f"too {'high' if off > 0 else 'low'} by {abs(off):.{self.digits}f}" if off else "right"
        )


class Guesses:
    """All guesses for one task, by keys such as "02", or "08/3" for one of several."""

    def __init__(self, task: str, root: str | Path | None = None):
        name = re.sub(r"[^\w.-]", "_", task)
        self.path = store_root(root) / f"guesses-{name}.json"

    def all(self) -> dict[str, Guessed]:
        """Every question with a result; warns about a file that holds no guesses."""
        try:
            return self._read()
        except ValueError as error:
            warnings.warn(str(error), stacklevel=2)
            return {}

    def keep(self, key: str, guessed: Guessed) -> None:
        """Write a guess, completely or not at all; warns if this fails.

        A file with other content is not overwritten.
        """
        try:
            entries = {name: asdict(each) for name, each in (self._read() | {key: guessed}).items()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, [f"{json.dumps(entries, indent=1)}\n".encode()])
        except ValueError as error:
            warnings.warn(f"this guess is not stored: {error}", stacklevel=2)
        except OSError as error:
            warnings.warn(
                f"this guess is not stored: cannot write {self.path} ({error}); set KDNB_RUNS to a "
                "writable folder",
                stacklevel=2,
            )

    def _read(self) -> dict[str, Guessed]:
        """Raises ValueError for a file that `keep` did not write."""
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
            if not entries:  # kdnb keeps at least one
                raise ValueError("the file is empty")
            return {key: Guessed(**entry) for key, entry in sorted(entries.items())}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.path} holds no guesses ({error}): move this file to store new guesses"
            ) from error

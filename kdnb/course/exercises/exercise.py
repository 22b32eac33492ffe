"""An exercise and its checker, which recognises misconceptions by what they compute."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdnb.course.exercises.attempt import Attempt, Failed, is_stub
from kdnb.course.exercises.verdict import (
    CORRECT,
    NOT_ATTEMPTED,
    NOT_YET,
    Help,
    Paragraph,
    Verdict,
)


@dataclass(frozen=True)
class Case:
    """Arguments on which the reader's function is tried; ``about`` names them in a sentence."""

    about: str
    arguments: tuple


@dataclass(frozen=True)
class Misconception:
    """A mistake with a name, and how it is recognised.

    ``wrong``: what a function with this mistake computes, or several variants of it, of the same
    arguments as the right one. Or, for a mistake that ordinary values do not show, ``shown_by``:
    given a function whose values are right, the words that show the mistake ("on … it gives …"),
    or None. ``says``: why it is wrong, in a sentence or two. ``read``: where, if not at the
    exercise's own paragraph.
    """

    name: str
    says: str
    wrong: Callable | tuple[Callable, ...] = ()
    shown_by: Callable[[Attempt], str | None] | None = None
    read: Paragraph | None = None

    @property
    def variants(self) -> tuple[Callable, ...]:
        """The wrong references."""
        return self.wrong if isinstance(self.wrong, tuple) else (self.wrong,)


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """A function that the reader writes, compared with ``right`` on ``cases``.

    ``key`` names it here and in the ids of its cells, and the answer is called ``my_<key>``.
    ``stub`` and ``solved`` are the sources of the answer's cell before and after. ``difficulty``
    is 1 to 3. ``praise`` stands under a correct answer: what it was good for.
    """

    key: str
    title: str
    difficulty: int
    minutes: int
    where: Paragraph
    stub: str
    solved: str
    hints: tuple[str, ...]
    right: Callable
    misconceptions: tuple[Misconception, ...]
    praise: str
    cases: tuple[Case, ...] = ()
    tolerance: float = 1e-4  # relative; float32 is good for 1e-6

    @property
    def heading(self) -> str:
        """The first lines of the exercise's cell of text."""
        stars = "★" * self.difficulty + "☆" * (3 - self.difficulty)
        return (
            f"### {self.title}\n\n{stars} *difficulty {self.difficulty} of 3, "
            f"about {self.minutes} minutes*"
        )

    def check(self, attempt: object, *facts: object) -> Verdict:
        """What is right or wrong with an attempt; never raises.

        ``facts`` are for a `Question`: what the notebook computed and the answer is about.
        """
        try:
            return self._judge(attempt, facts)
        except Failed as failed:
            return self._not_yet(failed.name, failed.text)

    def hint(self, number: int = 1) -> Help:
        """The first hint, or another."""
        hints = self._hints()
        return hints[min(max(number, 1), len(hints)) - 1]

    def solution(self) -> Help:
        """The source of a solution."""
        return Help("Solution", source=self.solved)

    def _judge(self, attempt: object, facts: tuple) -> Verdict:
        if is_stub(attempt, self.stub):
            return self._unattempted()
        tried = Attempt(attempt)
        yours = [tried(*case.arguments) for case in self.cases]
        verdict = self._compared(self.cases, yours)
        if verdict:
            return verdict
        for misconception in self.misconceptions:
            if misconception.shown_by and (seen := misconception.shown_by(tried)):
                return self._recognised(misconception, seen)
        return Verdict(CORRECT, self.praise, help=(self.solution(),))

    def _compared(self, cases: Sequence[Case], yours: list) -> Verdict | None:
        """A verdict on values, None where all are right."""
        wanted = reference(self.right, cases)
        where = first_unlike(yours, wanted, self.tolerance)
        if where is None:
            return None
        for misconception in self.misconceptions:
            for wrong in misconception.variants:
                theirs = reference(wrong, cases)
                if first_unlike(yours, theirs, self.tolerance) is None:
                    return self._recognised(misconception, self._seen(cases, yours, wanted, where))
        seen = self._seen(cases, yours, wanted, where)
        have, need = (numbers(values[where]).shape for values in (yours, wanted))
        if have != need:
            return self._not_yet(
                "another shape", f"{seen} The shape is {tuple(have)} where {tuple(need)} is wanted."
            )
        return self._not_yet("another number", f"{seen} No single usual mistake gives this.")

    def _seen(self, cases: Sequence[Case], yours: list, wanted: list, where: int) -> str:
        have, need = shown(yours[where], wanted[where])
        return f"On {cases[where].about} your function gives {have} where {need} is wanted."

    def _unattempted(self) -> Verdict:
        text = "Write your answer in the cell above, run it, and run this one again."
        return Verdict(NOT_ATTEMPTED, text, help=self._help())

    def _recognised(self, misconception: Misconception, seen: str) -> Verdict:
        text = f"{seen} {misconception.says}"
        return self._not_yet(misconception.name, text, misconception.read)

    def _not_yet(self, name: str, text: str, read: Paragraph | None = None) -> Verdict:
        return Verdict(NOT_YET, text, name, read or self.where, self._help())

    def _hints(self) -> tuple[Help, ...]:
        total = len(self.hints)
        names = (f"Hint {n} of {total}" if total > 1 else "Hint" for n in range(1, total + 1))
        return tuple(map(Help, names, self.hints))

    def _help(self) -> tuple[Help, ...]:
        return (*self._hints(), self.solution())


@dataclass(frozen=True, kw_only=True)
class Question(Exercise):
    """A number, some numbers or a word that the reader gives, about what the notebook computed.

    ``right`` and the wrong references take the facts given to `check`; ``about`` names them.
    """

    about: str

    def _judge(self, attempt: object, facts: tuple) -> Verdict:
        if attempt is None or attempt is ...:
            return self._unattempted()
        verdict = self._compared([Case(self.about, facts)], [attempt])
        return verdict or Verdict(CORRECT, self.praise, help=(self.solution(),))

    def _seen(self, cases: Sequence[Case], yours: list, wanted: list, where: int) -> str:
        # What is wanted is for the reader to find.
        return f"Your answer about {self.about} is {shown(yours[where], wanted[where])[0]}."


def reference(function: Callable, cases: Sequence[Case]) -> list:
    """What a function of ours, right or wrong, gives for each case."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [function(*case.arguments) for case in cases]


def numbers(value: object) -> Tensor:
    """Numbers of any kind, alone or in sequences, as a float64 tensor; raises `Failed` of others"""
    try:
        if isinstance(value, Tensor):
            return value.detach().cpu().double()
        return torch.from_numpy(np.array(value, dtype=float))
    except Exception as error:
        kind = type(value).__name__
        raise Failed("not a number", f"Numbers are wanted, here is a {kind}.") from error


def first_unlike(some: list, others: list, tolerance: float) -> int | None:
    """Which of some values differs first from its partner; None if all are alike."""
    for place, (one, other) in enumerate(zip(some, others, strict=True)):
        if isinstance(other, str) or isinstance(one, str):
            if str(one).strip().lower() != str(other).strip().lower():
                return place
            continue
        one, other = numbers(one), numbers(other)
        if one.shape != other.shape:
            return place
        if not torch.allclose(one, other, rtol=tolerance, atol=1e-6):
            return place
    return None


def shown(yours: object, wanted: object) -> tuple[str, str]:
    """Both in short: numbers, or of a table the row in which they differ most."""
    if isinstance(yours, str) or isinstance(wanted, str):
        return str(yours), str(wanted)
    one, other = numbers(yours), numbers(wanted)
    if one.shape == other.shape and one.ndim == 2:
        apart = (one - other).abs().nan_to_num(nan=torch.inf).amax(1).argmax()
        one, other = one[apart], other[apart]
    return _few(one), _few(other)


def _few(values: Tensor, at_most: int = 6) -> str:
    if values.ndim == 0:
        return f"{values.item():.4g}"
    if values.ndim > 1:
        return f"a tensor of shape {tuple(values.shape)}"
    some = ", ".join(f"{v:.4g}" for v in values[:at_most].tolist())
    return f"[{some}{', …' if len(values) > at_most else ''}]"


def gradient_leaks(case: Case, argument: int, whose: str) -> Callable[[Attempt], str | None]:
    """For ``shown_by``: a gradient reaches this argument, where none should."""

    def seen(attempt: Attempt) -> str | None:
        result, needing = _with_gradient(attempt, case)
        if not isinstance(result, Tensor) or not result.requires_grad:
            return None
        gradient = _gradient(result, needing[argument])
        if gradient is None or not gradient.any():
            return None
        length = gradient.norm().item()
        return f"On {case.about} a gradient of length {length:.3g} reaches {whose}."

    return seen


def gradient_missing(case: Case, argument: int, whose: str) -> Callable[[Attempt], str | None]:
    """For ``shown_by``: no gradient reaches this argument, which is to learn from it."""

    def seen(attempt: Attempt) -> str | None:
        result, needing = _with_gradient(attempt, case)
        reached = isinstance(result, Tensor) and result.requires_grad
        gradient = _gradient(result, needing[argument]) if reached else None
        if gradient is not None and gradient.any():
            return None
        return f"On {case.about} the value is right, but no gradient reaches {whose}."

    return seen


def _with_gradient(attempt: Attempt, case: Case) -> tuple[object, list]:
    needing = [
        a.clone().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a
        for a in case.arguments
    ]
    return attempt.with_these(*needing), needing


def _gradient(result: Tensor, argument: Tensor) -> Tensor | None:
    try:
        (gradient,) = torch.autograd.grad(result.sum(), argument, allow_unused=True)
    except RuntimeError as error:
        raise Failed("no gradient", f"Its gradient cannot be computed: {error}.") from error
    return gradient

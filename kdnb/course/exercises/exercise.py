"""Exercises and their checker, which recognises misconceptions by what they compute."""

import ast
import inspect
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kdnb.course.exercises.attempt import Attempt, Failed, copied, is_stub
from kdnb.course.exercises.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET, Help, Paragraph, Verdict


@dataclass(frozen=True)
class Case:
    """Arguments on which functions are compared; ``about`` names them in a sentence."""

    about: str
    arguments: tuple


@dataclass(frozen=True)
class Probe:
    """Recognises a mistake that ordinary values do not show, in a function whose values are right.

    ``seen`` gives the words that show the mistake ("on … it gives …"), or None.
    """

    seen: Callable[[Attempt], str | None]


@dataclass(frozen=True)
class Header:
    """The head of an exercise; ``where`` is what to read, ``difficulty`` is 1 to 3."""

    title: str
    difficulty: int
    minutes: int
    where: Paragraph

    @property
    def heading(self) -> str:
        """The first lines of the exercise's cell of text."""
        stars = "★" * self.difficulty + "☆" * (3 - self.difficulty)
        return (
            f"### {self.title}\n\n{stars} *difficulty {self.difficulty} of 3, "
            f"about {self.minutes} minutes*"
        )


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """What both kinds share: `Function`, which the reader writes, and `Question`, a value.

    ``mistakes`` are the misconceptions by name: what a function with this mistake computes of the
    arguments of ``right``, or several variants of it, or a `Probe`. ``says`` is why each is wrong,
    ``read`` a paragraph where it is not the exercise's own. ``praise`` stands under a correct
    answer. ``key`` names the exercise and its cells, the answer is called ``my_<key>``, and
    ``stub`` and ``solved`` are the sources of the answer's cell before and after.
    """

    header: Header
    hints: tuple[str, ...]
    right: Callable
    mistakes: Mapping[str, Callable | tuple[Callable, ...] | Probe]
    says: Mapping[str, str]
    praise: str
    read: Mapping[str, Paragraph] = field(default_factory=dict)
    tolerance: float = 1e-4  # relative; float32 is good for 1e-6

    def check(self, attempt: object, *facts: object, own: bool = False) -> Verdict:
        """What is right or wrong with an attempt; never raises.

        ``facts`` are for a `Question`: what the notebook computed and the answer is about. An
        ``own`` function may call none of kdnb's.
        """
        if is_stub(attempt, self.stub):
            text = "Write your answer in the cell above, run it, and run this one again."
            return Verdict(NOT_ATTEMPTED, text, help=self._help())
        try:
            wrong = self._mistake(attempt, facts, own)
        except Failed as failed:
            wrong = self._not_yet(failed.name, failed.text)
        return wrong or Verdict(CORRECT, self.praise, help=(self.solution(),))

    def hint(self, number: int = 1) -> Help:
        """The first hint, or another."""
        return self._help()[min(max(number, 1), len(self.hints)) - 1]

    def solution(self) -> Help:
        """The source of a solution."""
        return Help("Solution", source=self.solved)

    @property
    def wrong_references(self) -> list[tuple[str, Callable]]:
        """(name, function) of each mistake that values show."""
        several = ((name, m if isinstance(m, tuple) else (m,)) for name, m in self.mistakes.items())
        return [(name, m) for name, ms in several for m in ms if not isinstance(m, Probe)]

    def _compared(self, values: list, cases: Sequence[Case]) -> Verdict | None:
        """A verdict on the values of an attempt, None where all are right."""
        right = reference(self.right, cases)
        where = first_unlike(values, right, self.tolerance)
        if where is None:
            return None
        seen = self._seen(cases[where], values[where], right[where])
        for name, wrong in self.wrong_references:
            if first_unlike(values, reference(wrong, cases), self.tolerance) is None:
                return self._not_yet(name, f"{seen} {self.says[name]}")
        have, need = (tuple(numbers(some[where]).shape) for some in (values, right))
        if have != need:
            says = f"{seen} The shape is {have} where {need} is wanted."
            return self._not_yet("another shape", says)
        return self._not_yet("another number", f"{seen} No single usual mistake gives this.")

    def _not_yet(self, name: str, text: str) -> Verdict:
        read = self.read.get(name, self.header.where)
        return Verdict(NOT_YET, text, name, read, self._help())

    def _help(self) -> tuple[Help, ...]:
        total = len(self.hints)
        titles = (f"Hint {n} of {total}" if total > 1 else "Hint" for n in range(1, total + 1))
        return (*map(Help, titles, self.hints), self.solution())


@dataclass(frozen=True, kw_only=True)
class Function(Exercise):
    """A function that the reader writes, compared with ``right`` on ``cases``.

    The stub is the head of ``solution`` with a place for code, where ``note`` may say more.
    """

    solved_by: Callable
    cases: tuple[Case, ...]
    note: str = ""

    @property
    def key(self) -> str:
        return self.solved_by.__name__.removeprefix("my_")

    @property
    def solved(self) -> str:
        return inspect.getsource(self.solved_by).rstrip()

    @property
    def stub(self) -> str:
        (function,) = ast.parse(self.solved).body
        head = self.solved.splitlines()[: function.body[0].end_lineno]
        return "\n".join([*head, f"    ...  # your code{self.note}"])

    def _mistake(self, attempt: object, facts: tuple, own: bool) -> Verdict | None:
        tried = Attempt(attempt, own)
        if wrong := self._compared([tried(*case.arguments) for case in self.cases], self.cases):
            return wrong
        for name, mistake in self.mistakes.items():
            if isinstance(mistake, Probe) and (seen := mistake.seen(tried)):
                return self._not_yet(name, f"{seen} {self.says[name]}")
        return None

    @staticmethod
    def _seen(case: Case, value: object, right: object) -> str:
        have, need = shown(value, right)
        return f"On {case.about} your function gives {have} where {need} is wanted."


@dataclass(frozen=True, kw_only=True)
class Question(Exercise):
    """One or several numbers that the reader gives, about what the notebook computed.

    ``right`` and the wrong references take the facts given to `check`; ``about`` names them.
    """

    about: str
    stub: str
    solved: str

    @property
    def key(self) -> str:
        return re.search(r"^my_(\w+) = None", self.stub, re.MULTILINE)[1]

    def _mistake(self, attempt: object, facts: tuple, own: bool) -> Verdict | None:
        return self._compared([attempt], [Case(self.about, facts)])

    @staticmethod
    def _seen(case: Case, value: object, right: object) -> str:
        # What is wanted is for the reader to find.
        return f"Your answer about {case.about} is {shown(value, right)[0]}."


def reference(function: Callable, cases: Sequence[Case]) -> list:
    """What a function of ours, right or wrong, gives for each case."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [function(*copied(case.arguments)) for case in cases]


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
    for place, pair in enumerate(zip(some, others, strict=True)):
        one, other = map(numbers, pair)
        if one.shape != other.shape or not torch.allclose(one, other, rtol=tolerance, atol=1e-6):
            return place
    return None


def shown(value: object, right: object) -> tuple[str, str]:
    """Both in short: numbers, or of a table the row in which they differ most."""
    one, other = numbers(value), numbers(right)
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


def differs_on(case: Case, right: Callable, like: Callable | None = None) -> Probe:
    """Another value than ``right`` on a case, that of ``like`` where given."""

    def seen(attempt: Attempt) -> str | None:
        value, wanted = attempt(*case.arguments), right(*case.arguments)
        as_like = like is None or first_unlike([value], [like(*case.arguments)], 1e-4) is None
        differs = first_unlike([value], [wanted], 1e-4) is not None
        return Function._seen(case, value, wanted) if differs and as_like else None

    return Probe(seen)


def gradient_leaks(case: Case, argument: int, whose: str) -> Probe:
    """A gradient reaches this argument, where none should."""

    def seen(attempt: Attempt) -> str | None:
        gradient = _gradient(attempt, case, argument)
        if gradient is None:
            return None
        return f"On {case.about} a gradient of length {gradient.norm():.3g} reaches {whose}."

    return Probe(seen)


def gradient_missing(case: Case, argument: int, whose: str) -> Probe:
    """No gradient reaches this argument, which is to learn from it."""

    def seen(attempt: Attempt) -> str | None:
        if _gradient(attempt, case, argument) is not None:
            return None
        return f"On {case.about} the value is right, but no gradient reaches {whose}."

    return Probe(seen)


def _gradient(attempt: Attempt, case: Case, argument: int) -> Tensor | None:
    """Of the sum of what the attempt returns; None where nothing, or only zeros, come back."""
    given = [
        a.clone().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a
        for a in case.arguments
    ]
    result = attempt.with_these(*given)
    if not isinstance(result, Tensor) or not result.requires_grad:
        return None
    try:
        (gradient,) = torch.autograd.grad(result.sum(), given[argument], allow_unused=True)
    except RuntimeError as error:
        raise Failed("no gradient", f"Its gradient cannot be computed: {error}.") from error
    return gradient if gradient is not None and gradient.any() else None

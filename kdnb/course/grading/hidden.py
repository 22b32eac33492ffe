"""What the hidden tests call in the lecturer's environment."""

import torch

from kdnb.course.exercises import BY_KEY


class NotCorrectError(AssertionError):
    """An answer is not correct; the message is the checker's verdict."""

    def _render_traceback_(self) -> list[str]:
        """IPython shows this in place of a traceback, and so does the feedback."""
        return str(self).splitlines()


def require(key: str, answer: object, *facts: object) -> None:
    """Print the verdict on the reader's own answer, or raise `NotCorrectError` with it.

    A function may call none of kdnb's. ``facts`` are those of `Exercise.check`.
    """
    torch.set_grad_enabled(True)  # an earlier answer may have switched gradients off for good
    verdict = BY_KEY[key].check(answer, *facts, own=True)
    if not verdict.correct:
        raise NotCorrectError(str(verdict))
    print(verdict)

"""The exercises of the course: stubs, hints, solutions, and checkers that name misconceptions.

To add one:

1. Write a `Function` (which the reader writes) or a `Question` (numbers that they read off or
   compute) in the module of its theme, and name it below. ``mistakes`` are references that have
   the mistake; one that does not change values (a gradient that leaks, an overflow) is found by a
   `Probe`. ``says`` is the sentence for each. Data of the notebook goes to a Question as facts:
   ``exercises.second_opinion.check(my_second_opinion, logits[0])``.
2. Put three cells behind the cell ``exercises-how`` of its notebook: markdown
   ``exercise-<key>`` tagged ``exercise``, which starts with the exercise's ``header.heading``; code
   ``answer-<key>`` tagged ``exercise-answer``, which is its ``stub``; code ``check-<key>`` tagged
   ``exercise-check``, which calls ``exercises.<key>.check(my_<key>)``. Each imports ``exercises``
   itself: an edition without exercises then has nothing left of them.
3. Put into tests/attempts.py an attempt for each misconception, as a reader would write it, and
   correct answers written in other ways. The tests hold the rest: that each misconception has
   an attempt and gets its own message, that wrong references are far enough apart on the cases,
   that paragraphs exist, that cells and exercises agree.

Its graded version, with visible and hidden tests, is made from the same (`kdnb.course.grading`).
"""

from kdnb.course.exercises.choices import choose_temperature, real_gain
from kdnb.course.exercises.claims import allowed_claims, difference_of_gains, gap_won_back
from kdnb.course.exercises.costs import layer_flops, which_currency
from kdnb.course.exercises.exercise import Exercise
from kdnb.course.exercises.losses import kd_loss, why_t2
from kdnb.course.exercises.maps import deletion_area, map_similarity
from kdnb.course.exercises.softening import second_opinion, soft_target_bits, softened_softmax
from kdnb.course.exercises.subclasses import auxiliary_loss, class_logits
from kdnb.course.exercises.teachers import confidence_gap, frozen_logits

ALL: tuple[Exercise, ...] = (
    softened_softmax,
    soft_target_bits,
    second_opinion,
    frozen_logits,
    confidence_gap,
    kd_loss,
    why_t2,
    choose_temperature,
    real_gain,
    class_logits,
    auxiliary_loss,
    map_similarity,
    deletion_area,
    layer_flops,
    which_currency,
    gap_won_back,
    allowed_claims,
    difference_of_gains,
)
BY_KEY: dict[str, Exercise] = {exercise.key: exercise for exercise in ALL}

__all__ = ["ALL", "BY_KEY", *BY_KEY]

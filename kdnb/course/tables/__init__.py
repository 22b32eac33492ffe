"""Results as tables for the reader and as data for programs."""

from kdnb.course.tables.costs import cost_table, counts_compared, fewer_flops
from kdnb.course.tables.kept import REFERENCE, kept_table, published_table
from kdnb.course.tables.results import division_table, majority_class, result_table
from kdnb.course.tables.saliency import (
    measured_table,
    similarity_gains,
    similarity_verdict,
    teacher_pairs,
)
from kdnb.course.tables.scores import ScoreTable, score_range, score_table
from kdnb.course.tables.sizes import size_table, size_verdict, times_smaller

__all__ = [
    "REFERENCE", "ScoreTable", "cost_table", "counts_compared", "division_table", "fewer_flops",
    "kept_table", "majority_class", "measured_table", "published_table", "result_table",
    "score_range", "score_table", "similarity_gains", "similarity_verdict", "size_table",
    "size_verdict", "teacher_pairs", "times_smaller",
]  # fmt: skip

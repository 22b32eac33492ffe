"""Results as tables for the reader, and as data for whoever collects them."""

from kdnb.course.tables.costs import cost_table, counts_compared, fewer_flops
from kdnb.course.tables.results import (
    REFERENCE,
    constant_answer,
    division_table,
    reference_table,
    result_table,
)
from kdnb.course.tables.saliency import measured_table, similarity_answer
from kdnb.course.tables.scores import ScoreTable, score_range, score_table
from kdnb.course.tables.sizes import size_answer, size_table, times_smaller

__all__ = [
    "REFERENCE", "ScoreTable", "constant_answer", "cost_table", "counts_compared",
    "division_table", "fewer_flops", "measured_table", "reference_table", "result_table",
    "score_range", "score_table", "similarity_answer", "size_answer", "size_table",
    "times_smaller",
]  # fmt: skip

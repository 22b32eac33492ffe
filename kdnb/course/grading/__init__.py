"""Graded homework for nbgrader, made from the exercises: notebooks, tests, the students' package.

The lecturer's side is a course folder of nbgrader. Students get its folder ``student``: notebooks
with stubs and visible tests, and a kdnb without exercises, from which no answer can be imported.
nbgrader generates, collects, runs and marks; see https://nbgrader.readthedocs.io.
"""

from kdnb.course.grading.edition import TOOL, write_graded
from kdnb.course.grading.hidden import NotCorrectError, require

__all__ = ["TOOL", "NotCorrectError", "require", "write_graded"]

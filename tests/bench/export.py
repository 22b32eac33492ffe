"""Seconds from executed notebooks to the page: ``python tests/bench/export.py [TASK]``.

Takes the notebooks that the last report of the task left in ``report/<task>/``. Five rounds, the
median and the range.
"""

import statistics
import sys
import time

import nbformat

from kdnb.course.report.page import render_chapter, render_page
from kdnb.course.report.pipeline import REPORTS

ROUNDS = 5


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "mnist-small"
    paths = sorted((REPORTS / name).glob("*.ipynb"))
    if not paths:
        sys.exit(f"no executed notebooks in {REPORTS / name}: make the report first")
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        stems = [path.stem for path in paths]
        chapters = [render_chapter(nbformat.read(p, as_version=4), p.stem, stems) for p in paths]
        page = render_page(chapters, title=name, about="", facts=[])
        seconds.append(time.perf_counter() - start)
    print(
        f"{len(paths)} notebooks to {len(page) / 1e6:.1f} MB: {statistics.median(seconds):.2f} s "
        f"({min(seconds):.2f} to {max(seconds):.2f})"
    )


if __name__ == "__main__":
    main()

"""Names shared by the notebooks and the program that runs them."""

import os

from IPython import get_ipython

# Set in the environment of a kernel that runs without a reader.
HEADLESS = "KDNB_HEADLESS"
# The type under which an output carries its numbers for other programs.
RESULTS = "application/vnd.kdnb.results+json"
# Metadata of an output that is not about the data of this run: it bears no stamp of theirs.
OTHER_DATA = "kdnb_other_data"
# Metadata of an output of HTML that shows results: it bears the stamp of this run's data.
THIS_DATA = "kdnb_this_data"
# How a diagram begins in an output of HTML.
DIAGRAM = '<svg class="diagram"'
# Metadata of an output whose table has its numbers in a chart that stands before it.
DRAWN = "kdnb_drawn"
# The type under which an output carries what a component of the report's page computes from.
COMPONENT = "application/vnd.kdnb.component+json"
# The type under which an output carries the parts of the page's cover.
COVER = "application/vnd.kdnb.cover+json"
# Metadata of a text that the page shows once, wherever its notebooks show it, and of a chapter's
# provenance, which the page collects.
ONCE, PROVENANCE = "kdnb_once", "kdnb_provenance"


def live_kernel() -> bool:
    """Whether a reader uses this kernel, so that widgets and moving pictures work."""
    return not os.environ.get(HEADLESS) and hasattr(get_ipython(), "kernel")

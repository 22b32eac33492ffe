"""From notebooks to one page: run the notebooks, collect their results, write the page."""

"""From notebooks to one page: run them, collect what they say, write it down."""

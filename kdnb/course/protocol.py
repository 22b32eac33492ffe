"""What the one who runs notebooks and the notebooks tell each other."""

# Set in the environment of a kernel that runs without a reader.
HEADLESS = "KDNB_HEADLESS"
# The type under which an output carries its numbers for other programs.
RESULTS = "application/vnd.kdnb.results+json"

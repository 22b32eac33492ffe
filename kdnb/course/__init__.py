"""The course: showing, asking and exporting what the engine in `kdnb` measures."""

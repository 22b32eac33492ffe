"""What a reader moves, draws or guesses: live in Jupyter, in the page, and at rest a picture."""

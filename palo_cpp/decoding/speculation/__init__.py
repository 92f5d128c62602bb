"""Guesses at the token after the next, decoded in the same step where that saves time."""

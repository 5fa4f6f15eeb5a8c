"""The two numbers that every verdict rests on, for those who tell of them and compute nothing."""

DELTA = 0.01
"""A change smaller than this fraction is of no interest."""

FEWEST_PASSES = 6
"""On fewer no verdict is given."""

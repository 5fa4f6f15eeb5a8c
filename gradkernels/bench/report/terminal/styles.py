"""Colours of what a reader must not miss; each has a contrast of at least 3.5 both on white and on black."""

from __future__ import annotations

from gradkernels.bench.stats.verdict import CONTAMINATED

# Of the 256 fixed colours: the 16 named ones are what a theme makes of them, and yellow on white cannot be read.
GREEN, RED, ORANGE, PURPLE = "color(28)", "color(160)", "color(130)", "color(133)"

TITLE_STYLE = "bold"
WINNER = f"bold {GREEN}"
WRONG_STYLE = f"bold {RED}"
UNDECIDED = ORANGE
VERDICT_STYLES = {"slower": RED, "faster": GREEN, "undecided": ORANGE, CONTAMINATED: PURPLE}

_BEGINNINGS = {
    **dict.fromkeys(("FAILED:", "TOO SLOW:", "WRONG", "CONTAMINATED:", "NOTHING MEASURED"), WRONG_STYLE),
    **dict.fromkeys(("LIMIT UNDECIDED:", "FORCED:", "THE SAME"), UNDECIDED),
}


def style_of_sentence(sentence: str) -> str:
    """Return the style of a sentence by the words in capitals that it begins with; none for most."""
    return next((style for beginning, style in _BEGINNINGS.items() if sentence.startswith(beginning)), "")

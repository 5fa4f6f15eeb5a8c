"""What is printed on a terminal fits it and is whole: numbers, columns, sentences and colours."""

from __future__ import annotations

import io
import math

import pytest
from rich.color import Color
from rich.style import Style
from rich.text import Text
from terminals import raw, shown_on

from gradkernels.bench.report import units
from gradkernels.bench.report.terminal import styles
from gradkernels.bench.report.terminal.columns import (
    Column,
    fitting,
    left_out,
    markdown_table,
    print_columns,
    print_panels,
    shared,
)
from gradkernels.bench.report.terminal.consoles import console_for, folded, say
from gradkernels.bench.stats.estimates import Ratio
from gradkernels.bench.stats.verdict import standing

# Numbers.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.295e-6, "1.295 µs"),
        (1.34e-6, "1.340 µs"),
        (974.7e-6, "974.7 µs"),
        (999.94e-6, "999.9 µs"),
        (999.96e-6, "1.000 ms"),
        (2.0, "2.000 s"),
        (1234.5, "1,234 s"),
        (999.97, "1,000 s"),
        (5e-10, "0.5000 ns"),
        (0.0, "0.000 ns"),
        (None, ""),
    ],
)
def test_a_time_has_four_digits_and_the_unit_that_a_person_would_choose(value, text):
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.34e-6, "1.3 µs"), (9.97e-7, "1.0 µs"), (1.26e-4, "130 µs"), (0.0994, "99 ms"), (12.0, "12 s")],
)
def test_what_is_known_roughly_has_two_digits(value, text):
    assert units.about(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.612, "61%"), (0.0037, "0.37%"), (0.011, "1.1%"), (0.00001, "<0.01%")])
def test_a_share_is_a_percentage(value, text):
    assert units.share(value) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(2.8, "2.80"), (70.84, "70.8"), (99.97, "100"), (3939.4, "3,939"), (0.5, "0.500")]
)
def test_a_factor_has_three_digits_and_no_exponent(ratio, text):
    assert units.factor(ratio) == text


@pytest.mark.parametrize(
    ("ratio", "what", "text"),
    [
        (Ratio(5.68, 4.891, 6.588, 8), None, "5.68 [4.89, 6.59]"),
        (Ratio(1.004, 1.001, 1.007, 8), None, "1.004 [1.001, 1.007]"),
        (Ratio(1.13, 0.64, 1.98, 8), "undecided", "undecided [0.64, 1.98]"),
        (Ratio(2.0, 0.0, math.inf, 1), None, "2.00 [0.00, >100]"),
        (Ratio(817.0, 700.0, 900.0, 8), None, ">100 [>100, >100]"),
    ],
)
def test_an_interval_is_short(ratio, what, text):
    assert units.interval(ratio, what) == text


@pytest.mark.parametrize(
    ("passes", "level"), [({8}, "99.6%"), ({2}, "99.6%"), ({16}, "99.4%"), ({32}, "99%"), ({8, 40}, "99% to 99.6%")]
)
def test_the_level_of_an_interval_is_that_of_two_bounds_at_the_alpha_of_the_look(passes, level):
    assert units.confidence(passes) == level


@pytest.mark.parametrize(
    ("low", "high", "passes", "what"),
    [
        (1.001, 1.2, 8, "ahead"),
        (0.999, 1.2, 8, "undecided"),
        (0.995, 1.008, 8, "tie"),
        (1.001, 1.008, 8, "tie"),
        (0.995, 1.008, 5, "undecided"),
        (0.995, 1.011, 8, "undecided"),
        (0.98, 1.0, 8, "undecided"),
        (1.0, 1.2, 8, "undecided"),
    ],
)
def test_a_tie_is_said_only_where_a_difference_is_excluded(low, high, passes, what):
    assert standing(Ratio((low * high) ** 0.5, low, high, passes)) == what


# Columns.

COLUMNS = [Column("n"), Column("winner", left=True), Column("time\nof a call", rank=2), Column("lead", rank=1)]
ROWS = [[Text(cell) for cell in row] for row in (("10", "numpy.matmul", "1 µs", "2.00"), ("1,000", "a.b", "", "11.00"))]
WHOLE = """\
                          time
    n  winner        of a call   lead
   10  numpy.matmul       1 µs   2.00
1,000  a.b                      11.00
"""
WITHOUT_TIMES = """\
    n  winner         lead
   10  numpy.matmul   2.00
1,000  a.b           11.00
"""
PANELS = """\
    n  winner
   10  numpy.matmul
1,000  a.b
"""
TIMES = """\
            time
    n  of a call   lead
   10       1 µs   2.00
1,000             11.00
"""


@pytest.mark.parametrize(
    ("width", "text", "missing"),
    [
        (None, WHOLE, []),
        (37, WHOLE, []),
        (36, WITHOUT_TIMES, ["time of a call"]),
        (26, WITHOUT_TIMES, ["time of a call"]),
        (25, PANELS, ["time of a call", "lead"]),
        (19, PANELS, ["time of a call", "lead"]),
        (5, PANELS, ["time of a call", "lead"]),
    ],
)
def test_the_columns_that_fit_are_shown_by_rank_and_the_others_named(monkeypatch, width, text, missing):
    monkeypatch.setenv("COLUMNS", str(width or 10))
    file, kept = io.StringIO(), shared(COLUMNS, [ROWS], width)
    print_columns(console_for(file), COLUMNS, ROWS, kept, width)
    assert file.getvalue() == text
    assert left_out(COLUMNS, kept) == missing


def test_tables_that_are_printed_together_have_the_same_columns():
    other = [[Text(cell) for cell in ("10", "numpy.matmul", "1 µs", "a much longer lead")]]
    assert shared(COLUMNS, [ROWS, other], 35) == [0, 1]
    assert shared(COLUMNS, [ROWS, other], None) == [0, 1, 2, 3]


def test_columns_of_one_rank_stay_together():
    pair = [Column("a"), Column("bb", rank=1), Column("cccccc", rank=1), Column("d", rank=2)]
    assert fitting(pair, [], 12) == [0, 3]
    assert fitting(pair, [], 16) == [0, 1, 2, 3]


def test_what_may_not_be_left_out_stands_in_panels_that_begin_with_the_first_column(monkeypatch):
    monkeypatch.setenv("COLUMNS", "23")
    file = io.StringIO()
    print_panels(console_for(file), COLUMNS, ROWS)
    assert file.getvalue() == f"{PANELS}\n{TIMES}"


def test_markdown_has_every_column_and_no_bar_of_a_cell():
    assert markdown_table(COLUMNS[:3], [["1", "a|b", "2"]]) == (
        "| n | winner | time of a call |\n| --: | --- | --: |\n| 1 | a\\|b | 2 |"
    )


# Sentences.


def test_words_stay_whole_when_a_sentence_is_folded():
    assert folded("one-two three", 8) == "one-two\nthree"
    assert folded("  longer-than-that x", 19, "    ") == "  longer-than-that\n    x"
    assert folded("a\n\nb", 8) == "a\n\nb"


def test_a_sentence_is_folded_on_a_terminal_and_one_line_elsewhere():
    sentence = "word " * 20 + "end"
    assert shown_on(60, lambda: say(console_for(), sentence)) == [("word " * 12).strip(), "word " * 8 + "end"]
    file = io.StringIO()
    say(console_for(file), sentence)
    assert file.getvalue() == sentence + "\n"


@pytest.mark.parametrize(("columns", "width"), [("", 80), ("60", 60), ("0", 80), ("many", 80)])
def test_what_is_no_terminal_has_80_columns_or_as_many_as_asked_for(monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    assert console_for(io.StringIO()).width == width


# Colours.


def luminance(colour):
    """Relative luminance by WCAG 2."""
    parts = (part / 255 for part in Color.parse(colour).get_truecolor())
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(
    "style", [styles.WINNER, styles.WRONG_STYLE, styles.UNDECIDED, *styles.VERDICT_STYLES.values()]
)
def test_colours_can_be_read_on_light_and_on_dark(style):
    of = luminance(Style.parse(style).color.name)
    assert min(1.05 / (of + 0.05), (of + 0.05) / 0.05) >= 3.5


def test_colours_are_for_terminals_alone():
    assert "\x1b[" in raw(80, lambda: say(console_for(), "x", styles.WRONG_STYLE))
    file = io.StringIO()
    say(console_for(file), "x", styles.WRONG_STYLE)
    assert file.getvalue() == "x\n"


@pytest.mark.parametrize(
    ("sentence", "style"),
    [("TOO SLOW: a", styles.WRONG_STYLE), ("LIMIT UNDECIDED: a", styles.UNDECIDED), ("before: a", "")],
)
def test_sentences_that_must_not_be_missed_have_a_colour(sentence, style):
    assert styles.style_of_sentence(sentence) == style

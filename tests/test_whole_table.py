"""Tables on a terminal that is too narrow for them lose nothing."""

from io import StringIO

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from gradkernels.bench.report.whole_table import print_whole

WHOLE = """\
winners

  n   winner            time  x [loop]

 10   numpy.broadcast   1 us       3.5

"""
IN_PANELS = """\
winners

  n   winner

 10   numpy.broadcast


  n   time  x [loop]

 10   1 us       3.5

"""


def printed(width, terminal=True):
    table = Table(title="winners", box=box.SIMPLE_HEAD, padding=(0, 1), title_style="bold")
    for header, justify in (("n", "right"), ("winner", "left"), ("time", "right"), (r"x \[loop]", "right")):
        table.add_column(header, justify=justify)
    table.add_row("10", "numpy.broadcast", "1 us", "3.5")
    file = StringIO()
    print_whole(Console(file=file, width=width, force_terminal=terminal, color_system=None), table)
    return file.getvalue()


def plain(text):
    lines = [line.rstrip().replace("─", "") for line in text.splitlines()]
    return ["".join(line.split()) for line in lines]


@pytest.mark.parametrize(
    ("width", "terminal", "expected"), [(80, True, WHOLE), (30, True, IN_PANELS), (30, False, WHOLE)]
)
def test_columns_that_do_not_fit_stand_in_panels_that_begin_with_the_first(width, terminal, expected):
    assert plain(printed(width, terminal)) == plain(expected)


def test_no_panel_is_wider_than_the_terminal_and_no_cell_is_cut():
    lines = [line.rstrip() for line in printed(30).splitlines()]
    assert max(map(len, lines)) <= 30
    assert sum("10" in line for line in lines) == 2


def test_a_cell_wider_than_the_terminal_is_whole_all_the_same():
    assert "numpy.broadcast" in printed(12)

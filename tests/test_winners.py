"""Tables of winners: what a person reads where the measurements say little."""

from measured import record

from gradkernels.bench.report.ranking_plot import style_of
from gradkernels.bench.report.ranking_table import markdown
from gradkernels.bench.run.ranking import rankings


def test_bounds_that_say_nothing_are_written_short():
    times = {"numpy.broadcast+.norms": (1e-6, 1e-6), "torch.vmap+.norms": (2e-6, 9e-4)}
    rows = [
        record(kernel=kernel, pass_=number, seconds_median=seconds)
        for kernel, both in times.items()
        for number, seconds in enumerate(both, 1)
    ]
    assert ", over 100] torch.vmap+ (a tie)" in markdown(rankings(rows))


def test_sizes_of_one_table_stand_together_whatever_else_the_files_hold():
    rows = [record(features=d, n=n, seconds_median=1e-6 * n) for n in (10, 100) for d in (1, 10)]
    assert [(one.case.features, one.case.n) for one in rankings(rows)] == [(1, 10), (1, 100), (10, 10), (10, 100)]
    assert markdown(rankings(rows)).count("| n | winner") == 2


def test_tables_of_several_machines_say_which_is_which():
    rows = [record(machine=name, seconds_median=1e-6 * time) for time, name in enumerate(("desk", "rack"), 1)]
    titles = [text for text in markdown(rankings(rows)).splitlines() if text.startswith("**")]
    shared = "norms of linear, 1 feature, float64, 1 thread"
    assert titles == [f"**{shared}, on desk**", f"**{shared}, on rack**"]
    assert markdown(rankings(rows[:1])).splitlines()[0] == f"**{shared}**"


def test_no_two_of_two_dozen_lines_look_alike():
    styles = [style_of(index) for index in range(24)]
    assert len({tuple(style.values()) for style in styles}) == 24

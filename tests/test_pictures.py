"""Pictures: what they say is what the ranking says, and nothing in them is cut or lies over another thing."""

import sys
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from measured import STEADY, changed, passes, record, refused, scaled

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.bench.report.pictures.baseline import chosen_baseline
from gradkernels.bench.report.pictures.captions import short_problem, short_problems
from gradkernels.bench.report.pictures.content import PictureKind
from gradkernels.bench.report.pictures.draw import columns_for, draw, figure_of
from gradkernels.bench.report.pictures.finding import begun, listed
from gradkernels.bench.report.pictures.layout import folded_to_inches, pushed_apart, that_fit, width
from gradkernels.bench.report.pictures.measured import median_interval, timed_cases
from gradkernels.bench.report.pictures.run_content import content_of
from gradkernels.bench.report.pictures.units import (
    bytes_text,
    count_text,
    linear_ticks,
    log_ticks,
    seconds_text,
    share_text,
    times_text,
)
from gradkernels.bench.results.reader import read_results
from gradkernels.bench.results.table import tabulate
from gradkernels.record import HEADER, append

APART = [1.0, 1.3, 0.9, 1.2, 1.1, 0.8, 1.25, 0.95]  # so far apart that 10% are not found


def timed(kernel, n, seconds, times=STEADY, **columns):
    """Eight passes of a kernel."""
    return passes(scaled(times, seconds), kernel=kernel, n=n, **columns)


def content(rows, kind="time", **given):
    return content_of(tabulate(rows), PictureKind(kind), **given)


A, B, C = "numpy.a.norms", "numpy.b.norms", "torch.vmap.norms"


# What is found.


def test_the_title_is_who_wins_where():
    rows = [
        *(row for n in (10, 100) for row in timed(A, n, 1e-6) + timed(B, n, 2e-6)),
        *timed(A, 1000, 1e-5),
        *timed(B, 1000, 1.1e-5, APART),
        *timed(A, 10000, 1.1e-4, APART),
        *timed(B, 10000, 1e-4),
    ]
    assert content(rows).title == "numpy.a wins to n = 100, then undecided between it and numpy.b"
    assert content(rows[:32]).title == "numpy.a wins at both sizes"
    assert content(rows[:16]).title == "numpy.a is 2.00 [2.00, 2.00] times as fast as numpy.b at n = 10"


def test_a_tie_is_said_only_where_it_is_shown():
    tie = [*timed(A, 10, 1e-6), *timed(B, 10, 1.001e-6)]
    assert content(tie).title == "A tie of numpy.a and numpy.b at n = 10"
    later = [*timed(A, 1, 1e-6), *timed(B, 1, 2e-6), *tie]
    assert content(later).title == "numpy.a wins at n = 1, then a tie with numpy.b"
    other = [*timed(A, 1, 2e-6), *timed(B, 1, 1e-6), *timed(A, 10, 1e-6), *timed(B, 10, 2e-6)]
    assert content(other).title == "numpy.b wins at n = 1, then numpy.a wins"
    undecided = [*timed(A, 10, 1e-6), *timed(B, 10, 1.001e-6, APART)]
    assert content(undecided).title == "Undecided between numpy.a and numpy.b at n = 10"
    assert content(timed(A, 10, 1e-6)).title == "Only numpy.a was timed at n = 10"
    apart = [*timed(A, 10, 1e-6), *(changed(row, block=2) for row in timed(B, 10, 2e-6))]
    assert content(apart).title == "Nothing took turns with numpy.a at n = 10"
    assert content(refused("wrong")).title == "No kernel was proven and timed"


def test_many_turns_of_fortune_are_counted():
    rows = [row for n in (1, 2, 3, 4, 5) for row in timed(A, n, 1e-6 + n % 2 * 2e-6) + timed(B, n, 2e-6)]
    assert content(rows).title == "numpy.b wins at 3 of 5 sizes, numpy.a at 2"
    several = [*timed(A, 1, 1e-6), *timed(B, 1, 2e-6), *timed(A, 1, 2e-6, features=2), *timed(B, 1, 1e-6, features=2)]
    found = content(several)
    assert found.title == "numpy.a wins in 1 of 2 cases, numpy.b in 1"
    assert found.subtitle == "Time per call: norms, linear, float64, 1 thread"
    assert [(panel.name, panel.finding) for panel in found.panels] == [
        ("1 feature", "numpy.a is 2.00 [2.00, 2.00] times as fast as numpy.b at n = 1"),
        ("2 features", "numpy.b is 2.00 [2.00, 2.00] times as fast as numpy.a at n = 1"),
    ]


def test_names_are_listed_and_sentences_begun():
    assert [listed(list("ABCDE")[:count]) for count in (1, 2, 3, 5)] == [
        "A",
        "A and B",
        "A, B and C",
        "A, B and 3 others",
    ]
    assert begun("no kernel") == "No kernel"
    assert begun("numba.fused wins") == "numba.fused wins"


def test_speed_is_relative_to_the_baseline_within_passes():
    modes = [1.7, 1.0, 1.7, 1.0, 1.7, 1.0, 1.7, 1.0]
    rows = [*timed(A, 10, 1e-6, modes), *timed(B, 10, 4e-6, modes), *timed(C, 10, 2e-6, modes)]
    found = content(rows, "speed", baseline="numpy.b")
    assert [(one.name, one.marks[0].value) for one in found.panels[0].series] == [
        ("numpy.a", pytest.approx(4)),
        ("torch.vmap", pytest.approx(2)),
    ]
    assert found.title == "numpy.a is 4.00 times as fast as numpy.b"
    assert content(rows, "speed").baseline == "torch.vmap", "a usual one"
    slower = content(rows, "speed", baseline="numpy.a")
    assert slower.title == "No way is surely faster than numpy.a"


def test_break_even_is_where_first_calls_have_paid_off():
    """7 s + N 1 us = 1 s + N 3 us at N = 3 million: what `fastest --calls` weighs."""
    rows = [*timed(A, 10, 1e-6, seconds_first=7.0), *timed(C, 10, 3e-6, seconds_first=1.0)]
    found = content(rows, "break-even")
    (series,) = found.panels[0].series
    assert series.marks[0].value == pytest.approx(3e6, rel=1e-6)
    assert found.title == "numpy.a has overtaken torch.vmap after 3,000,000 calls"
    with pytest.raises(ValueError, match=r"no kernel is faster per call than numpy\.a"):
        content(rows, "break-even", baseline="numpy.a")
    cheap = [*timed(A, 10, 1e-6, seconds_first=1.0), *timed(C, 10, 3e-6, seconds_first=7.0)]
    assert content(cheap, "break-even").title == "numpy.a is ahead of torch.vmap from the first call on"


def test_memory_and_the_share_of_the_limit():
    rows = [*timed(A, 10, 4e-6, peak_bytes=5000, limit_seconds=1e-6), *timed(B, 10, 5e-6, peak_bytes=4096)]
    assert content(rows, "memory").title == "numpy.b takes least: 4.1 kB at n = 10"
    assert content(rows, "limit").title == "numpy.a comes nearest: 25% of the limit at n = 10"
    (panel,) = content(rows).panels
    assert [(mark.n, mark.value) for mark in panel.limit] == [(10, 1e-6)]
    kept = [*timed(A, 10**5, 1e-6, peak_bytes=4096), *timed(B, 10**5, 1e-6, peak_bytes=8 * 10**5)]
    (panel,) = content(kept, "memory").panels
    assert [one.name for one in panel.series] == ["numpy.b"], "norms of 100,000 samples are 800 kB"
    nothing = timed(A, 10, 1e-6, peak_bytes=0)
    with pytest.raises(ValueError, match="no row has a peak_bytes above 0"):
        content(nothing, "memory")
    with pytest.raises(ValueError, match="no row has a limit_seconds"):
        content(nothing, "limit")


def test_first_calls_are_weighed_as_in_the_table():
    rows = [*timed(A, 10, 1e-6, seconds_first=1.0), *timed(B, 10, 2e-6, seconds_first=1e-3)]
    assert content(rows).title.startswith("numpy.a is 2.00")
    weighed = content(rows, calls=10)
    assert weighed.title.startswith("numpy.b is ")
    assert weighed.subtitle.endswith("; of 10 calls, its share of building and the first included")
    with pytest.raises(ValueError, match="10 calls mean nothing for break-even"):
        content(rows, "break-even", calls=10)


def test_a_baseline_is_a_single_way_that_was_timed():
    cases = timed_cases(
        tabulate([*timed(A, 10, 1e-6), *timed(B, 10, 1e-6), *timed("numpy.broadcast+.norms", 10, 1e-6)])
    )
    assert chosen_baseline(None, cases) == "numpy.broadcast"
    assert chosen_baseline("numpy.a", cases) == "numpy.a"
    with pytest.raises(
        ValueError, match=r"--baseline numpy means 3 ways: numpy\.a, numpy\.b, numpy\.broadcast; name one"
    ):
        chosen_baseline("numpy", cases)
    with pytest.raises(ValueError, match=r"there is no kernel 'numpy\.c'; did you mean"):
        chosen_baseline("numpy.c", cases)
    with pytest.raises(
        ValueError, match=r"a baseline \(numpy\.a\) means nothing for time; it is for speed and break-even"
    ):
        content(timed(A, 10, 1e-6), baseline="numpy.a")


def test_intervals_are_those_of_the_median():
    """By the binomial distribution: 1 - 2 / 64 of six values, 1 - 2 (1 + 9) / 512 of nine without the ends."""
    assert median_interval(np.array([3.0])) is None
    assert median_interval(np.array([3.0, 1, 2])) == (1, 3)
    assert median_interval(np.arange(6.0)) == (0, 5)
    assert median_interval(np.arange(9.0)) == (1, 7)
    assert median_interval(np.arange(1000.0)) == (468, 531)


def test_bands_say_what_they_are():
    eight = content(timed(A, 10, 1e-6) + timed(A, 100, 1e-6))
    assert "Bands: 95% interval of the median over 8 passes." in eight.notes[0]
    two = content(passes([1e-6, 2e-6], kernel=A))
    assert (
        "Whiskers: 95% interval of the median over passes, of fewer than 6 their range; here 2 passes." in two.notes[0]
    )
    assert "A single pass: no interval is known." in content([record(seconds_median=1.0)]).notes[0]
    assert (
        "Without a time: numpy.b (timeout)."
        in content([*timed(A, 10, 1e-6), *refused("timeout", n=10, kernel=B)]).notes[0]
    )


def test_of_many_lines_the_best_lead():
    rows = [
        row for place in range(22) for n in (10, 100) for row in timed(f"numpy.k{place}.norms", n, 1e-6 * (place + 1))
    ]
    series = content(rows).panels[0].series
    assert [one.name for one in series if one.leads] == [f"numpy.k{place}" for place in range(8)]
    assert len(series) == 22
    assert all(one.leads for one in content(rows[: 12 * 16]).panels[0].series)


def test_problems_have_short_names():
    assert short_problem("module:MLP:1c6b7852") == "MLP"
    assert short_problem("module:Sequential:1c6b7852/mlp") == "mlp (Sequential)"
    assert short_problem("function:sums") == "sums"
    assert short_problem("huber(delta=2)") == "huber(delta=2)"
    both = ["module:Sequential:1c6b7852", "module:Sequential:59b53e7e"]
    assert list(short_problems(both).values()) == ["Sequential:1c6b7852", "Sequential:59b53e7e"]
    functions = timed("function.f.value", 10, 1e-6, problem="function:sums", quantity="value")
    assert content(functions).subtitle == "Time per call: sums, 1 thread"


# Units and places.


def test_values_have_their_units():
    assert [seconds_text(value) for value in (1e-9, 1.234e-5, 0.001, 999.7e-6, 2, 1000)] == [
        *("1 ns", "12.3 µs", "1 ms", "1,000 µs", "2 s", "1,000 s")
    ]
    assert [bytes_text(value) for value in (4096, 1e6, 12)] == ["4.1 kB", "1 MB", "12 B"]
    assert (times_text(2.5), share_text(0.614), share_text(0.0015), count_text(1e6)) == (
        "2.5×",
        "61.4%",
        "0.15%",
        "1,000,000",
    )
    assert share_text(1e-6) == "0.0001%"


def test_ticks_are_round_numbers_within_the_axis():
    assert log_ticks(0.9e-6, 1.1e-3) == pytest.approx((1e-6, 1e-5, 1e-4, 1e-3))
    assert log_ticks(1.0, 10.0) == pytest.approx((1, 2, 5, 10))
    assert len(log_ticks(1e-9, 1e9)) <= 8
    assert linear_ticks(9.0) == pytest.approx((0, 2, 4, 6, 8))


def test_labels_are_pushed_apart_by_as_little_as_can_be():
    assert pushed_apart([1.0, 5.0], 1, 0, 10) == [1, 5]
    assert pushed_apart([5.0, 5.0, 5.0], 1, 0, 10) == [4, 5, 6]
    assert pushed_apart([5.2, 5.0], 1, 0, 10) == pytest.approx([5.6, 4.6])
    assert pushed_apart([9.9, 9.8, 1.0], 1, 0, 10) == pytest.approx([10, 9, 1])
    assert pushed_apart([0.0] * 11, 5, 0, 10) == pytest.approx(list(range(11)))


def test_text_is_folded_between_words_and_never_lost():
    text = "numba.fused wins to n = 10,000, then " + "x" * 60
    lines = folded_to_inches(text, 8, 1.5)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert max(width(line, 8) for line in lines) <= 1.5
    assert folded_to_inches("", 8, 1) == []
    assert folded_to_inches("as fast at n = 1,000", 8, width("as fast at n =", 8)) == ["as fast at", "n = 1,000"]
    assert that_fit([0.0, 0.1, 1.0], ["1,000"] * 3) == ["", "1,000", "1,000"]


# What is drawn.


def run_of(ways, sizes, quantities):
    """A run in which each way is as slow as its place; the last one of many sizes stops halfway."""
    return [
        record(kernel=f"lib{way % 3}.way_{way}.{quantity}", quantity=quantity, n=10**size, pass_=pass_,
               seconds_median=1e-6 * (1 + way) * 3**size * (1 + 0.05 * pass_), limit_seconds=1e-7 * 3**size)
        for quantity in ("norms", "gradient", "per_sample", "moments", "clipped_sum")[:quantities]
        for way in range(ways)
        for size in range(1, 1 + (sizes if way < ways - 1 else (sizes + 1) // 2))
        for pass_ in (1, 2, 3)
    ]  # fmt: skip


def boxes_of(figure):
    """The boxes of every text that is seen, and those of the axes."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    ticks = [text for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in axis.get_ticklabels()]
    ticks += [axes.xaxis.label for axes in figure.axes]
    texts = [text for text in (*figure.texts, *ticks) if text.get_text()]
    return {text: text.get_window_extent(renderer) for text in texts}, [axes.bbox for axes in figure.axes]


def overlap(one, other):
    """Whether two boxes have more than a pixel in common, both ways."""
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    up = min(one.y1, other.y1) - max(one.y0, other.y0)
    return across > 1 and up > 1.5


@pytest.mark.parametrize(
    ("ways", "sizes", "quantities", "kind"),
    [(3, 1, 2, "time"), (22, 1, 1, "speed"), (3, 2, 1, "limit"), (22, 7, 2, "time"), (4, 7, 5, "speed")],
)
def test_nothing_is_cut_and_nothing_lies_over_another_thing(ways, sizes, quantities, kind):
    given = {"baseline": "lib1.way_1"} if kind == "speed" else {}
    figure = figure_of(content(run_of(ways, sizes, quantities), kind, **given))
    texts, axes = boxes_of(figure)
    page = figure.bbox
    assert len(axes) == quantities
    assert len(texts) > ways * quantities
    for text, box in texts.items():
        inside = page.x0 <= box.x0 and page.y0 <= box.y0 and box.x1 <= page.x1 and box.y1 <= page.y1
        assert inside, text.get_text()
        assert not any(overlap(box, place) for place in axes), text.get_text()
    for (one, first), (other, second) in combinations(texts.items(), 2):
        assert not overlap(first, second), (one.get_text(), other.get_text())


def test_long_and_strange_names_are_whole_and_no_formulas():
    name = "function.$x_1^2$_<script>_" + "long_" * 8 + "日本"
    rows = [*timed(name, 10, 1e-6), *timed(B, 10, 2e-6)]
    figure = figure_of(content(rows))
    texts, _ = boxes_of(figure) if not figure.texts else (dict.fromkeys(figure.texts), None)
    assert name in [text.get_text() for text in texts]
    assert draw(content(rows), ".svg").startswith(b"<?xml")


def test_a_line_has_a_gap_where_there_is_no_value():
    rows = [row for n in (1, 10, 100, 1000) for row in timed(B, n, 1e-6) + (timed(A, n, 2e-6) if n != 100 else [])]
    (axes,) = figure_of(content(rows)).axes
    assert sorted(len(line.get_xdata()) for line in axes.get_lines()) == [1, 2, 4]


def test_the_picture_of_the_readme_says_what_it_finds():
    root = Path(__file__).parents[1]
    title = content_of(read_results([root / "results" / "reference.csv"])).title
    assert f"![{title}](docs/pictures/time.png)" in (root / "README.md").read_text()


def test_a_persons_own_style_moves_nothing():
    rows = [*timed(A, 10, 1e-6), *timed(B, 10, 2e-6)]
    usual = draw(content(rows), ".png")
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "savefig.bbox": "tight", "text.usetex": True}):
        assert draw(content(rows), ".png") == usual
        assert matplotlib.rcParams["font.size"] == 30


def test_a_picture_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "gradkernels.bench.report.pictures.draw")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"plot\(\) needs matplotlib: pip install 'gradkernels\[bench\]'"):
        gk.Results(tuple(timed(A, 10, 1e-6))).plot()


# The command.


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text(HEADER)
    append(tmp_path / "x.csv", run_of(3, 2, 2))
    return tmp_path


@pytest.mark.parametrize(("name", "begins"), [("x.png", b"\x89PNG"), ("new/x.svg", b"<?xml"), ("x.pdf", b"%PDF")])
def test_plot_writes_what_the_name_says(results, capsys, name, begins):
    assert main(["plot", "x.csv", "-o", name]) == 0
    assert capsys.readouterr().out == f"written: {name}\n"
    assert (results / name).read_bytes().startswith(begins)


def test_a_baseline_is_drawn_beside_the_kernels_that_are_chosen(results):
    assert main(["plot", "x.csv", "-o", "x.svg", "--kind", "speed", "--kernel", "lib2"]) == 0
    assert main(["plot", "x.csv", "-o", "y.svg", "--kind", "speed", "--kernel", "lib2", "--baseline", "lib1"]) == 0


def test_very_many_panels_stand_in_more_columns():
    assert [columns_for(panels) for panels in (0, 1, 2, 5, 8, 12, 18, 32)] == [0, 1, 2, 2, 2, 3, 3, 4]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x.csv"], "Missing option '--out'"),
        (["x.csv", "-o", "x"], "--out x: pictures end in .png, .svg, .pdf (also "),
        (["x.csv", "-o", "mine.png"], "--out mine.png is there already; replace it with --force"),
        (["x.csv", "-o", "mine.png/x.png"], "--out mine.png/x.png: cannot write to "),
        (["missing.csv", "-o", "x.png"], "missing.csv: No such file"),
        ([".", "-o", "x.png"], ".: Is a directory"),
        (["mine.png", "-o", "x.png"], "mine.png"),
        (["x.csv", "-o", "x.png", "--kind", "colour"], "there is no kind 'colour'; known: time, speed, "),
        (["x.csv", "-o", "x.png", "--kind", "memory"], "no row has a peak_bytes above 0"),
        (["x.csv", "-o", "x.png", "--kind", "estimate"], "x.csv: has no column data"),
        (["x.csv", "-o", "x.png", "--kind", "speed", "--baseline", "torch"], "there is no kernel 'torch'"),
        (["x.csv", "-o", "x.png", "--baseline", "lib1.way_1"], "means nothing for time"),
        (["x.csv", "-o", "x.png", "--quantity", "moments"], "x.csv has no proven time of moments to draw"),
        (["x.csv", "-o", "x.png", "--quantity", "moment"], "there is no quantity 'moment'; did you mean moments?"),
        (["x.csv", "-o", "x.png", "--quantity", "norms,all"], "--quantity norms,all: all stands for every quantity; "),
        (["e.csv", "e.csv", "-o", "x.png"], "e.csv is given twice"),
        (["x.csv", "e.csv", "-o", "x.png"], "e.csv is of an estimate and x.csv of a run; draw them apart"),
        (["e.csv", "-o", "x.png", "--calls", "3"], "--calls is for the results of a run"),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_is_written(results, capsys, words, says):
    (results / "mine.png").write_text("mine")
    (results / "e.csv").write_text(ESTIMATE)
    assert main(["plot", *words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("gradkernels: ")
    assert says in told
    assert sorted(path.name for path in results.iterdir()) == ["e.csv", "mine.png", "x.csv"]
    assert (results / "mine.png").read_text() == "mine"


ESTIMATE = """\
data,problem,point,theta,n,features,draws,replace,seed,kernel,loss,gradient,ways_difference,ways_allowed,trace,\
noise_scale,batch_size,bias,bias_error,standard_error,standard_error_low,standard_error_high,theory,cosine,\
cosine_low,cosine_high
d,linear,one,0.1 0.2,4,1,50,False,0,k,1.0,3.0 4.0,0,0,8.0,0.32,1,0,0.1,2.8,2.7,2.9,2.828,0.8,0.7,0.9
d,linear,one,0.1 0.2,4,1,50,False,0,k,1.0,3.0 4.0,0,0,8.0,0.32,4,0,0,0,0,0,0,1,1,1
d,linear,two,0.1 0.2,4,1,50,False,0,k,1.0,0.0 0.0,0,0,8.0,inf,1,0,0.1,2.5,2.4,2.6,2.828,nan,nan,nan
"""


def test_an_estimate_is_drawn_from_its_file(results):
    from gradkernels.bench.report.estimate_file import read_estimates
    from gradkernels.bench.report.pictures.estimate import estimate_figure

    (results / "e.csv").write_text(ESTIMATE)
    assert main(["plot", "e.csv", "-o", "e.svg"]) == 0
    one, two = read_estimates([results / "e.csv"])
    assert (one.gradient_length, one.theory(1), two.noise_scale) == (5, pytest.approx(8**0.5), np.inf)
    figure = estimate_figure([one, two])
    texts, _ = boxes_of(figure)
    assert "Theory lies in the interval of the measured standard error at 2 of 3 batch sizes" in {
        text.get_text() for text in texts
    }
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in texts.values())
    (results / "e.csv").write_text(ESTIMATE + "d,linear\n")
    with pytest.raises(ValueError, match=r"e\.csv, line 5: "):
        read_estimates([results / "e.csv"])

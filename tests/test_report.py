"""The report as data and as a file: what is shown of which file, where winners change, and that texts stay texts."""

import json
import re
import sys
from html.parser import HTMLParser

import pytest
from measured import STEADY, changed, passes, refused, scaled
from report_rows import EVIL, EVIL_REASON, LATER, TIMES, first_file, second_file

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.bench.report.page.calls import pays_after, winners_in_words
from gradkernels.bench.report.page.contents import page_contents
from gradkernels.bench.report.page.html import page
from gradkernels.bench.report.page.sources import newest, sources_of
from gradkernels.record import HEADER, append

LOOP, BROADCAST = "numpy.loop.norms", "numpy.broadcast+.norms"


@pytest.fixture(scope="module")
def one():
    return page_contents(sources_of([("a.csv", first_file())]))


@pytest.fixture(scope="module")
def two():
    return page_contents(sources_of([("b.csv", second_file()), ("a.csv", first_file())]))


@pytest.fixture(scope="module")
def text():
    return page(sources_of([("a.csv", first_file()), ("b.csv", second_file())]))


def norms(contents):
    """The row of winners of the norms, and what the script draws of them."""
    (row,) = (row for block in contents.blocks for row in block.rows if row.quantity == "norms")
    return row, contents.script.value["families"][row.family]


def points(contents, kernel):
    """The points of a kernel of the norms, each by the names of its values."""
    value = contents.script.value
    number = [key for key, *_ in value["kernels"]].index(kernel)
    (found,) = (rows for place, rows in norms(contents)[1]["lines"] if place == number)
    return [dict(zip(value["point"], row, strict=True)) for row in found]


# What is shown.


def test_each_case_has_its_winner_time_and_lead(one):
    row, family = norms(one)
    assert [(cell.n, cell.way, cell.time) for cell in row.cells] == [
        (10, "numpy.loop", "10.00 µs"),
        (100, "numpy.broadcast+", "40.00 µs"),
        (1000, "numpy.broadcast+", "200.0 µs"),
    ]
    assert [cell.lead.split()[0] for cell in row.cells] == ["2.00", "2.00", "1.50"]
    assert [cell.runner_up for cell in row.cells] == ["numpy.broadcast+", "torch.vmap+", "torch.vmap+"]
    assert family["finding"] == "numpy.loop wins at n = 10, then numpy.broadcast+ wins"
    assert row.cells[0].limit == "10%"


def test_wins_are_counted_and_only_sure_ones_called_so(one):
    assert [(win.way, win.first, win.surely) for win in one.wins] == [("numpy.loop", 4, 1), ("numpy.broadcast", 2, 2)]
    assert one.cases == 6


def test_points_hold_what_was_measured(one):
    ten, hundred, _ = points(one, BROADCAST)
    assert ten["seconds"] == pytest.approx(2e-5, rel=1e-3)
    assert (ten["low"], ten["high"]) == (pytest.approx(0.996 * 2e-5), pytest.approx(1.004 * 2e-5))
    assert [ten[name] for name in ("place", "passes", "in_turns", "first", "peak")] == [2, 8, True, 0.5, 1_000_000]
    assert ten["ratio"] == pytest.approx(2.0)
    assert ten["proof"] == pytest.approx(0.1)
    assert (hundred["place"], hundred["ratio"]) == (1, None)
    assert hundred["of_limit"] == pytest.approx(1 / 40, rel=1e-2)


def test_a_change_of_winner_is_where_the_curves_meet_on_logarithmic_axes(one):
    ((n, seconds, says),) = norms(one)[1]["crossings"]
    # From 1:2 to 5:2, each straight: log 2 of log 5 of the way, of a decade.
    assert n == pytest.approx(10 * 10 ** (0.30103 / (0.30103 + 0.39794)), rel=1e-3)
    assert 1e-5 < seconds < 4e-5
    assert says == "numpy.broadcast+ overtakes numpy.loop near n = 30 (between 10 and 100)"


def test_a_change_of_winner_that_is_not_sure_is_none():
    close = [row for n, seconds in ((10, 1.001e-5), (100, 1e-5)) for row in passes(scaled(STEADY[::-1], seconds), n=n)]
    others = [
        row
        for n, seconds in ((10, 1e-5), (100, 1.001e-5))
        for row in passes(scaled(STEADY, seconds), kernel=BROADCAST, n=n)
    ]
    contents = page_contents(sources_of([("a.csv", close + others)]))
    assert contents.script.value["families"][0]["crossings"] == []


def test_the_winner_by_number_of_calls_weighs_the_first(one):
    row, _ = norms(one)
    assert row.cells[0].calls == "numpy.loop, however often it is called"
    # 0.499 s more at first, 0.04 ms less in each call beside vmap: from 12,475 calls.
    assert row.cells[1].calls == "torch.vmap+, from 100,000 calls numpy.broadcast+"


@pytest.mark.parametrize(
    ("winner", "other", "calls"),
    [
        ((0.5, 1e-4), (0.1, 3e-4), 2000),
        ((0.5, 1e-4), (0.1, 1e-4), None),
        ((0.1, 1e-4), (0.5, 3e-4), 1),
        ((0.5, 1.0), (0.4, 1.3), 1),
    ],
)
def test_a_first_call_is_paid_from_the_call_on_that_makes_the_sum_smaller(winner, other, calls):
    found = pays_after(winner, other)
    assert found == pytest.approx(calls, abs=1) if calls else found is None
    if found and found > 1:
        totals = [[first + count * each for first, each in (winner, other)] for count in (found - 1, found)]
        assert totals[0][0] >= totals[0][1] - 1e-9
        assert totals[1][0] < totals[1][1] + 1e-9


def test_numbers_of_calls_in_words():
    assert (
        winners_in_words(((1, "a.b"), (100, "c.d"), (None, "e.f")))
        == "a.b, from 100 calls c.d, from many more calls e.f"
    )


def test_proofs_and_refusals(one):
    (block,) = (block for block in one.blocks if any(row.quantity == "norms" for row in block.rows))
    cells = {row.way: row.cells for row in block.proofs}
    assert cells["numpy.broadcast"] == ("10% at n = 10",)
    assert cells["jax.vmap"] == ("unsupported",)
    (refusal,) = block.refusals
    assert "jax.vmap+.norms at n = 10, 100, 1,000" in refusal
    assert EVIL_REASON in refusal


def test_filters_name_the_usual_coordinates_and_others_only_where_they_vary(one):
    assert dict(one.filters) == {
        "problem": ("linear",),
        "quantity": ("gradient", "norms"),
        "dtype": ("float32", "float64"),
        "threads": ("1",),
    }
    wide = page_contents(sources_of([("a.csv", first_file() + passes(STEADY, features=2))]))
    assert dict(wide.filters)["features"] == ("1", "2")


# Several files.


def test_sources_are_by_file_and_commit_in_order_of_time():
    rows = [*second_file(), *(changed(row, run="run-c") for row in first_file())]
    labels = [(source.label, source.started[:10]) for source in sources_of([("x.csv", rows), ("a.csv", first_file())])]
    assert labels == [
        ("x.csv at 0123456789ab", "2026-03-01"),
        ("a.csv", "2026-03-01"),
        ("x.csv at fedcba987654", "2026-03-02"),
    ]


def test_a_run_that_was_resumed_at_another_commit_is_one_source():
    half = [changed(row, commit="fedcba987654") if row.pass_ > 4 else row for row in first_file()]
    assert [source.label for source in sources_of([("a.csv", half)])] == ["a.csv"]


def test_a_case_is_shown_from_its_newest_measurement():
    shown = newest(sources_of([("b.csv", second_file()), ("a.csv", first_file())]))
    assert {row.run for row in shown} == {"run-b"}
    assert {row.kernel for row in shown} == {*TIMES, "jax.vmap+.norms", "numpy.loop+.gradient"}


def test_a_later_measurement_of_one_kernel_of_many_hides_no_ranking():
    alone = [changed(row, **LATER) for row in first_file() if row.kernel == LOOP]
    contents = page_contents(sources_of([("a.csv", first_file()), ("b.csv", alone)]))
    assert len(points(contents, BROADCAST)) == 3
    assert len(contents.steps) == 1


def test_a_sure_change_is_a_step_of_the_history_and_others_are_not(two):
    value = two.script.value
    (step,) = value["steps"]
    assert [two.sources[step[side]].label for side in ("before", "after")] == ["a.csv", "b.csv"]
    sure = [row for row in step["rows"] if row[-1]]
    ((_, n, kernel, _, _, ratio, low, high, verdict, _),) = sure
    assert (value["kernels"][kernel][0], n, verdict) == (BROADCAST, 100, "slower")
    assert low <= ratio <= high
    assert ratio == pytest.approx(1.1, rel=1e-3)
    assert two.steps[0].counts == {"slower": 1, "faster": 0, "same": 14, "undecided": 0}
    assert any("1 slower, 0 faster, 14 same, 0 undecided" in sentence for sentence in two.steps[0].sentences)


@pytest.mark.parametrize(("factor", "sure"), [(1.015, False), (1.1, True)])
def test_a_slower_row_is_a_sure_change_only_if_that_holds_among_all_rows(factor, sure):
    others = [row for i in range(9) for row in passes(STEADY, kernel=f"numpy.k{i}.norms")]
    before, after = others + passes(STEADY), others + passes(scaled(STEADY, factor))
    files = [("a.csv", before), ("b.csv", [changed(row, **LATER) for row in after])]
    (step,) = page_contents(sources_of(files)).script.value["steps"]
    assert [row[-2:] for row in step["rows"] if row[-2] != "same"] == [("slower", sure)]


def test_the_history_has_the_median_of_each_source(two):
    value = two.script.value
    number = [key for key, *_ in value["kernels"]].index(BROADCAST)
    (line,) = (times for _, n, kernel, times in value["series"] if (n, kernel) == (100, number))
    assert [(source, passes) for source, _, passes in line] == [(0, 8), (1, 8)]
    assert [seconds for _, seconds, _ in line] == pytest.approx([4e-5, 4.4e-5])


def test_one_measurement_has_no_history(one):
    assert one.steps == ()
    assert one.script.value["series"] == []


def test_of_three_the_first_and_the_last_are_compared_too():
    third = {"run": "run-c", "started": "2026-03-03T12:00:00+00:00", "commit": "333333333333"}
    files = [
        ("a.csv", first_file()),
        ("b.csv", second_file()),
        ("c.csv", [changed(row, **third) for row in first_file()]),
    ]
    steps = page_contents(sources_of(files)).steps
    told = [(step.before, step.after, step.overall) for step in steps]
    assert told == [(0, 1, False), (1, 2, False), (0, 2, True)]
    assert steps[2].counts["same"] == 15


def test_files_without_a_case_in_common_have_no_steps():
    other = [changed(row, **LATER, problem="logistic") for row in first_file()]
    contents = page_contents(sources_of([("a.csv", first_file()), ("b.csv", other)]))
    assert contents.steps == ()
    assert [block.title.split(",")[0] for block in contents.blocks] == ["linear", "linear", "logistic", "logistic"]


def test_a_file_that_cannot_be_compared_is_shown_all_the_same():
    twice = [changed(row, block=2) for row in second_file() if row.kernel == LOOP and row.pass_ == 1]
    contents = page_contents(sources_of([("a.csv", first_file()), ("b.csv", second_file() + twice)]))
    assert contents.steps[0].rows == ()
    assert "twice for run run-b, pass 1" in contents.steps[0].sentences[0]


def test_nothing_proven_is_refused():
    with pytest.raises(ValueError, match=r"^a\.csv has no proven time; measure with `gradkernels run`$"):
        page_contents(sources_of([("a.csv", refused("unsupported"))]))


# The page as a file.


class Reader(HTMLParser):
    """What a browser would make of the page: its tags, its texts, its scripts, and what it would fetch."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.scripts, self.fetched, self.inside = [], [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = tag
        if tag == "script":
            self.scripts.append("")
        self.fetched += [
            value for name, value in attributes if name in ("src", "srcset") or (tag, name) == ("link", "href")
        ]

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.texts.append(data)

    def handle_endtag(self, tag):
        self.inside = ""


def test_texts_of_a_file_are_texts_of_the_page(text):
    found = Reader(text)
    assert found.tags.count("script") == 7  # the data, plotly, and five of the page's own
    assert "img" not in found.tags
    assert sum(EVIL in shown for shown in found.texts) >= 1
    assert any(EVIL_REASON in shown for shown in found.texts)
    data = json.loads(found.scripts[0])
    assert EVIL in [key for key, *_ in data["kernels"]]
    assert "<" not in found.scripts[0]


def test_the_page_needs_nothing_beside_itself_and_is_small(text):
    assert Reader(text).fetched == ["data:,"]
    assert len(text.encode()) < 6e6
    assert not re.search(r"@import|url\(", text[text.index("<style>") : text.index("</style>")])


def test_the_command_writes_the_page_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, rows in (("a.csv", first_file()), ("b.csv", second_file())):
        (tmp_path / name).write_text(HEADER)
        append(tmp_path / name, rows)
    assert main(["report", "a.csv", "b.csv"]) == 0
    assert re.fullmatch(r"report\.html: 384 rows, 2 files, 4\.\d MB; open it in a browser\n", capsys.readouterr().out)
    assert main(["report", "a.csv", "-o", "sub/x.htm"]) == 0
    assert (tmp_path / "sub" / "x.htm").read_text().startswith("<!DOCTYPE html>")
    before = (tmp_path / "report.html").stat().st_mtime_ns
    assert main(["report", "a.csv"]) == 2
    assert (tmp_path / "report.html").stat().st_mtime_ns == before
    assert "report.html is there already; replace it with --force or name another file" in capsys.readouterr().err
    assert main(["report", "a.csv", "--force"]) == 0
    assert "b.csv" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.csv", "-o", "a.csv"], "--out a.csv: a page ends in .html or .htm"),
        (["a.html", "-o", "a.html", "--force"], "--out a.html is one of the results files; name another"),
        (["a.csv", "-o", "folder.html"], "--out folder.html is a folder; name a file in it"),
        (["a.csv", "a.csv"], "a.csv is given twice; name it once"),
        (["a.csv", "./sub/../a.csv"], "both hold kernel "),
        (["none.csv"], "none.csv: No such file or directory"),
        (["refused.csv"], "refused.csv has no proven time; measure with `gradkernels run`"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_is_written(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "sub").mkdir()
    for name, rows in (("a.csv", passes(STEADY)), ("a.html", passes(STEADY)), ("refused.csv", refused("timeout"))):
        (tmp_path / name).write_text(HEADER)
        append(tmp_path / name, rows)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(["report", *arguments]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert says in sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("library", ["plotly", "jinja2"])
def test_a_missing_library_is_a_sentence(tmp_path, monkeypatch, capsys, library):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / "a.csv").write_text(HEADER)
    append(tmp_path / "a.csv", passes(STEADY))
    assert main(["report", "a.csv"]) == 2
    assert capsys.readouterr().err == f"gradkernels: a report needs {library}: pip install 'gradkernels[bench]'\n"


def test_results_report_themselves(tmp_path):
    results = gk.Results(tuple(first_file()))
    results.report(tmp_path / "x.html")
    assert "numpy.<wbr>broadcast+" in (tmp_path / "x.html").read_text()
    with pytest.raises(FileExistsError, match="is there already; replace it with force=True"):
        results.report(tmp_path / "x.html")
    results.report(str(tmp_path / "x.html"), force=True)

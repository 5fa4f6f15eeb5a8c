"""The table of measurements by itself: what it says of sizes, the text it is written as, and where it is kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from measured import record

from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.wisdom import MeasuredPoint, WisdomEntry
from gradkernels.record import HEADER, append

CASE = Coordinates("linear", "norms", ALL_SIZES, 1, "float64", "C", "cpu", 2)


@pytest.fixture
def saved(monkeypatch):
    """A function that says where the choice of this machine is kept."""

    def at(path):
        monkeypatch.setenv(wisdom.ENVIRONMENT, str(path))
        wisdom.saved.cache_clear()

    yield at
    wisdom.saved.cache_clear()


def test_peak_memory_is_proportional_to_n_from_the_nearest_larger_size():
    points = (
        MeasuredPoint(10, 1.0, 0.0, 200),
        MeasuredPoint(1000, 1.0, 0.0, 16_000),
        MeasuredPoint(2000, 1.0, 0.0, None),
    )
    sizes = {5: 100, 10: 200, 50: 800, 500: 8000, 1000: 16_000, 2000: 32_000}
    assert {n: wisdom.bytes_at(points, n) for n in sizes} == sizes
    assert wisdom.bytes_at((MeasuredPoint(10, 1.0, 0.0, 0),), 20) == 0
    assert wisdom.bytes_at((MeasuredPoint(10, 1.0, 0.0, None),), 10) is None


def test_passes_are_pooled_by_the_median_of_times_and_the_largest_peak():
    rows = [
        record(n=10, seconds_median=1.23456e-6, seconds_first=3.0, peak_bytes=100),
        record(n=10, seconds_median=9.0, peak_bytes=300),
        record(n=10, seconds_median=1e-9, seconds_first=5.0, started="2026-03-02T12:00:00+00:00"),
        record(n=20, seconds_median=1.0),
    ]
    points = (MeasuredPoint(10, 1.235e-6, 3.0, 300), MeasuredPoint(20, 1.0, 0.0, None))
    case = Coordinates("linear", "norms", ALL_SIZES, 1, "float64", "C", "cpu", 1)
    assert wisdom.learn(rows) == (WisdomEntry("desk", case, "2026-03-02T12:00:00+00:00", {"numpy.loop.norms": points}),)


TEXT = """\
{"schema": 1, "entries": [
{"machine": "desk", "problem": "linear", "quantity": "norms", "dtype": "float64", "device": "cpu", "threads": 2, \
"layout": "C", "features": 1, "started": "2026-03-01", "curves": {
  "a.b.norms": [[1, 1e-06, 0.5, 160], [10, 2.0, 0.0, null]],
  "convert.a": [[1, 1.0, 0.0, null]]}},
{"machine": "desk", "problem": "linear", "quantity": "norms", "dtype": "float64", "device": "cpu", "threads": 1, \
"layout": "C", "features": 1, "started": "", "curves": {
  }}
]}
"""


def test_a_table_is_written_with_one_line_for_each_curve_and_read_again():
    curves = {
        "a.b.norms": (MeasuredPoint(1, 1e-6, 0.5, 160), MeasuredPoint(10, 2.0, 0.0, None)),
        "convert.a": (MeasuredPoint(1, 1.0, 0.0, None),),
    }
    one_thread = Coordinates("linear", "norms", ALL_SIZES, 1, "float64", "C", "cpu", 1)
    table = (WisdomEntry("desk", CASE, "2026-03-01", curves), WisdomEntry("desk", one_thread, "", {}))
    assert wisdom.dumps(table) == TEXT
    assert wisdom.loads(TEXT, "here.json") == table


def entry(point="[1, 1.0, 0.0, null]", threads=1, features=1):
    facts = '"machine": "m", "problem": "linear", "quantity": "norms", "dtype": "float64", "device": "cpu"'
    rest = f'"threads": {threads}, "layout": "C", "features": {features}, "started": ""'
    return f'{{"schema": 1, "entries": [{{{facts}, {rest}, "curves": {{"numpy.loop.norms": [{point}]}}}}]}}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ".+"),
        ("[]", ".+"),
        (b"\xff\xfe\x00", ".+"),
        ('{"schema": 99, "entries": []}', "schema 99, not 1"),
        ('{"schema": 1, "entries": [{"n": 1}]}', "'curves'"),
        ('{"schema": 1, "entries": [{"curves": []}]}', ".+"),
        (entry(threads=0), "threads and features must be at least 1"),
        (entry(features=0), "threads and features must be at least 1"),
        (entry('[10, "1", 0.0, null]'), ".+"),
        (entry("[0, 1.0, 0.0, null]"), r"\[0, 1.0, 0.0, None\] is no size with its times"),
        (entry("[10, 0.0, 0.0, null]"), r"\[10, 0.0, 0.0, None\] is no size with its times"),
        (entry("[10, Infinity, 0.0, null]"), r"\[10, inf, 0.0, None\] is no size with its times"),
        (entry("[10, NaN, 0.0, null]"), r"\[10, nan, 0.0, None\] is no size with its times"),
        (entry("[10, 1.0, -1.0, null]"), r"\[10, 1.0, -1.0, None\] is no size with its times"),
        (entry("[10, 1.0, Infinity, null]"), r"\[10, 1.0, inf, None\] is no size with its times"),
    ],
)
def test_a_file_that_is_no_wisdom_is_named_and_refused(text, says):
    assert wisdom.loads(entry(), "here.json")
    with pytest.raises(ValueError, match=rf"^here.json is not a wisdom file \({says}\); delete it and measure again$"):
        wisdom.loads(text, "here.json")


def test_a_choice_is_kept_in_the_users_cache(monkeypatch):
    monkeypatch.delenv(wisdom.ENVIRONMENT)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("/cache") / name)
    assert wisdom.saved_path() == Path("/cache/gradkernels/wisdom.json")


def test_without_platformdirs_nothing_is_saved_and_the_message_says_what_to_install(monkeypatch, saved):
    saved("")
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert wisdom.saved() == ()
    with pytest.raises(ValueError, match=r"^saving wisdom needs platformdirs: pip install 'gradkernels\[bench\]'$"):
        wisdom.save(())


def test_the_folders_of_the_file_are_made_and_what_is_saved_counts_at_once(tmp_path, saved):
    path = tmp_path / "not" / "there" / "wisdom.json"
    saved(path)
    assert wisdom.saved() == ()
    table = wisdom.loads(entry(), "here.json")
    for _ in range(2):
        assert wisdom.save(table) == path
        assert wisdom.saved() == table


@pytest.mark.parametrize(("seconds", "later"), [(0.25, 10**9), (0.125, 0)])
def test_a_results_file_is_read_again_where_its_time_or_its_size_is_another(tmp_path, seconds, later):
    path = tmp_path / "r.csv"

    def write(seconds):
        path.write_text(HEADER)
        append(path, [record(n=10, seconds_median=seconds)])
        return path.stat()

    def known():
        (of_linear,) = wisdom.measured(path)
        return of_linear.curves["numpy.loop.norms"][0].seconds

    before = write(0.75)
    assert known() == 0.75
    size = write(seconds).st_size
    assert (size == before.st_size) == bool(later)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + later))
    assert known() == seconds

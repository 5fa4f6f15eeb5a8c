"""`gradkernels fastest FILE --save`: what was asked for is saved, beside what was known, and nothing else."""

from __future__ import annotations

import pytest
from measured import record

from gradkernels.bench.cli import main
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.machine import machine
from gradkernels.record import HEADER, append

STARTED = "2026-03-01T12:00:00+00:00"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with one.csv and two.csv, and this machine's choice in another."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    monkeypatch.setenv(wisdom.ENVIRONMENT, str(tmp_path / "own" / "wisdom.json"))
    for name, sizes in (("one", (10,)), ("two", (100, 1000))):
        (tmp_path / f"{name}.csv").write_text(HEADER)
        append(tmp_path / f"{name}.csv", [row(name, key, n) for n in sizes for key in KEYS])
    wisdom.saved.cache_clear()
    yield tmp_path
    wisdom.saved.cache_clear()


KEYS = ("numpy.loop+.norms", "numpy.broadcast+.norms", "numpy.matmul.gradient", "numpy.loop+.gradient", "convert.jax",
        "control")  # fmt: skip


def row(run, key, n, **changes):
    quantity = "gradient" if key.endswith("gradient") else "norms"
    facts = {"kernel": key, "quantity": quantity, "n": n, "seconds_median": 1e-3, "machine": machine(), "run": run}
    return record(**{**facts, **changes})


def saved():
    """Sizes and sources by kernel."""
    wisdom.saved.cache_clear()
    return {
        key: [(point.n, point.origin.source) for point in points]
        for entry in wisdom.saved()
        for key, points in entry.curves.items()
    }


def test_all_that_a_file_knows_is_saved_with_its_name(here):
    assert main(["fastest", "one.csv", "--save"]) == 0
    assert saved() == {key: [(10, "one.csv")] for key in KEYS[:-1]}


def test_of_one_quantity_it_saves_that_alone(here):
    assert main(["fastest", "one.csv", "--quantity", "gradient", "--save"]) == 0
    assert saved() == {key: [(10, "one.csv")] for key in KEYS[2:4]}


def test_of_some_kernels_it_saves_those_and_what_converting_for_them_costs(here):
    assert main(["fastest", "one.csv", "--kernel", "numpy.loop", "--quantity", "norms", "--save"]) == 0
    assert saved() == {key: [(10, "one.csv")] for key in ("numpy.loop+.norms", "convert.jax")}


def test_a_file_of_one_kernel_takes_nothing_from_others_and_other_sizes(here):
    assert main(["fastest", "two.csv", "--save"]) == 0
    before = saved()
    (here / "one-kernel.csv").write_text(HEADER)
    append(here / "one-kernel.csv", [row("new", KEYS[0], n, started="2026-03-02T12:00:00+00:00") for n in (10, 100)])
    assert main(["fastest", "one-kernel.csv", "--save"]) == 0
    own = [(10, "one-kernel.csv"), (100, "one-kernel.csv"), (1000, "two.csv")]
    assert saved() == {**before, KEYS[0]: own}


def test_each_point_of_several_files_has_the_name_of_its_own(here):
    assert main(["fastest", "one.csv", "two.csv", "--quantity", "norms", "--save"]) == 0
    sizes = [(10, "one.csv"), (100, "two.csv"), (1000, "two.csv")]
    assert saved() == dict.fromkeys(("convert.jax", *KEYS[:2]), sizes)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--quantity", "moments"], "nothing is known of --quantity moments there, only of gradient, norms"),
        (["--quantity", "norms", "--kernel", "numpy.matmul"],
         "nothing is known of --quantity norms there, only of gradient"),
    ],
)  # fmt: skip
def test_where_nothing_asked_for_has_a_time_nothing_is_saved(here, capsys, given, says):
    assert main(["fastest", "one.csv", *given, "--save"]) == 2
    assert says in capsys.readouterr().err
    assert saved() == {}


@pytest.mark.parametrize("make", ["mkdir", "write_text"])
def test_a_choice_that_cannot_be_saved_is_one_sentence(here, capsys, make):
    path = here / "own" / "wisdom.json"
    getattr(path, make)(*(["nonsense"] if make == "write_text" else []))
    assert main(["fastest", "one.csv", "--save"]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert str(path) in said

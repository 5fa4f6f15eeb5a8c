"""What a choice is made by and how it is explained, in literal numbers and sentences."""

from __future__ import annotations

import math
import re

import pytest
from measured import record

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.dispatch import select, wisdom
from gradkernels.dispatch.machine import machine
from gradkernels.dispatch.request import Criteria, Request
from gradkernels.dispatch.select import choose, explain
from gradkernels.dispatch.wisdom import WisdomEntry
from gradkernels.dispatch.wisdom.entry import kind_of
from gradkernels.kernel import Kernel
from gradkernels.record import HEADER, append

P = gk.LinearRegression()
BROADCAST, LOOP, VMAP, JAX = (f"{way}.norms" for way in ("numpy.broadcast+", "numpy.loop+", "torch.vmap+", "jax.vmap+"))


@pytest.fixture
def known(monkeypatch):
    """A function that sets what was saved, and what ships; nothing of either at first."""

    def set_tables(saved=(), shipped=()):
        monkeypatch.setattr(wisdom, "saved", lambda: wisdom.learn(saved))
        monkeypatch.setattr(wisdom, "shipped", lambda: wisdom.learn(shipped))

    set_tables()
    return set_tables


@pytest.fixture
def choice_of(tmp_path, known):
    """A function from rows of a results file to the choice that they lead to, and its explanation."""

    def choice_of(*rows, n=10, library="numpy", **criteria):
        path = tmp_path / "r.csv"
        path.write_text(HEADER)
        append(path, rows)
        request = Request(gk.Case(P, "norms", n), BACKENDS[library], Criteria(results=path, **criteria))
        choice = choose(request)
        return choice, explain(request, choice).replace(str(path), "r.csv")

    return choice_of


def row(kernel, seconds, n=10, **changes):
    return record(kernel=kernel, backend=kernel.partition(".")[0], n=n, seconds_median=seconds, **changes)


def costs(choice):
    return {kernel.key: cost for kernel, cost in choice.costs}


def test_an_entry_answers_for_its_kind_of_problem_quantity_dtype_and_device():
    about = Coordinates("huber(delta=2.0)", "norms", ALL_SIZES, 1, "float64", "C", "cpu", 1)
    entry = WisdomEntry("desk", about, {})
    huber = gk.HuberRegression()
    assert entry.kind == kind_of(gk.Case(huber, "norms", 5, threads=3, layout="F", features=2))
    others = [(P, "norms", "float64", "cpu"), (huber, "moments", "float64", "cpu"), (huber, "norms", "float32", "cpu"),
              (huber, "norms", "float64", "cuda")]  # fmt: skip
    assert entry.kind not in [kind_of(gk.Case(problem, asked, 5, *where)) for problem, asked, *where in others]


def test_the_distance_to_an_entry():
    about = Coordinates("huber", "norms", ALL_SIZES, 4, "float64", "C", "cpu", 2)
    entry = WisdomEntry("desk", about, {})
    near = gk.Case(gk.HuberRegression(), "norms", 5, threads=2, features=4)
    far = gk.Case(gk.HuberRegression(delta=2.0), "norms", 5, threads=16, features=2, layout="F")
    assert entry.distance(near, None) == entry.distance(near, "desk") == (False, False, 0.0, False)
    assert entry.distance(far, "elsewhere") == (True, True, pytest.approx(math.log(16)), True)


def test_seconds_between_and_beyond_the_sizes_measured(choice_of):
    rows = [row(LOOP, 1e-6, 10), row(LOOP, 1e-4, 1000), row(BROADCAST, 2e-6, 10)]
    for n, seconds in ((1, (1e-6, 2e-6)), (100, (1e-5, 2e-5)), (5000, (5e-4, 1e-3))):
        choice, _ = choice_of(*rows, n=n)
        assert costs(choice) == pytest.approx(dict(zip((LOOP, BROADCAST), seconds, strict=True)))


def test_the_first_call_at_the_largest_size_is_shared_by_all_calls(choice_of):
    rows = [row(LOOP, 1.0, seconds_first=50.0), row(LOOP, 100.0, 1000, seconds_first=8.0), row(BROADCAST, 2.0)]
    choice, _ = choice_of(*rows, calls=4)
    assert costs(choice) == {LOOP: 3.0, BROADCAST: 2.0}
    choice, _ = choice_of(*rows)
    assert costs(choice) == {LOOP: 1.0, BROADCAST: 2.0}


@pytest.mark.parametrize(
    ("library", "expected"),
    [("numpy", {LOOP: 1.0, VMAP: 11.0, JAX: 101.0}), ("torch", {LOOP: 11.0, VMAP: 1.0, JAX: 111.0})],
)
def test_conversions_to_and_from_numpy_are_part_of_the_cost(library, expected, choice_of):
    times = [row(key, 1.0) for key in (LOOP, VMAP, JAX)]
    choice, _ = choice_of(*times, row("convert.torch", 10.0), row("convert.jax", 100.0), library=library)
    assert costs(choice) == expected


def test_a_conversion_that_was_not_measured_costs_nothing(choice_of):
    choice, _ = choice_of(row(LOOP, 1.0), row(JAX, 0.5), row("convert.torch", 10.0), library="torch")
    assert costs(choice) == {LOOP: 11.0, JAX: 10.5}


def test_settings_that_were_measured_are_chosen_among_and_memory_that_is_given_is_not(choice_of):
    settings = ("", "[rows=64]", "[rows=4]")
    keys = [*(f"numpy.blocked{one}.norms" for one in settings), "numpy.blocked[rows=2].norms@out", "torch.closed.norms"]
    choice, _ = choice_of(*(row(key, 1.0 / (1 + i)) for i, key in enumerate(keys)))
    assert costs(choice) == {keys[4]: 0.2, keys[2]: 0.3333, keys[1]: 0.5, keys[0]: 1.0}
    assert [kernel.set_options for kernel, _ in choice.costs] == [(), (("rows", 4),), (("rows", 64),), ()]


ENTRY = "in the entry norms of linear in float64 on cpu, features 1"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("stripes=8", r"there is no option of numpy.blocked\+? 'stripes'; known: rows"),
        ("rows=0", r".*: settings are written \[name=number\], for instance \[chunk=512\]"),
        ("rows=x", r".*: settings are written \[name=number\], for instance \[chunk=512\]"),
    ],
)
def test_settings_that_a_kernel_has_no_more_are_passed_over_and_named_once(choice_of, settings, says):
    kept, gone = "numpy.blocked[rows=4].norms", f"numpy.blocked[{settings}].norms"
    rows = [row(LOOP, 1.0), row(kept, 0.5), row(gone, 0.25)]
    with pytest.warns(
        UserWarning, match=rf"^the times of {re.escape(gone)} of \S+/r.csv, {ENTRY}, are passed over: {says}$"
    ):
        choice, _ = choice_of(*rows)
    assert costs(choice) == {kept: 0.5, LOOP: 1.0}
    assert choice_of(*rows)[0] == choice  # without a warning, which would be an error here


def test_where_all_that_was_measured_is_passed_over_a_rule_chooses(choice_of):
    with pytest.warns(UserWarning, match=r"numpy.blocked\[a=1\].norms of .+ are passed over"):
        choice, _ = choice_of(row("numpy.blocked[a=1].norms", 1.0))
    assert choice.source.startswith("a rule, as nothing was measured")


def test_memory_as_large_as_the_limit_is_within_it(choice_of):
    rows = [row(LOOP, 3.0, peak_bytes=1000), row(BROADCAST, 1.0, peak_bytes=1001), row(VMAP, 2.0)]
    choice, says = choice_of(*rows, max_bytes=1000)
    assert costs(choice) == {LOOP: 3.0}
    refused = {kernel.key: reason for kernel, reason in choice.refused}
    assert refused[BROADCAST] == "it needs about 1e+03 bytes, max_bytes=1000"
    assert refused[VMAP] == "its memory was not measured, max_bytes=1000"
    assert says.endswith(f"  {BROADCAST}: {refused[BROADCAST]}\n  {VMAP}: {refused[VMAP]}")
    with pytest.raises(ValueError, match=r"^no kernel is known to stay within max_bytes=999: ") as caught:
        choice_of(*rows, max_bytes=999)
    each = f"{BROADCAST}: it needs about 1e+03 bytes, max_bytes=999; {VMAP}: its memory was not measured, max_bytes=999"
    assert each in str(caught.value)


def test_three_percent_are_a_tie_and_more_is_none(choice_of):
    note = " (a tie: the one with fewer dependencies is preferred)"
    for cheap, dear, winner, tied in (
        (BROADCAST, "numpy.blocked.norms", 1.03, True),
        (BROADCAST, "numpy.blocked.norms", 1.031, False),
        ("numpy.blocked.norms", BROADCAST, 1.03, True),
        ("numpy.blocked.norms", BROADCAST, 1.031, False),
    ):
        choice, says = choice_of(row(cheap, 1.0), row(dear, winner))
        assert choice.kernel.key == ("numpy.blocked.norms" if tied else cheap)
        assert says.splitlines()[1].endswith(note) == tied


def test_the_explanation_gives_every_cost_and_what_it_is_known_from(choice_of):
    facts = {"threads": 2, "features": 3, "layout": "F", "started": "2026-03-01T12:00:00+00:00"}
    times = {LOOP: 1.0, BROADCAST: 1.01, VMAP: 2.5e3, "numpy.loop+.moments": 0.1, "control": 0.1}
    _, says = choice_of(*(row(key, seconds, **facts) for key, seconds in times.items()))
    assert says.splitlines()[:3] == [
        f"{BROADCAST} for n = 10, by r.csv (desk, 2026-03-01, 3 features, 2 threads, layout F)",
        f"  {LOOP}: 1 s, 0.99 times the winner's 1.01 s (a tie: the one with fewer dependencies is preferred)",
        f"  {VMAP}: 2.5e+03 s, 2.48e+03 times the winner's 1.01 s",
    ]


UNITS = {2.0: "2 s", 1.0: "1 s", 0.25: "250 ms", 1e-3: "1 ms", 2.5e-4: "250 µs", 1e-6: "1 µs", 2.5e-8: "25 ns"}


@pytest.mark.parametrize(("seconds", "says"), UNITS.items())
def test_times_are_in_the_largest_unit_that_they_reach(seconds, says, choice_of):
    _, lines = choice_of(row(LOOP, seconds), row(BROADCAST, seconds / 4))
    assert lines.splitlines()[1].startswith(f"  {LOOP}: {says}, 4 times the winner's ")


def request(**changes):
    criteria = Criteria(**{name: changes.pop(name) for name in ("max_bytes",) if name in changes})
    return Request(gk.Case(P, "norms", 10, **changes), BACKENDS["numpy"], criteria)


def test_saved_wisdom_comes_before_what_ships_and_each_for_this_machine_first(known):
    here, there = {"machine": machine()}, {"machine": "0"}
    known([row(LOOP, 1.0, **there), row(BROADCAST, 1.0, **here)], [row(LOOP, 1.0, **here)])
    choice = choose(request())
    assert choice.kernel.key == BROADCAST
    assert choice.source == f"this machine's saved wisdom ({machine()}, 2026-03-01, 1 feature, 1 thread, layout C)"
    known([], [row(LOOP, 1.0, **there), row(BROADCAST, 1.0, **here)])
    choice = choose(request())
    assert choice.kernel.key == BROADCAST
    assert choice.source.startswith(f"the table shipped with gradkernels ({machine()}, ")
    known([row(VMAP, 1.0, dtype="float32")], [row(LOOP, 1.0, **there)])
    assert choose(request()).kernel.key == LOOP


def curve(*sizes, loop=2.0, broadcast=1.0, **changes):
    """Rows of two kernels at these sizes."""
    times = {LOOP: loop, BROADCAST: broadcast}
    return [row(key, seconds, n, **changes) for key, seconds in times.items() for n in sizes]


def lines(n):
    """What was chosen at n, and the explanation without what is known of its source."""
    request = Request(gk.Case(P, "norms", n), BACKENDS["numpy"])
    first, *rest = explain(request, choose(request)).splitlines()
    return [first.partition(" (")[0], *rest]


def test_what_was_measured_at_the_size_comes_before_what_is_trusted_more_elsewhere(known):
    known(curve(10, 20, loop=1.0, broadcast=2.0), curve(10, 10**6))
    for n, seconds in ((5, 1), (10, 1), (20, 1), (40, 2)):
        assert lines(n)[:2] == [f"{LOOP} for n = {n}, by this machine's saved wisdom",
                                f"  {BROADCAST}: {2 * seconds} s, 2 times the winner's {seconds} s"]  # fmt: skip
    for n in (41, 1000, 10**6, 2 * 10**6):
        assert lines(n)[:2] == [f"{BROADCAST} for n = {n}, by the table shipped with gradkernels",
                                "  this machine's saved wisdom was measured at n = 10 to 20"]  # fmt: skip


def test_where_neither_was_measured_the_more_trusted_decides_unless_the_other_is_much_nearer(known):
    guess = "was measured at n = {} only, far from {}: its time is a guess"
    known(curve(10, loop=1.0, broadcast=2.0), curve(20))
    assert lines(1000)[:2] == [f"{LOOP} for n = 1000, by this machine's saved wisdom",
                               f"  {LOOP} {guess.format(10, 1000)}"]  # fmt: skip
    known(curve(10, loop=1.0, broadcast=2.0), curve(16, 21))
    assert lines(1000)[:3] == [f"{BROADCAST} for n = 1000, by the table shipped with gradkernels",
                               "  this machine's saved wisdom was measured at n = 10",
                               f"  {BROADCAST} {guess.format('16 to 21', 1000)}"]  # fmt: skip
    known(curve(1000), ())
    assert lines(10)[:2] == [f"{BROADCAST} for n = 10, by this machine's saved wisdom",
                             f"  {BROADCAST} {guess.format(1000, 10)}"]  # fmt: skip


def test_a_kernel_that_was_compared_with_nothing_yields_to_a_comparison(known):
    known([row(LOOP, 1.0)], curve(10))
    says = f"  this machine's saved wisdom has one kernel alone, {LOOP}, compared with nothing"
    assert lines(10)[:2] == [f"{BROADCAST} for n = 10, by the table shipped with gradkernels", says]
    known([row(LOOP, 1.0)], [row(BROADCAST, 0.5)])
    assert lines(10)[0] == f"{LOOP} for n = 10, by this machine's saved wisdom"
    known([row(LOOP, 1.0), row("control", 1.0), row("convert.torch", 1.0), row(f"{BROADCAST}@out", 0.5)], curve(10))
    assert lines(10)[0] == f"{BROADCAST} for n = 10, by the table shipped with gradkernels"


def test_kernels_that_cannot_do_the_case_are_no_comparison(known):
    known([row(LOOP, 1.0), row("old.way.norms", 0.5)], curve(10))
    assert lines(10)[0] == f"{BROADCAST} for n = 10, by the table shipped with gradkernels"


def test_of_one_source_the_entry_that_was_measured_at_the_size_decides(known):
    near, far = curve(10, loop=1.0, broadcast=2.0), curve(10**5, 10**6, features=3)
    known([*near, *far], ())
    assert [lines(n)[0].partition(" ")[0] for n in (10, 20, 5 * 10**4, 10**6)] == [LOOP, LOOP, BROADCAST, BROADCAST]
    assert lines(10**6)[1].startswith(f"  {LOOP}: 2 s")


def test_the_explanation_says_what_the_point_nearest_to_the_size_comes_from(known, monkeypatch):
    raced, filed = {"started": "2026-03-01T12:00:00+00:00"}, {"started": "2026-03-02T12:00:00+00:00"}
    rows = [*curve(10, **raced, run="a"), *curve(1000, **filed, run="b")]
    monkeypatch.setattr(wisdom, "saved", lambda: wisdom.learn(rows, {"a": "race", "b": "f.csv"}))
    for n, says in ((10, "race, 2026-03-01"), (1000, "f.csv, 2026-03-02")):
        request = Request(gk.Case(P, "norms", n), BACKENDS["numpy"])
        assert choose(request).source == f"this machine's saved wisdom (desk, {says}, 1 feature, 1 thread, layout C)"


def test_a_file_of_the_callers_decides_at_any_size_and_says_that_it_is_a_guess(choice_of, known):
    known(curve(10**6), curve(10**6))
    choice, says = choice_of(row(LOOP, 1.0), n=10**6)
    assert choice.kernel.key == LOOP
    assert says.splitlines()[1] == f"  {LOOP} was measured at n = 10 only, far from 1000000: its time is a guess"


def test_a_race_that_could_not_be_saved_decides_in_this_process(known, monkeypatch):
    known(curve(10, loop=1.0, broadcast=2.0), ())
    monkeypatch.setattr(wisdom, "unsaved", lambda: wisdom.learn(curve(10), "race"))
    assert lines(10)[0] == f"{BROADCAST} for n = 10, by a race of this process, which could not be saved"


def test_a_kernel_that_failed_is_passed_over_and_the_reason_comes_first(known):
    known([row(BROADCAST, 1.0), row(LOOP, 2.0)])
    broadcast, loop = gk.kernel(BROADCAST), gk.kernel(LOOP)
    choice = choose(request(), {loop: "it is slow"})
    assert choice.costs == ((broadcast, 1.0),)
    assert choice.refused[0] == (loop, "it is slow")
    choice = choose(request(), {broadcast: "it is wrong", loop: "it is slow"})
    assert choice.source.startswith("a rule, as nothing was measured for it: no Python loop, written by hand")
    assert {*choice.refused[:2]} == {(broadcast, "it is wrong"), (loop, "it is slow")}


def test_settings_of_a_kernel_that_failed_are_passed_over_too(known):
    blocked = gk.kernel("numpy.blocked.norms")
    known([row("numpy.blocked.norms", 1.0), row("numpy.blocked[rows=4].norms", 0.5), row(LOOP, 2.0)])
    assert choose(request(), {blocked: "it is wrong"}).costs == ((gk.kernel(LOOP), 2.0),)


def test_where_nothing_can_compute_every_reason_is_given(monkeypatch, known):
    two = (gk.kernel(LOOP), gk.kernel(BROADCAST))
    monkeypatch.setattr(select, "kernels", lambda problem, quantity: two)
    with pytest.raises(ValueError, match="^nothing can compute norms of linear here: it is slow; numpy computes on cpu "
                                         "here, not on cuda$"):  # fmt: skip
        choose(request(device="cuda"), {two[0]: "it is slow"})
    monkeypatch.setattr(select, "kernels", lambda problem, quantity: ())
    with pytest.raises(ValueError, match="^nothing can compute norms of linear here: no kernel is declared for it$"):
        choose(request())


@pytest.mark.parametrize(
    ("seconds", "n", "asked"),
    [(0.99, 10, True), (1.02, 10, True), (1.2, 10, False), (1.2, 100, True), (9.0, 100, False)],
)
def test_a_library_is_asked_only_where_its_kernel_may_be_the_fastest(seconds, n, asked, known, monkeypatch):
    torch = pytest.importorskip("torch")
    problem = gk.ModuleProblem(torch.nn.Linear(2, 3), torch.nn.CrossEntropyLoss())
    names = {"problem": problem.name, "quantity": "per_sample", "dtype": "float32"}
    hooks, opacus = "torch.hooks.per_sample", "opacus.hooks.per_sample"
    known([row(hooks, 1.0, **names), row(opacus, seconds, **names)])
    looked, really = [], Kernel.unsupported
    monkeypatch.setattr(Kernel, "unsupported", lambda self, case: looked.append(self.key) or really(self, case))
    case = gk.Case(problem, "per_sample", n, "float32")
    choice = choose(Request(case, BACKENDS["torch"]))
    assert (opacus in looked) is asked
    assert not any(key.startswith("backpack") for key in looked)
    assert hooks in costs(choice)


def test_every_library_is_asked_where_torch_has_no_kernel_left(known, monkeypatch):
    torch = pytest.importorskip("torch")
    problem = gk.ModuleProblem(torch.nn.Linear(2, 3), torch.nn.CrossEntropyLoss())
    case = gk.Case(problem, "per_sample", 4, "float32")
    failed = {one: "no" for one in gk.kernels(problem, "per_sample") if one.backend.name == "torch"}
    monkeypatch.setattr(
        Kernel, "unsupported", lambda self, case: () if self.key == "backpack.batch.per_sample" else ("",)
    )
    assert choose(Request(case, BACKENDS["torch"]), failed).kernel.key == "backpack.batch.per_sample"


def test_all_reasons_of_a_kernel_are_one_sentence(monkeypatch, known):
    monkeypatch.setattr(gk.Kernel, "unsupported", lambda kernel, case: ("one", "two") if kernel.loops else ())
    assert dict(choose(request()).refused)[gk.kernel(LOOP)] == "one; two"


def test_without_measurements_the_callers_library_is_preferred_and_the_rule_is_said(known):
    for library in ("numpy", "torch", "jax"):
        choice = choose(Request(gk.Case(P, "norms", 10), BACKENDS[library]))
        assert choice.kernel.backend.name == library
        rule = "no Python loop, written by hand, few dependencies"
        assert choice.source == f"a rule, as nothing was measured for it: {rule}"
        assert choice.costs == ()
    torch = pytest.importorskip("torch")
    module = gk.ModuleProblem(torch.nn.Linear(3, 2), torch.nn.MSELoss())
    choice = choose(Request(gk.Case(module, "norms", 10, "float32"), BACKENDS["torch"]))
    rule = "nothing to compile, no Python loop, what is fast for most models; `gk.race` measures"
    assert choice.source == f"a rule, as nothing was measured for it: {rule}"


def test_a_limit_of_memory_without_measurements_is_refused_with_what_to_do(known):
    says = "max_bytes=5 was given, but no memory was measured for norms of linear; run `gradkernels run` and pass its "
    with pytest.raises(ValueError, match=f"^{says}CSV as results=$"):
        choose(request(max_bytes=5))


def test_a_results_file_without_the_case_says_what_it_lacks(choice_of):
    with pytest.raises(ValueError, match=r"r\.csv has no proven time for norms of linear in float64 on cpu; measure it "
                                         r"with `gradkernels run`, or leave results= out$"):  # fmt: skip
        choice_of(row(LOOP, 1.0, dtype="float32"))

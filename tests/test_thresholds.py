"""Thresholds: how they are written, which one holds for a case, and what is refused with a sentence."""

import math

import pytest

from gradkernels.bench.compare.thresholds import DEFAULT_THRESHOLDS, Override, Thresholds
from gradkernels.bench.compare.thresholds_toml import chosen, nearest, read_thresholds

WHOLE = """
delta = "2%"
fail-slower = 0.05

[[overrides]]
kernel = "torch.*"
fail-slower = "15%"

[[overrides]]
kernel = ["numpy.loop", "*.vmap[chunk=5]"]
quantity = "norms"
n = "10:1e3"
delta = 0
"""


@pytest.fixture
def written(tmp_path):
    """A function that writes a TOML file and returns its path."""

    def write(text, name="limits.toml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_every_setting_is_read(written):
    assert read_thresholds(written(WHOLE)) == Thresholds(
        0.02,
        0.05,
        (
            Override(("torch.*",), fail_slower=0.15),
            Override(("numpy.loop", "*.vmap[chunk=5]"), "norms", 10, 1000, delta=0.0),
        ),
    )


def test_an_empty_file_changes_nothing(written):
    assert read_thresholds(written("")) == DEFAULT_THRESHOLDS == Thresholds(0.01, None, ())


@pytest.mark.parametrize(
    ("kernel", "quantity", "n", "limits"),
    [
        ("numpy.matmul.norms", "norms", 100, (0.02, 0.05)),
        ("torch.loop.norms", "norms", 100, (0.02, 0.15)),
        ("torch.vmap[chunk=5].norms", "norms", 100, (0.0, 0.15)),
        ("numpy.loop+.norms", "norms", 10, (0.0, 0.05)),
        ("numpy.loop+.norms", "norms", 1000, (0.0, 0.05)),
        ("numpy.loop+.norms", "norms", 9, (0.02, 0.05)),
        ("numpy.loop+.norms", "norms", 1001, (0.02, 0.05)),
        ("numpy.loop.gradient", "gradient", 100, (0.02, 0.05)),
    ],
)
def test_what_holds_for_a_case(written, kernel, quantity, n, limits):
    assert read_thresholds(written(WHOLE)).of(kernel, quantity, n) == limits


def test_the_last_override_that_gives_a_value_decides_it():
    overrides = (Override(fail_slower=0.1, delta=0.4), Override(delta=0.3), Override(fail_slower=0.2))
    overrides += (Override(("x.*",), fail_slower=0.9, delta=0.9),)
    assert Thresholds(overrides=overrides).of("numpy.loop.norms", "norms", 100) == (0.3, 0.2)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("1000", (1000, 1000)),
        ('"1000"', (1000, 1000)),
        ('"1e3:"', (1000, math.inf)),
        ('":100"', (0, 100)),
        ('"10:1e5"', (10, 100_000)),
        ('":"', (0, math.inf)),
    ],
)
def test_sizes_are_a_number_or_a_range(written, text, span):
    (override,) = read_thresholds(written(f"overrides = [{{ n = {text} }}]")).overrides
    assert (override.low, override.high) == span


def test_the_nearest_pyproject_is_asked_and_no_other(written, tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    section = "[tool.gradkernels.compare]\n"
    written(section + 'delta = "3%"', "pyproject.toml")
    assert nearest(inner).delta == 0.03
    written("[tool.other]", "a/pyproject.toml")
    assert nearest(inner) == DEFAULT_THRESHOLDS
    written(section + 'delta = "4%"', "a/b/pyproject.toml")
    assert nearest(inner).delta == 0.04


def test_a_named_file_may_have_the_section_or_not(written):
    assert read_thresholds(written('[tool.gradkernels.compare]\ndelta = "3%"')).delta == 0.03


def test_options_replace_the_defaults_of_the_file_and_not_its_overrides(written, tmp_path):
    path = written(WHOLE)
    assert chosen(path, tmp_path, "7%", "8%", "--") == Thresholds(0.07, 0.08, read_thresholds(path).overrides)
    assert chosen(path, tmp_path, None, None, "--") == read_thresholds(path)
    assert chosen(None, tmp_path, None, "8%", "--") == Thresholds(0.01, 0.08)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("delta = ", "not a TOML file (Invalid value"),
        ("a = 1\na = 2", "not a TOML file ("),
        ("a = " + "[" * 5000, "not a TOML file ("),
        ("a = " + "9" * 5000, "not a TOML file ("),
        ('fail-slow = "5%"', "there is no setting 'fail-slow'; did you mean fail-slower"),
        ('delta = "five"', "delta is 'five'; write a percentage"),
        ("delta = 5", "delta 5 could mean 5% or 5 times"),
        ("delta = true", "delta is 'True'; write a percentage"),
        ("delta = nan", "delta is 'nan'"),
        ("delta = inf", "delta is 'inf'"),
        ("fail-slower = -0.1", "fail-slower is '-0.1'"),
        ("fail-slower = [0.1]", "fail-slower is '[0.1]'"),
        ("overrides = 3", "overrides is 3; write each one under [[tool.gradkernels.compare.overrides]]"),
        ("[overrides]\nn = 3", "overrides is {'n': 3}; write each one under"),
        ("overrides = [3]", "override 1: 3 is no table; write one with kernel, quantity, n, delta, fail-slower"),
        ("overrides = [{}, { sizes = 3 }]", "override 2: there is no setting 'sizes'"),
        ("overrides = [{ kernel = 3 }]", "override 1: kernel is 3; write a key or glob"),
        ("overrides = [{ kernel = [3] }]", "override 1: kernel is [3]; write a key or glob"),
        ("overrides = [{ quantity = 3 }]", "override 1: quantity is 3; write its name"),
        ("overrides = [{ n = 1.5 }]", "override 1: n is 1.5; write a size such as 1000, or a range"),
        ("overrides = [{ n = 0 }]", "override 1: n is 0;"),
        ("overrides = [{ n = -3 }]", "override 1: n is -3;"),
        ("overrides = [{ n = true }]", "override 1: n is True;"),
        ('overrides = [{ n = "" }]', "override 1: n is '';"),
        ('overrides = [{ n = "1:2:3" }]', "override 1: n is '1:2:3';"),
        ('overrides = [{ n = "٣" }]', "override 1: n is '٣';"),
        ('overrides = [{ n = "100:10" }]', "override 1: n is '100:10', which no size can be"),
        ("[tool.gradkernels]\ncompare = 3", "3 is no table; write one with delta, fail-slower, overrides"),
    ],
)
def test_what_means_nothing_is_refused_with_its_place(written, text, says):
    path = written(text)
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the message is compared in full below
        read_thresholds(path)
    assert str(caught.value).startswith(f"{path}")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not a TOML file"):
        read_thresholds(tmp_path / "x.toml")
    with pytest.raises(FileNotFoundError):
        read_thresholds(tmp_path / "missing.toml")


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_thresholds_are_fractions(value):
    for name in ("delta", "fail_slower"):
        with pytest.raises(ValueError, match=f"{name} is {value}; it must be a fraction of at least 0"):
            Thresholds(**{name: value})


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (Override(), "everything"),
        (Override(("a.*", "b"), "norms", 10, 100), "kernel a.* b, quantity norms, n 10 to 100"),
        (Override(low=5), "n 5 to inf"),
    ],
)
def test_an_override_in_words(override, words):
    assert str(override) == words

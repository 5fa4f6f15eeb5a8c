"""Whatever is typed, a command ends with a documented exit code and a sentence, and bad usage writes nothing."""

import re
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import measured
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from gradkernels.bench.cli import main
from gradkernels.bench.cli.app import app
from gradkernels.bench.report.pictures import draw as pictures
from gradkernels.bench.run.session import Session
from gradkernels.record import HEADER, append

CODES = {0, 1, 2, 3, 4, 5}
COMMANDS = typer.main.get_command(app).commands
QUICK = sorted(COMMANDS.keys() & {"run", "compare", "fastest", "list", "plot", "import"})
"""What ends soon once measuring is left out; of the others only the parsing is tried."""

PLAUSIBLE = """
    x.csv broken.csv data.csv missing.csv . .. nowhere/x.csv /dev/null x.png bench.json linear logistic norms all
    gradient,norms numpy.* numpy.broadcast torch.vmap[chunk=2] 10 100 10:100 10,20 0 1 -1 3 nan inf 1e2 5% 1s 0s 2min
    float32 float64 C F cpu cuda markdown csv json a b notebook diabetes 4GB 1kB nowhere:make os:getcwd --help --
""".split()  # noqa: SIM905


def harmless(text):
    """Nothing that reads as a large number: it would be drawn, or run, before it is refused."""
    return not re.search(r"\d{4}|\d[eE_]", text)


# Line breaks apart, which a sentence shows as they were typed.
TYPED = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
ANYTHING = st.text(TYPED, max_size=12) | st.text("\0\udcff'\"-=,:.%[]*", max_size=6)


def arguments(command):
    options = [name for parameter in COMMANDS[command].params for name in (*parameter.opts, *parameter.secondary_opts)]
    names = st.sampled_from([name for name in options if name.startswith("--")] or ["--help"])
    values = st.sampled_from(PLAUSIBLE) | ANYTHING.filter(harmless)
    words = values.map(lambda value: [value]) | names.map(lambda name: [name])
    pairs = st.tuples(names, values).map(list) | st.tuples(names, values).map("=".join).map(lambda word: [word])
    return st.lists(pairs | pairs | words, max_size=6).map(
        lambda parts: [command, *(word for part in parts for word in part)]
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with files to name, in which nothing is measured."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "x.csv").write_text(HEADER)
    append(folder / "x.csv", measured.passes(measured.STEADY))
    (folder / "broken.csv").write_text(HEADER + "half a r")
    (folder / "data.csv").write_text("a,b\n1,2\n3,4\n")
    (folder / "bench.json").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GRADKERNELS_WISDOM", str(folder.parent / "wisdom.json"))
        patch.setattr(Session, "measure_missing", lambda session: session.records)
        patch.setattr(pictures, "draw", lambda content, suffix: b"")
        yield folder


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def outcome(words):
    """Exit code and what was said on standard error."""
    told = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(told):
        code = main(words)
    return code, told.getvalue()


@pytest.mark.parametrize("command", QUICK)
def test_whatever_is_typed_ends_in_a_documented_way(command, here):
    before = files(here)

    @settings(max_examples=settings.default.max_examples // 2)
    @given(arguments(command))
    def ends_well(words):
        code, told = outcome(words)
        assert code in CODES
        if code == 2:
            assert told.startswith("gradkernels: ")
            assert len(told.splitlines()) == 1
            assert files(here) == before
        for path in files(here).keys() - before.keys():
            path.unlink()
        for path, content in before.items():
            path.write_bytes(content)

    ends_well()


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_does_not_exist_is_refused_whatever_stands_beside_it(command, here):
    before = files(here)

    @settings(max_examples=settings.default.max_examples // 4)
    @given(arguments(command).filter(lambda words: not {"--help", "--"} & set(words)))
    def refused(words):
        code, told = outcome([*words, "--no-such-option"])
        assert code == 2
        assert told.startswith("gradkernels: ")
        assert files(here) == before

    refused()


@given(st.lists(ANYTHING, max_size=3))
def test_words_that_are_no_command_are_refused(words):
    if not words or set(words) & {"--help", *COMMANDS}:
        return
    code, told = outcome(words)
    assert code == 2
    assert told.startswith("gradkernels: ")

"""Every command with every option, badly: a sentence and code 2, never a traceback, and every file as before."""

import os
import shlex
from pathlib import Path

import measured
import pytest

from gradkernels.bench.cli import main
from gradkernels.bench.run.session import Session
from gradkernels.record import HEADER, append

WALK = [
    line.split(" => ")
    for line in (Path(__file__).parent / "bad_walk.txt").read_text(encoding="utf-8").splitlines()
    if " => " in line and not line.startswith("#")
]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with files to name, in which nothing is measured; gives what is in it."""
    folder = tmp_path_factory.mktemp("walk")
    for name, run in (("x", "run-a"), ("y", "run-b")):
        (folder / f"{name}.csv").write_text(HEADER)
        append(folder / f"{name}.csv", measured.passes(measured.STEADY, run=run))
    texts = {
        "header.csv": HEADER, "broken.csv": f"{HEADER}half a r", "empty.csv": "", "own.py": "x = 1\n",
        "data.csv": "a,b\n1,2\n3,4\n5,6\n", "words.csv": "a,b\nx,2\n3,4\n", "nan.csv": "a,b\n1,\n3,4\n",
        "huge.csv": "a,b\n1e200,1\n2e200,2\n3e200,3\n", "hugey.csv": "a,b\n1,1e200\n2,2e200\n3,3e200\n",
        "bench.json": "{}", "notjson.json": "hello", "bad.toml": "x = [", "unknown.toml": "dleta = 1\n",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\nmine")
    (folder / "dir").mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(Session, "measure_missing", lambda session: session.records)
        yield lambda: {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.mark.parametrize(("typed", "says"), WALK, ids=[typed for typed, _ in WALK])
def test_what_makes_no_sense_ends_in_a_sentence(here, capsys, typed, says):
    before = here()
    assert main(shlex.split(typed)) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"gradkernels: {says.removesuffix(' ...')}")
    assert told.count("\n") == 1
    assert here() == before


def test_every_command_is_walked():
    from gradkernels.bench.cli.app import COMMANDS

    assert {shlex.split(typed)[0] for typed, _ in WALK} >= {command.name for command in COMMANDS}

"""The results file of a run: whose it is, what is in it after each row, and what is left when a row finds no room."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import nullcontext
from pathlib import Path

import measured
import pytest
from room import no_room_beyond

from gradkernels.bench.results import results_file
from gradkernels.bench.results.results_file import ResultsFile, mend
from gradkernels.record import HEADER, OLD_HEADERS, line, read

HEADER_BYTES = len(HEADER)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, in which no hidden file stays behind."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.rglob(".*"))


@pytest.fixture
def row():
    return measured.record(seconds_median=1e-3)


def text(*rows):
    """What a file with these rows holds."""
    return HEADER + "".join(line(measured.cells(row)) for row in rows)


def later(row):
    """The row of the next pass."""
    return measured.changed(row, pass_=row.pass_ + 1)


def too_long(row):
    return measured.changed(row, reason="long" * 2000)


def refuse_too_long(file, row):
    """Append a row for which there is no room."""
    with no_room_beyond(6000), pytest.raises(OSError, match="File too large") as refusal:
        file.append(too_long(row))
    return refusal.value


# Rows, one after the other.


def test_rows_are_in_the_file_as_soon_as_they_are_appended(here, row):
    with ResultsFile(Path("x.csv"), "new") as file:
        assert file.read() == []
        file.append(row)
        assert Path("x.csv").read_text() == text(row)
        file.append(later(row))
        assert Path("x.csv").read_text() == text(row, later(row))
        assert file.read() == [row, later(row)]
    assert Path("x.csv").read_text() == text(row, later(row))


def test_rows_that_are_appended_together_have_a_line_each(here, row):
    with ResultsFile(Path("x.csv"), "new") as file:
        file.append(row, later(row))
    assert Path("x.csv").read_text() == text(row, later(row))


def test_a_row_is_synced_when_it_is_whole(here, row, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    with ResultsFile(Path("x.csv"), "new") as file:
        file.append(row)
        file.append(row)
    assert synced == [len(text(row)), len(text(row, row))]


def test_what_the_system_writes_piece_by_piece_is_written_whole(here):
    class Slow(results_file.FileIO):
        def write(self, data):
            return super().write(data[:3])

    with Slow("x", "a") as file:
        results_file._write(file, b"0123456789")
    assert Path("x").read_bytes() == b"0123456789"


def test_a_name_that_is_no_text_is_a_question_mark(here, row):
    with ResultsFile(Path("x.csv"), "new") as file:
        file.append(measured.changed(row, commit="a\udcffb"))
    assert read("x.csv") == [measured.changed(row, commit="a?b")]


def test_a_file_stays_the_same_when_the_folder_changes(here, row):
    (here / "elsewhere").mkdir()
    with ResultsFile(Path("x.csv"), "new") as file:
        os.chdir("elsewhere")
        file.append(row)
    assert (here / "x.csv").read_text() == text(row)


# What was there before.


def test_a_file_with_rows_is_no_new_file_and_is_let_go_of(here, row):
    Path("x.csv").write_text(text(row))
    with pytest.raises(ValueError, match="x.csv") as refusal:
        ResultsFile(Path("x.csv"), "new")
    advice = "go on with --resume, replace it with --force, or name another --out"
    assert str(refusal.value) == f"x.csv is there already; {advice}"
    assert Path("x.csv").read_text() == text(row)
    with ResultsFile(Path("x.csv"), "resume") as file:
        assert file.read() == [row]


@pytest.mark.parametrize("mode", ["new", "resume", "replace"])
@pytest.mark.parametrize("start", ["", HEADER[:30], HEADER, *OLD_HEADERS])
def test_a_file_without_a_row_is_nothing_to_lose(here, row, start, mode):
    Path("x.csv").write_text(start)
    with ResultsFile(Path("x.csv"), mode) as file:
        assert file.read() == []
        assert Path("x.csv").read_text() == ""
        file.append(row)
        assert Path("x.csv").read_text() == text(row)


def test_what_is_resumed_loses_half_a_row_and_grows(here, row):
    Path("x.csv").write_text(text(row, row)[:-20])
    with ResultsFile(Path("x.csv"), "resume") as file:
        assert file.read() == [row]
        refuse_too_long(file, row)
        assert Path("x.csv").read_text() == text(row)
        file.append(row)
    assert Path("x.csv").read_text() == text(row, row)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_cut_off_at_any_byte_of_the_last_row_no_other_is_lost_and_none_is_there_twice(here, row, mark):
    """As after a power cut; the row that is measured again has its own place."""
    last = measured.changed(later(row), commit='é, "quoted"')
    whole = mark + text(row, last).encode()
    for length in range(len(mark + text(row).encode()), len(whole)):
        Path("x.csv").write_bytes(whole[:length])
        with ResultsFile(Path("x.csv"), "resume") as file:
            assert file.read() == [row]
            file.append(last)
            assert file.read() == [row, last]
        assert Path("x.csv").read_bytes() == whole


def test_zeros_that_a_power_cut_leaves_in_place_of_a_row_are_cut_off(here, row):
    Path("x.csv").write_bytes(text(row).encode() + line(measured.cells(later(row))).encode()[:50] + bytes(200))
    with ResultsFile(Path("x.csv"), "resume") as file:
        assert file.read() == [row]


def test_rows_that_a_spreadsheet_has_saved_are_resumed(here, row):
    Path("x.csv").write_text(text(row), encoding="utf-8-sig")
    with ResultsFile(Path("x.csv"), "resume") as file:
        assert file.read() == [row]


@pytest.mark.parametrize("columns", [3, 4])
def test_rows_of_schemas_1_and_2_get_the_columns_of_now_when_they_are_resumed(here, row, columns):
    other = measured.changed(row, pass_=2)
    old = [one.rsplit(",", columns)[0] for one in text(row, other).splitlines()]
    Path("x.csv").write_text("\n".join([*old, "half a r"]))
    for mode in ("new", "replace"):
        with pytest.raises(ValueError, match="is there already") if mode == "new" else nullcontext():
            ResultsFile(Path("x.csv"), mode).close()
        assert Path("x.csv").read_text() == "\n".join([*old, "half a r"])
    with ResultsFile(Path("x.csv"), "resume") as file:
        assert Path("x.csv").read_text() == text(row, other)
        assert file.read() == [row, other]
        file.append(measured.changed(row, block=2))
        refuse_too_long(file, row)
    assert Path("x.csv").read_text() == text(row, other, measured.changed(row, block=2))


def test_rows_with_more_columns_are_not_resumed(here, row):
    first, only = text(row).splitlines()
    Path("x.csv").write_text(f"{first},new\n{only},1\n")
    with ResultsFile(Path("./x.csv"), "resume") as file, pytest.raises(ValueError, match="other columns") as refusal:
        file.read()
    assert str(refusal.value) == "x.csv has other columns than are written now; name another --out"


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (HEADER + "a row\nhalf a r", HEADER_BYTES + 6),
        (HEADER + "half a row", HEADER_BYTES),
        (HEADER + "a row\n", HEADER_BYTES + 6),
        (HEADER.replace("\n", "\r\n") + "a row\r\nhalf", HEADER_BYTES + 8),
        (HEADER.strip(), HEADER_BYTES - 1),
        (OLD_HEADERS[0] + "a row\nhalf a r", len(OLD_HEADERS[0]) + 6),
        ("another file\nthat ends without a line break", 43),
        ("", 0),
    ],
)
def test_half_a_row_is_cut_off_a_results_file_only(here, content, size):
    Path("x").write_text(content, newline="")
    assert mend(Path("x")) == size
    assert Path("x").read_bytes() == content[:size].encode()


# A file that is replaced.


def test_a_replaced_file_keeps_its_rows_until_there_is_a_new_one_and_then_its_rights(here, row):
    old = Path("x.csv")
    old.write_text("precious")
    old.chmod(0o640)
    os.link(old, "old.csv")
    with ResultsFile(old, "replace") as file:
        assert file.read() == []
        assert old.read_text() == "precious"
        file.append(row)
        assert old.read_text() == text(row)
        with pytest.raises(ValueError, match="another run is writing to x.csv"):
            ResultsFile(old, "resume")
        file.append(later(row))
        refuse_too_long(file, row)
        assert file.read() == [row, later(row)]
    assert old.read_text() == text(row, later(row))
    assert old.stat().st_mode & 0o777 == 0o640
    assert Path("old.csv").read_text() == "precious"  # not written over: whoever reads the old file reads on


def test_a_replacement_that_finds_no_room_leaves_the_old_file_and_may_be_tried_again(here, row):
    Path("x.csv").write_text("precious")
    with ResultsFile(Path("x.csv"), "replace") as file:
        refusal = refuse_too_long(file, row)
        assert refusal.filename == "x.csv"
        assert [path.name for path in here.iterdir()] == ["x.csv"]
        assert Path("x.csv").read_text() == "precious"
        file.append(row)
    assert Path("x.csv").read_text() == text(row)


def test_a_replacement_that_somebody_removes_leaves_the_old_file(here, row, monkeypatch):
    Path("x.csv").write_text("precious")
    monkeypatch.setattr(os, "fsync", lambda descriptor: Path(".x.csv.new").unlink())
    with (
        ResultsFile(Path("x.csv"), "replace") as file,
        pytest.raises(FileNotFoundError, match="the rows before are safe"),
    ):
        file.append(row)
    assert Path("x.csv").read_text() == "precious"


def test_a_replacement_whose_place_is_taken_leaves_the_old_file(here, row):
    Path("x.csv").write_text("precious")
    with ResultsFile(Path("x.csv"), "replace") as file:
        Path(".x.csv.new").mkdir()
        with pytest.raises(ValueError, match="x.csv is no regular file"):
            file.append(row)
        Path(".x.csv.new").rmdir()
    assert Path("x.csv").read_text() == "precious"


def test_what_a_killed_run_left_beside_the_file_is_removed(here):
    Path(".x.csv.new").write_text("half a replacement")
    Path("x.csv").write_text("precious")
    with ResultsFile(Path("x.csv"), "replace"):
        assert [path.name for path in here.iterdir()] == ["x.csv"]
    assert Path("x.csv").read_text() == "precious"


# A row for which there is no room, and a file that is no longer there.


def test_without_room_for_a_row_none_of_it_stays_and_the_next_one_is_whole(here, row):
    with ResultsFile(Path("x.csv"), "new") as file:
        refusal = refuse_too_long(file, row)
        assert Path("x.csv").read_bytes() == b""
        assert refusal.errno == errno.EFBIG
        assert refusal.filename == "x.csv"
        assert refusal.strerror == "File too large; the rows before are safe, and --resume goes on"
        for count in (1, 2, 3):
            file.append(row)
            refuse_too_long(file, row)
            assert Path("x.csv").read_text() == text(*[row] * count)


def test_where_no_room_can_be_made_the_lack_of_it_is_told(here, row, monkeypatch):
    monkeypatch.setattr(os, "ftruncate", lambda descriptor, size: fail(errno.EIO))
    with ResultsFile(Path("x.csv"), "new") as file:
        refuse_too_long(file, row)


def test_nothing_is_written_to_a_file_that_was_removed_or_replaced(here, row):
    for spoil in (lambda path: path.unlink(), lambda path: Path("other").replace(path)):
        Path("other").write_text("another's")
        path = here / "x.csv"
        with ResultsFile(Path("x.csv"), "new") as file:
            file.append(row)
            spoil(path)
            with pytest.raises(FileNotFoundError) as refusal:
                file.append(row)
        told = "removed or replaced while a run was writing to it; the rows before are safe, and --resume goes on"
        assert (refusal.value.errno, refusal.value.strerror, refusal.value.filename) == (errno.ENOENT, told, "x.csv")
    assert path.read_text() == "another's"


# Leaving.


def test_a_file_without_a_row_is_removed_if_it_was_made(here, row):
    Path("there.csv").touch()
    for name in ("x.csv", "there.csv"):
        with ResultsFile(Path(name), "new"):
            assert Path(name).exists()
    with ResultsFile(Path("row.csv"), "new") as file:
        file.append(row)
    with ResultsFile(Path("other.csv"), "new"):
        Path("other.csv").unlink()
        Path("other.csv").touch()  # another's
    assert sorted(path.name for path in here.iterdir()) == ["other.csv", "row.csv", "there.csv"]


def test_leaving_twice_or_without_the_file_is_no_error(here):
    (here / "folder").mkdir()
    file = ResultsFile(Path("folder/x.csv"), "new")
    Path("folder/x.csv").unlink()
    (here / "folder").rmdir()
    (here / "folder").touch()
    file.close()
    file.close()


# One run at a time.


def test_a_file_is_held_until_it_is_left(here):
    with ResultsFile(Path("x.csv"), "new"):
        for mode in ("new", "resume", "replace"):
            with pytest.raises(ValueError, match="x.csv") as refusal:
                ResultsFile(Path("x.csv"), mode)
            told = "another run is writing to x.csv; wait for its end, or name another --out"
            assert str(refusal.value) == told
    with ResultsFile(Path("x.csv"), "new"):
        pass


def test_a_file_that_is_replaced_while_it_is_taken_is_taken_anew(here, row, monkeypatch):
    """As by a run that ends between the moment when another opens the file and that when it holds it."""
    lock = fcntl.flock
    rounds = iter([lambda: Path("new.csv").replace("x.csv"), lambda: Path("x.csv").unlink()])

    def late(file, operation):
        next(rounds, lambda: None)()
        lock(file, operation)

    Path("x.csv").touch()
    Path("new.csv").touch()
    monkeypatch.setattr(fcntl, "flock", late)
    with ResultsFile(Path("x.csv"), "new") as file:
        file.append(row)
    assert Path("x.csv").read_text() == text(row)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_does_without(here, row, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: fail(number))
    with ResultsFile(Path("x.csv"), "new") as file:
        file.append(row)
    assert read("x.csv") == [row]


def test_a_lock_that_fails_otherwise_is_told(here, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        ResultsFile(Path("x.csv"), "new")


def fail(number):
    raise OSError(number, os.strerror(number))


def test_what_is_no_file_is_refused(here):
    os.mkfifo("pipe")
    with pytest.raises(ValueError, match="pipe") as refusal:
        ResultsFile(Path("pipe"), "replace")
    assert str(refusal.value) == "pipe is no regular file; name another --out"

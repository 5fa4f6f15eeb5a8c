"""`gradkernels report`: results as one HTML page that opens without a network."""

from __future__ import annotations

from pathlib import Path

from gradkernels.bench.cli import file_options
from gradkernels.bench.cli.files import require_free, write_whole
from gradkernels.names import counted
from gradkernels.record import Record, read
from gradkernels.record.blocks import row_identity
from gradkernels.record.reading import twice

SUFFIXES = (".html", ".htm")


def report(
    files: file_options.ReportedFiles,
    out: file_options.ReportOut = Path("report.html"),
    force: file_options.ReplaceMade = False,
) -> None:
    """Write one HTML page that shows who wins where and by how much, how surely, and what changed between files.

    The page needs no network and no other file. Each case is shown from the newest file that measured it; with several
    files, or several commits in one, each is compared with the one before.
    """
    from gradkernels.bench.report.page.html import page, require_libraries
    from gradkernels.bench.report.page.sources import sources_of

    _refuse_output(out, files, force)
    require_libraries()
    named = _read(files)
    text = page(sources_of(named))
    write_whole(out, text.encode(errors="replace"))
    rows = sum(len(records) for _, records in named)
    print(
        f"{out}: {counted(rows, 'row')}, {counted(len(files), 'file')}, {len(text) / 1e6:.1f} MB; open it in a browser"
    )


def _refuse_output(out: Path, files: list[Path], force: bool) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--out {out}: a page ends in {' or '.join(SUFFIXES)}")
    if any(out.resolve() == path.resolve() for path in files):
        raise ValueError(f"--out {out} is one of the results files; name another")
    require_free("--out", out, force)


def _read(files: list[Path]) -> list[tuple[str, list[Record]]]:
    """Return the rows of each file; a measurement in two of them would be compared with itself."""
    named: list[tuple[str, list[Record]]] = []
    first: dict[tuple[object, ...], str] = {}
    for path in files:
        # A file's name may hold bytes that are no text.
        name = str(path).encode(errors="backslashreplace").decode()
        records = read(path)
        for record in records:
            if (other := first.setdefault(row_identity(record), name)) != name:
                raise twice(record, other, name)
        if name in (there for there, _ in named):
            raise ValueError(f"{name} is given twice; name it once")
        named.append((name, records))
    return named

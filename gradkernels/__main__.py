"""`gradkernels` and `python -m gradkernels`: the command line, if its extra is installed."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        return _command_line()
    except KeyboardInterrupt:  # while libraries load, say
        print("gradkernels: stopped", file=sys.stderr)
        return 130


def _command_line() -> int:
    from gradkernels.bench.cli import main as command_line
    from gradkernels.bench.cli import missing_extra

    try:
        from gradkernels.bench.cli import app as app  # loads what commands need
    except ModuleNotFoundError as missing:
        print(f"gradkernels: {missing_extra(missing, 'the command line')}", file=sys.stderr)
        return 2
    return command_line()


if __name__ == "__main__":
    sys.exit(main())

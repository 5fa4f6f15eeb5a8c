"""Text for outputs that do not have all characters, as under LC_ALL=C: a table must not be lost for a µ."""

from __future__ import annotations

import codecs
from typing import Any

SPELLED = {"µ": "u", "×": "x"}
"""What stands for characters that units and tables have."""

_NAME = "gradkernels.spelled"


def spell_out(stream: Any) -> None:
    """Have a stream write what it has no character for in another way, unless its user said how (PYTHONIOENCODING)."""
    if getattr(stream, "errors", None) in ("strict", "surrogateescape") and hasattr(stream, "reconfigure"):
        codecs.register_error(_NAME, _spelled)
        stream.reconfigure(errors=_NAME)


def _spelled(error: UnicodeError) -> tuple[bytes, int]:
    """Return the bytes for what cannot be encoded: of names of files that are no text their own."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    parts = (
        bytes([ord(one) - 0xDC00]) if "\udc80" <= one <= "\udcff" else SPELLED.get(one, "?").encode()
        for one in error.object[error.start : error.end]
    )
    return b"".join(parts), error.end

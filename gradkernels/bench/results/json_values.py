"""JSON that another program wrote: read whole, and each value looked at when it is asked for."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

_KINDS: dict[str, type] = {"int": int, "float": float, "str": str, "dict": dict, "list": list}
_NAMES = {"int": "a whole number", "float": "a number", "str": "text", "dict": "an object", "list": "a list"}
_GZIP = b"\x1f\x8b"


def read_json(path: Path) -> tuple[Any, bytes]:
    """Return the document in a file, which may be compressed by gzip, and the bytes of the file.

    NaN and Infinity, which are no JSON but which Python writes, are read: a number must be one where it is asked for.

    Raises:
        ValueError: It is no JSON; names the line.
        OSError: The file cannot be read.
    """
    content = path.read_bytes()
    try:
        text = (gzip.decompress(content) if content.startswith(_GZIP) else content).decode()
        return json.loads(text), content
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text at byte {error.start}; a file to import holds JSON") from None
    except (EOFError, OSError) as error:
        raise ValueError(f"{path}: {error}; the compressed file is damaged") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); is the file cut off?") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}; this is no file of a benchmark tool") from None


def json_value(holder: Any, key: str, kind: str, where: str) -> Any:
    """Return `holder[key]`, which must be there, of that kind, and no negative, infinite or undefined number.

    Args:
        holder: An object of the document.
        key: Of the value.
        kind: `int`, `float`, `str`, `dict` or `list`.
        where: What a message calls the holder.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(holder, dict):
        raise ValueError(f"{where}: expected {_NAMES['dict']} with {key!r}; this is no file of a benchmark tool")
    if key not in holder:
        raise ValueError(f"{where}: {key!r} is missing")
    value = float(holder[key]) if kind == "float" and type(holder[key]) is int else holder[key]
    fits = type(value) is _KINDS[kind]  # isinstance would take true for a whole number
    if not fits:
        raise ValueError(f"{where}: {key!r} is {json.dumps(value)[:40]}, expected {_NAMES[kind]}")
    if kind in ("int", "float") and not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{where}: {key!r} is {value}, expected a finite number from 0")
    return value


def json_or(holder: Any, key: str, kind: str, otherwise: Any) -> Any:
    """Return `holder[key]` where it is there and of that kind, else something else.

    Args:
        holder: An object of the document, or what stands in its place.
        key: Of the value.
        kind: As for `json_value`.
        otherwise: What to return.
    """
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if type(value) is _KINDS[kind] else otherwise

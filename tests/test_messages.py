"""Messages between a supervisor and its workers: what a line says, and which lines are no messages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest

from gradkernels.bench.isolation.messages import Finished, Unusable, decode, encode


class Colour(StrEnum):
    red = "red"


@dataclass(frozen=True)
class Inner:
    size: float
    note: str | None = None


@dataclass(frozen=True)
class Order:
    count: int
    share: float
    colour: Colour
    parts: tuple[Inner, ...]
    pair: tuple[int, str]
    by_name: dict[str, float]
    other: Inner | int | None
    anything: Any
    sure: bool = True


ORDER = Order(3, 0.5, Colour.red, (Inner(1.5, "é"), Inner(2.0)), (7, "a"), {"b": 1.0}, None, [1, {"c": None}])
WRITTEN = {
    "message": "Order",
    "count": 3,
    "share": 0.5,
    "colour": "red",
    "parts": [{"size": 1.5, "note": "é"}, {"size": 2.0, "note": None}],
    "pair": [7, "a"],
    "by_name": {"b": 1.0},
    "other": None,
    "anything": [1, {"c": None}],
    "sure": True,
}


def read(**changes):
    return decode(json.dumps({**WRITTEN, **changes}).encode(), (Finished, Order, Unusable))


def test_a_message_is_a_line_of_json():
    assert encode(Unusable("failed", "é\n")) == (
        b'{"message": "Unusable", "status": "failed", "reason": "\\u00e9\\n"}\n'
    )
    assert encode(Finished()) == b'{"message": "Finished"}\n'
    assert json.loads(encode(ORDER)) == WRITTEN
    assert encode(ORDER).count(b"\n") == 1


def test_what_was_written_is_read():
    assert decode(encode(ORDER), (Finished, Order)) == ORDER
    assert decode(b'{"message": "Finished"}', (Finished, Order)) == Finished()
    assert type(read().colour) is Colour
    assert read(other=5).other == 5
    assert read(other={"size": 1.5}).other == Inner(1.5)
    assert read(parts=[]).parts == ()
    found = read(share=2, by_name={"b": 3}, parts=[{"size": 4}])
    assert [(one, type(one)) for one in (found.share, found.by_name["b"], found.parts[0].size)] == [
        (2.0, float), (3.0, float), (4.0, float),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"message": "Inner"},
        {"message": 3},
        {"message": []},
        {"unknown": 1},
        {"count": 1.5},
        {"count": True},
        {"count": "3"},
        {"count": None},
        {"share": "0.5"},
        {"share": True},
        {"colour": "blue"},
        {"colour": 3},
        {"parts": {"size": 1.5}},
        {"parts": [1.5]},
        {"parts": [{"size": 1.5, "other": 1}]},
        {"parts": [{"note": "a"}]},
        {"parts": [{"size": 1.5, "note": 1}]},
        {"pair": [7]},
        {"pair": [7, "a", "b"]},
        {"pair": ["a", 7]},
        {"pair": "ab"},
        {"by_name": {"b": "c"}},
        {"by_name": [1.0]},
        {"other": 1.5},
        {"other": "a"},
        {"other": {"size": "a"}},
        {"sure": 1},
    ],
)
def test_a_field_of_another_type_is_no_message(changes):
    with pytest.raises(ValueError, match="^no message: "):
        read(**changes)


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"3", b"[]", b"{}", b"null", b'"Finished"', b'{"message": "Finished"', b"\xff", b"[" * 100_000],
)
def test_a_line_that_is_something_else_is_no_message(line):
    with pytest.raises(ValueError, match="^no message: "):
        decode(line, (Finished,))


def test_a_field_that_is_missing_is_no_message():
    for name in WRITTEN.keys() - {"sure"}:
        line = json.dumps({key: value for key, value in WRITTEN.items() if key != name})
        with pytest.raises(ValueError, match="^no message: "):
            decode(line.encode(), (Order,))


def test_what_is_wrong_with_a_line_is_said():
    for changes, says in (
        ({"count": "3"}, "'3' is no int"),
        ({"parts": "ab"}, "'ab' is no list"),
        ({"other": 1.5}, f"1.5 is none of {(Inner, int, type(None))}"),
    ):
        with pytest.raises(ValueError, match="no message") as caught:
            read(**changes)
        assert str(caught.value) == f"no message: {says}"

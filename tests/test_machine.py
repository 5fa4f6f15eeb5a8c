"""The name of this kind of machine, from what the system says of its processor."""

import os
import platform

import pytest

from gradkernels.dispatch import machine

CPUINFO = "processor\t: 0\nmodel name\t: A Processor (R) 9000 \nprocessor\t: 1\nmodel name\t: Another\n"


@pytest.fixture
def system(monkeypatch, tmp_path):
    """A Linux with four cores, whose files are in the folder that comes back."""
    monkeypatch.setattr(machine, "Path", lambda name: tmp_path / name.removeprefix("/"))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for name, value in (("system", "Linux"), ("machine", "x86_64"), ("processor", "")):
        monkeypatch.setattr(platform, name, lambda value=value: value)
    (tmp_path / "proc").mkdir()
    return tmp_path


def test_the_processor_is_the_first_model_that_linux_names(system):
    (system / "proc" / "cpuinfo").write_text(CPUINFO)
    assert machine.cpu() == "A Processor (R) 9000"
    assert machine.machine.__wrapped__() == "a-processor-r-9000-4c-linux-x86-64"


def test_without_a_model_it_is_what_the_platform_says(system, monkeypatch):
    assert machine.cpu() == "x86_64"
    (system / "proc" / "cpuinfo").write_text("Hardware\t: Some board\n")
    assert machine.cpu() == "x86_64"
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert machine.cpu() == "arm"


def test_a_name_has_letters_digits_and_single_dashes_within():
    assert machine.kind_of_machine("(R) Core -- 7", "4c", "Linux (64)") == "r-core-7-4c-linux-64"

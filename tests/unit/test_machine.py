import io
import re
import sys

import pytest

from amalgam import machine
from amalgam.machine import show_progress


def test_a_log_has_a_first_and_a_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("judge", total=3, done_before=2) as advance:
        for item in "abc":
            advance(item)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"judge: 3 to do \(2 known already\)\njudge: 3 of 3, \d+\.\d/s, 0 s left\n", captured.err)


def test_a_line_comes_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, *range(10, 100, 10)])
    monkeypatch.setattr(machine.time, "monotonic", lambda: float(next(seconds)))
    with show_progress("train", total=8) as advance:
        for step in range(3):
            advance(step)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "train: 8 to do",
        "train: 2 of 8",
        "train: 3 of 8",
    ]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with show_progress("judge", total=3) as advance:
        for item in "abc":
            advance(item)
    assert "judge" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()

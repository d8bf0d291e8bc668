import io
import re
import sys

import pytest
import torch

from amalgam import machine
from amalgam.machine import choose_dtype, show_progress


def show(count: int, total: int, done_before: int = 0) -> None:
    with show_progress("train", total=total, done_before=done_before) as advance:
        for step in range(count):
            advance(step)


def test_a_log_has_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, *range(10, 100, 10)])
    monkeypatch.setattr(machine.time, "monotonic", lambda: float(next(seconds)))
    show(3, 8, done_before=2)
    assert capsys.readouterr() == (
        "",
        "train: 8 to do (2 known already)\ntrain: 2 of 8, 0.1/s, 90 s left\ntrain: 3 of 8, 0.1/s, 83 s left\n",
    )


def test_bfloat16_is_used_only_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # An older GPU emulates it, which is slow; torch for Macs cannot even be asked.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert {choose_dtype(torch.device(device)) for device in ("cuda", "cpu")} == {torch.float32}


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := io.StringIO())
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    show(3, 3)
    assert re.search("train.*3/3", terminal.getvalue())

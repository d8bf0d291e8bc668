"""Processes that share a journal with a test, and the requests that they use."""

import subprocess
import sys

from amalgam.llm.request import Request

HEAD = """
import os, resource, sys
from pathlib import Path
import filelock
from amalgam.errors import DataError
from amalgam.llm.journal import lock_sending, open_journal
from amalgam.llm.request import Answer, Request
path = Path(sys.argv[1])
"""


def make_request(number: int) -> Request:
    return Request("r", "m", {"number": number}, 0)


def make_keys(count: int) -> list[str]:
    return [make_request(number).key for number in range(count)]


def start_process(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process

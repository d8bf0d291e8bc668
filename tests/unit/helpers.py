"""What several tests of requests and answers share."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

from amalgam import cli
from amalgam.llm.answering import Answering
from amalgam.params import Llm

PRICES = Path(__file__).parents[2] / "data/prices.yaml"
_LLM: dict[str, Any] = {
    "endpoint": "embedded",
    "model": "served",
    "api_version": None,
    "body": {},
    "batch": False,
    "offline": False,
    "budget_usd": None,
    "max_requests": None,
    "concurrency": 3,
    "timeout": 5.0,
}


def make_answering(folder: Path, endpoint: str, **llm: Any) -> Answering:
    """Answer from an endpoint, with the journal in `folder` and nothing to take over from DVC."""
    return Answering(
        llm=Llm(**_LLM | {"endpoint": endpoint} | llm),
        folder=folder / "llm",
        journal=folder / "journal.sqlite",
        prices=PRICES,
        api_key=" sk-secret\n",
        read_seeds=lambda _skip: iter(()),
    )


def run_amalgam(*args: str) -> int:
    """Run a command as a terminal does; return its exit code."""
    with patch("sys.argv", ["amalgam", *args]):
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0

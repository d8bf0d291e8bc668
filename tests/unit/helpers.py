"""What several tests of requests and answers share."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

from amalgam import cli
from amalgam.llm.answering import Answering
from amalgam.params import Llm, load_params

ROOT = Path(__file__).parents[2]
PRICES = ROOT / "data/prices.yaml"


def make_answering(folder: Path, endpoint: str, **llm: Any) -> Answering:
    """Answer from an endpoint, with the journal in `folder` and nothing to take over from DVC."""
    known = load_params(ROOT / "params.yaml").llm.model_dump()
    return Answering(
        llm=Llm(**known | {"endpoint": endpoint, "model": "served", "concurrency": 3, "timeout": 5.0} | llm),
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

"""Send chats through another tool as its documentation describes; synthesis.py runs this with that tool's Python.

Run as `/path/to/python bench/peers.py distilabel URL CHATS CONCURRENCY FOLDER`, where CHATS is a JSON file with a list
of chats, and FOLDER receives the tool's files. It prints the tool's version and the number of answers as JSON.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

Chat = list[dict[str, str]]
MODEL, KEY = "stub", "none"


def run_distilabel(url: str, chats: list[Chat], concurrency: int, folder: Path) -> int:
    """Run a pipeline of one task; a batch is what distilabel sends at once."""
    os.environ["DISTILABEL_LOG_LEVEL"] = "WARNING"  # else it writes a line for each request
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import ChatGeneration

    with Pipeline(name="bench", cache_dir=folder) as pipeline:
        rows = LoadDataFromDicts(data=[{"messages": chat} for chat in chats], batch_size=concurrency)
        write = ChatGeneration(
            llm=OpenAILLM(
                model=MODEL,
                base_url=url,
                api_key=KEY,
                generation_kwargs={"temperature": 0.7, "top_p": 0.95, "max_new_tokens": 64},
            ),
            input_batch_size=concurrency,
        )
        rows >> write
    answers = pipeline.run(use_cache=False)["default"]["train"]
    return sum(answer is not None for answer in answers["generation"])


def run_curator(url: str, chats: list[Chat], concurrency: int, folder: Path) -> int:
    """Call a subclass of `LLM` on the chats, with rate limits that no run reaches."""
    os.environ |= {
        "CURATOR_DISABLE_CACHE": "1",
        "HF_HUB_OFFLINE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENAI_API_KEY": KEY,
        "TELEMETRY_ENABLED": "false",
    }
    import litellm.litellm_core_utils.default_encoding  # noqa: F401 - sets the folder of the token table to its own copy
    from bespokelabs import curator

    class Writer(curator.LLM):  # type: ignore[misc]
        """Passes chats on unchanged."""

        def prompt(self, input: dict[str, Any]) -> Chat:
            chat: Chat = input["messages"]
            return chat

        def parse(self, input: dict[str, Any], response: str) -> dict[str, str]:
            return {"text": response}

    writer = Writer(
        model_name=MODEL,
        backend="openai",
        generation_params={"temperature": 0.7, "top_p": 0.95, "max_tokens": 64},
        backend_params={
            "base_url": url,
            "max_concurrent_requests": concurrency,
            "max_requests_per_minute": 10**7,
            "max_tokens_per_minute": 10**10,
        },
    )
    answers = writer([{"messages": chat} for chat in chats], working_dir=str(folder))
    return len(answers.dataset)


PEERS: dict[str, tuple[str, Callable[[str, list[Chat], int, Path], int]]] = {
    "distilabel": ("distilabel", run_distilabel),
    "curator": ("bespokelabs-curator", run_curator),
}

if __name__ == "__main__":
    name, url, chats, concurrency, folder = sys.argv[1:]
    package, run = PEERS[name]
    count = run(url, json.loads(Path(chats).read_text(encoding="utf-8")), int(concurrency), Path(folder))
    print(json.dumps({"version": version(package), "answers": count}))

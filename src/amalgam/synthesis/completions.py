"""Raw answers to the prompts: how they are asked for, and the shards in which they are kept."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from amalgam.errors import DataError
from amalgam.files import read_jsonl, write_jsonl
from amalgam.llm.request import Answer, Request
from amalgam.params import Synthesis

_SHARD = 1000  # samples a shard: when rows grow, full shards keep their hash and are not stored again


def build_requests(prompts: list[dict[str, Any]], model: str, params: Synthesis) -> list[Request]:
    """Turn prompts into requests to `model`; the sample's number is also its sampling seed."""
    return [
        Request(
            id=prompt["id"],
            model=model,
            body={
                "messages": prompt["messages"],
                "temperature": params.temperature,
                "top_p": params.top_p,
                "max_tokens": params.max_tokens,
                "seed": prompt["sample"],
            },
            sample=prompt["sample"],
        )
        for prompt in prompts
    ]


def write_completions(
    folder: Path, prompts: list[dict[str, Any]], requests: list[Request], answers: list[Answer]
) -> None:
    """Write one line an answer into shards by sample number."""
    shards: dict[int, list[dict[str, Any]]] = {}
    for prompt, request, answer in zip(prompts, requests, answers, strict=True):
        line = {"key": request.key, **{name: prompt[name] for name in ("id", "label", "sample", "question")}}
        shards.setdefault(prompt["sample"] // _SHARD, []).append(line | asdict(answer))
    for number, lines in sorted(shards.items()):
        write_jsonl(folder / f"{number:05d}.jsonl", lines)


def read_completions(folder: Path, expected: int) -> list[dict[str, Any]]:
    """Read all shards in order.

    Raises:
        DataError: there are not as many lines as were asked for, so a part of the folder is missing.
    """
    lines = list(_iterate_shards(folder))
    if len(lines) != expected:
        raise DataError(
            f"{folder} holds {len(lines)} of {expected} answers: run `dvc checkout` or `dvc repro synthesize`"
        )
    return lines


def _iterate_shards(folder: Path) -> Iterator[dict[str, Any]]:
    for shard in sorted(folder.glob("*.jsonl")):
        yield from read_jsonl(shard)

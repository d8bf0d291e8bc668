"""Requests a second of Amalgam and other clients, against one endpoint that answers after a fixed time.

Run `python -m bench.synthesis`. To add other tools, each in its own environment: `--peer-python
distilabel=/path/to/python --peer-python curator=/path/to/python`. It prints a Markdown table. The endpoint counts, so
all are measured the same way; steady state leaves out the first and the last second.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amalgam.llm.journal import open_journal
from amalgam.llm.request import NO_KEY, Endpoint, Limits, Request
from amalgam.llm.sending import send_requests
from bench.peers import PEERS
from bench.stub_endpoint import Stub, run_stub

MODEL = "stub"
SAMPLING = {"temperature": 0.7, "top_p": 0.95, "max_tokens": 64}
SHOTS = 4  # examples as chat turns, as in the pipeline's own requests
PEER_TIMEOUT = 900  # seconds after which a peer is given up

Chat = list[dict[str, str]]


@dataclass(frozen=True)
class Result:
    """A line of the table; `reason` says why there are no figures."""

    name: str
    report: dict[str, float]
    reason: str = ""


def make_chat(number: int) -> Chat:
    """Make a chat of the size of the default task's, different for each number."""
    task = "Write one customer comment that is positive: it praises the product, names a strength, or recommends it."
    chat = [
        {"role": "system", "content": "You are a parent who bought it for the family."},
        {"role": "user", "content": f"A customer has bought an electronic device, order {number}. {task}"},
    ]
    for shot in range(SHOTS):
        example = f"the picture of model {shot} is sharp and the battery lasts for two days, so i would buy it again."
        chat += [{"role": "assistant", "content": example}, {"role": "user", "content": f"Write another one. {task}"}]
    return chat


def run_amalgam(stub: Stub, chats: list[Chat], concurrency: int) -> None:
    """Send through the pipeline's own client; an answer counts once it is on disk."""
    with tempfile.TemporaryDirectory() as folder, open_journal(Path(folder) / "journal.sqlite") as journal:
        send_requests(
            _group_chats(chats),
            Endpoint(stub.url, MODEL, NO_KEY),
            journal,
            lambda _: None,
            limits=Limits(concurrency=concurrency),
            notify=_write_notice,
            total=len(chats),
        )
        keys = [request.key for group in _group_chats(chats) for request in group]
        missing = len(keys) - len(journal.find(keys))
    if missing:
        raise SystemExit(f"{missing} answers are not in the journal")


def run_gather(stub: Stub, chats: list[Chat], concurrency: int) -> None:
    """Gather over openai's async client, limited by a semaphore; answers are kept in memory."""
    asyncio.run(_gather(stub.url, chats, concurrency))


def run_loop(stub: Stub, chats: list[Chat], _concurrency: int) -> None:
    """Send one after the other, as a notebook does."""
    from openai import OpenAI

    with OpenAI(base_url=stub.url, api_key=NO_KEY) as client:
        for chat in chats:
            client.chat.completions.create(model=MODEL, messages=chat, **SAMPLING)  # type: ignore[call-overload]


def run_peer(name: str, python: str | None, stub: Stub, chats: list[Chat], concurrency: int) -> str:
    """Run another tool in its own environment; return its version.

    Raises:
        RuntimeError: the tool is missing, it failed, or it answered too few requests.
    """
    if python is None:
        raise RuntimeError(f"no `--peer-python {name}=…` was given")
    _write_notice(f"{name}: {len(chats)} requests")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chats.json"
        path.write_text(json.dumps(chats), encoding="utf-8")
        script = Path(__file__).with_name("peers.py")
        command = [python, str(script), name, stub.url, str(path), str(concurrency), str(Path(folder) / "out")]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PEER_TIMEOUT, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise RuntimeError(str(error)) from error
    printed = json.loads(done.stdout.splitlines()[-1])
    if printed["answers"] != len(chats):
        raise RuntimeError(f"{printed['answers']} of {len(chats)} answers")
    return str(printed["version"])


def measure_all(stub: Stub, requests: int, alone: int, concurrency: int, pythons: dict[str, str]) -> list[Result]:
    """Measure all clients on the same chats, one after the other."""
    chats = [make_chat(number) for number in range(requests)]
    client = f"openai {version('openai')}"
    own: list[tuple[str, Callable[[Stub, list[Chat], int], None], int]] = [
        ("Amalgam, answers in the journal", run_amalgam, requests),
        (f"`asyncio.gather` over {client}, no journal", run_gather, requests),
        (f"a notebook's loop over {client}", run_loop, alone),
    ]
    results = []
    for name, run, count in own:
        _write_notice(f"{name}: {count} requests")
        stub.reset()
        run(stub, chats[:count], concurrency)
        results.append(read_result(name, stub))
    for name in PEERS:
        stub.reset()
        try:
            found = run_peer(name, pythons.get(name), stub, chats, concurrency)
        except RuntimeError as error:
            _write_notice(f"{name} is SKIPPED: {error}")
            results.append(Result(name, {}, str(error)))
        else:
            results.append(read_result(f"{name} {found}", stub))
    return results


def read_result(name: str, stub: Stub) -> Result:
    """Make a result of the endpoint's counts."""
    report = stub.report()
    return Result(name, report, "" if report["steady_rate"] else "the run is too short")


def format_table(results: list[Result], ideal: float) -> Iterator[str]:
    """Format the results as Markdown, with the first as the reference."""
    yield "| client | requests/s, steady | share of the ideal | Amalgam is faster by | most in flight |"
    yield "|---|---|---|---|---|"
    ours = results[0].report["steady_rate"]
    for result in results:
        if result.reason:
            yield f"| {result.name} | not measured: {result.reason} | | | |"
            continue
        rate = result.report["steady_rate"]
        yield (
            f"| {result.name} | {rate:.1f} | {rate / ideal:.1%} | {ours / rate:.2f} times "
            f"| {result.report['most_in_flight']:.0f} |"
        )


async def _gather(url: str, chats: list[Chat], concurrency: int) -> list[Any]:
    from openai import AsyncOpenAI

    limit = asyncio.Semaphore(concurrency)
    async with AsyncOpenAI(base_url=url, api_key=NO_KEY) as client:
        return await asyncio.gather(*(_create(client, limit, chat) for chat in chats))


async def _create(client: Any, limit: asyncio.Semaphore, chat: Chat) -> Any:
    async with limit:
        return await client.chat.completions.create(model=MODEL, messages=chat, **SAMPLING)


def _group_chats(chats: list[Chat]) -> Iterator[list[Request]]:
    for number, chat in enumerate(chats):
        yield [Request(str(number), MODEL, {"messages": chat, **SAMPLING, "seed": number}, number)]


def _write_notice(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000, help="requests of each client")
    parser.add_argument("--alone", type=int, default=100, help="requests of the loop, which sends them one by one")
    parser.add_argument("--concurrency", type=int, default=64, help="requests in flight")
    parser.add_argument("--latency", type=float, default=0.3, help="seconds from a request to its answer")
    parser.add_argument("--peer-python", action="append", default=[], metavar="NAME=PYTHON", help="runs another tool")
    args = parser.parse_args()
    pythons = dict(pair.split("=", 1) for pair in args.peer_python)
    with run_stub(args.latency) as stub:
        measured = measure_all(stub, args.requests, args.alone, args.concurrency, pythons)
    ideal = args.concurrency / args.latency
    print(f"{args.concurrency} in flight, {args.latency:g} s latency: {ideal:.1f} requests/s is the ideal\n")
    print("\n".join(format_table(measured, ideal)))

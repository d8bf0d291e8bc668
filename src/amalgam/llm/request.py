"""Requests to a chat model: the key of an answer, tokens and prices, the endpoint, and files of answers.

Files of answers are JSON Lines, split by slot, so that a pool that grows does not change its full files. A slot is the
number of a place that an answer fills; several lines may fill one. The file `00003.jsonl` holds the slots 3000 to 3999.
A line holds `key` and the fields of `Answer` for the journal, `sample` (its slot), and the fields that a stage adds.
"""

import datetime
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from amalgam.errors import DataError
from amalgam.files import read_jsonl, write_jsonl

# The names that endpoints use for the most tokens of an answer.
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens")
NO_KEY = "none"  # sent if there is no key: servers that need none still expect the header
Fields = Mapping[str, Any]  # of `llm.body`
NO_FIELDS: Fields = MappingProxyType({})
BYTES_A_TOKEN = 4  # of English text, approximately
_LEAST_BYTES_A_TOKEN = 2  # fewer than in any text that people write
_TURN_TOKENS = 16  # the most that a chat template adds to a message
_SLOTS = 1000  # per file: a few hundred kilobytes, which are quick to hash and to transfer
_NAMES = "[0-9][0-9][0-9][0-9][0-9].jsonl"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SHOWN, _SECRET = 300, 8  # characters that an error shows of a message; length from which a key is secret ("x" is not)
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")  # the end of a model name that stands for one version


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it is sent."""

    id: str  # names it in errors
    # The hash of a GGUF file, or the name at an endpoint, so that an answer is never mistaken for another model's.
    model: str
    body: dict[str, Any]  # the rest of what is sent: messages and sampling params
    sample: int  # distinguishes equal requests that should get several answers
    group: str = ""  # requests of one group begin with the same long prefix, which a server reads only once
    rows: tuple[str, ...] = ()  # ids of the rows in its prompt

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of what is sent; it depends neither on the code nor on the order of keys."""
        sent = {"model": self.model, "body": self.body, "sample": self.sample}
        return hashlib.sha256(json.dumps(sent, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as received: the unparsed text, why the model stopped, tokens and cost (None without a price)."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None = None


def override_bodies(requests: Iterable[Request], fields: Fields) -> Iterator[Request]:
    """Put the fields of `llm.body` into the bodies of requests; None removes a field."""
    for request in requests:
        body = {name: value for name, value in {**request.body, **fields}.items() if value is not None}
        yield replace(request, body=body) if fields else request


def shape_body(body: dict[str, Any], level: int) -> dict[str, Any]:
    """Convert a body that asks for JSON by a schema (level 0) to another form: a JSON object (1), or only words (2)."""
    if not level or not wants_schema(body):
        return body
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    values = {
        name: f"one of {json.dumps(part['enum'], ensure_ascii=False)[1:-1]}" if "enum" in part else "a text"
        for name, part in properties.items()
    }
    keys = ", ".join(f'"{name}" ({value})' for name, value in values.items())
    # OpenAI requires the word JSON in the messages. If a system message states the task, the words belong there.
    messages = list(body["messages"])
    place = 0 if messages[0]["role"] == "system" else -1
    words = f"Answer with a JSON object and nothing else. Its keys: {keys}."
    messages[place] = messages[place] | {"content": f"{messages[place]['content']}\n\n{words}"}
    form = {"response_format": {"type": "json_object"}} if level == 1 else {}
    return {name: part for name, part in body.items() if name != "response_format"} | {"messages": messages} | form


def wants_schema(body: Mapping[str, Any]) -> bool:
    """Return whether the body of a request asks for JSON by a schema."""
    form = body.get("response_format")
    return isinstance(form, dict) and form.get("type") == "json_schema"


def count_bytes(request: Request) -> int:
    """Count the bytes of all messages; `BYTES_A_TOKEN` converts them to an approximate number of tokens."""
    return sum(len(message["content"].encode()) for message in request.body["messages"])


def bound_answer(request: Request) -> int:
    """Return the most tokens that the answer can have, from whichever field the endpoint uses."""
    return max(int(request.body[name]) for name in TOKEN_LIMITS if name in request.body)


def bound_tokens(request: Request) -> tuple[int, int]:
    """Return the most tokens that prompt and answer can be billed for; no tokenizer makes two tokens from one byte."""
    schema = json.dumps(request.body["response_format"]) if "response_format" in request.body else ""
    return count_bytes(request) + len(schema) + _TURN_TOKENS * len(request.body["messages"]), bound_answer(request)


def bound_context(request: Request) -> int:
    """Return the context that a request needs for prompt and answer together; enough for any text by people."""
    turns = _TURN_TOKENS * len(request.body["messages"])
    return count_bytes(request) // _LEAST_BYTES_A_TOKEN + turns + bound_answer(request)


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens of prompts and of answers, and the share of both that the Batch API charges."""

    prompt: float
    completion: float
    batch: float = 0.5

    def cost(self, prompt_tokens: int, completion_tokens: int, batch: bool = False) -> float:
        """Return what a request and its answer cost, in US dollars."""
        full = (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1_000_000
        return full * self.batch if batch else full


FREE = Price(0.0, 0.0)  # of a model that runs in this process


@dataclass(slots=True)
class Endpoint:
    """Where requests are sent."""

    url: str  # the base URL; for Azure, the resource's
    model: str  # its name there; for Azure, the deployment's
    api_key: str  # or NO_KEY
    api_version: str = ""  # Azure's; "" for every other endpoint
    key_name: str = "OPENAI_API_KEY"  # the environment variable that holds the key
    slots: int | None = None  # requests that it answers at once, if known: then exactly that many are in flight
    level: int = 0  # the form in which it accepts JSON requests, see `shape_body`; found out during the run

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, where the environment's proxy must not be used."""
        return urlsplit(self.url).hostname in _LOOPBACK

    def shorten(self, message: str) -> str:
        """Return a message on one line of bounded length, without the key."""
        shown = message.replace(self.api_key, "***") if len(self.api_key) >= _SECRET else message
        return " ".join(shown.split())[:_SHOWN] or "no message"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits on the load of an endpoint, and on what it may cost."""

    concurrency: int | None = None  # most requests in flight; None adapts it
    timeout: float = 120.0  # seconds after which a request is given up
    retries: int = 5  # times that a request is sent again while no other is answered either
    budget_usd: float | None = None  # the most that all answers of the journal may cost
    max_requests: int | None = None  # the most that may be sent in a run, counting each try
    sent: int = 0  # requests that this run has sent already
    price: Price | None = None  # of the model; None if it is not known


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: float = Field(ge=0, allow_inf_nan=False)
    completion: float = Field(ge=0, allow_inf_nan=False)


class Prices(BaseModel):
    """The price list: the date of its figures, where they come from, and prices by the model's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: datetime.date
    source: str
    batch: float = Field(ge=0, le=1)
    models: dict[str, _Line]

    def find(self, model: str) -> Price | None:
        """Return a model's price or None; a dated name without a line of its own has the price of the undated name."""
        line = self.models.get(model) or self.models.get(_DATE.sub("", model))
        return Price(line.prompt, line.completion, self.batch) if line else None


def load_prices(path: Path) -> Prices:
    """Read the price list; raise a DataError that reports an error in it."""
    try:
        return Prices.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the top level"
        raise DataError(f"the price list {path} has a wrong value at `{place}` ({first['msg']}): fix it") from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"the price list {path} is missing or not valid YAML: restore it from Git") from error


class _Stored(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    text: str
    finish_reason: str
    prompt_tokens: Annotated[int, Field(ge=0, lt=2**63)]
    completion_tokens: Annotated[int, Field(ge=0, lt=2**63)]
    cost_usd: Annotated[float, Field(ge=0)] | None = None


def parse_stored(line: bytes) -> tuple[str, Answer]:
    """Return the key and the answer in a line of a file of answers; raise a ValueError if it holds none."""
    fields = _Stored.model_validate_json(line).model_dump()
    return fields.pop("key"), Answer(**fields)


def write_answers(folder: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Write lines, in ascending order of `sample`, into the files of their slots; remove files that get no line."""
    folder.mkdir(parents=True, exist_ok=True)
    written = set()
    for shard, part in groupby(lines, key=lambda line: int(line["sample"]) // _SLOTS):
        path = folder / f"{shard:05d}.jsonl"
        write_jsonl(path, part)
        written.add(path)
    for path in set(folder.glob(_NAMES)) - written:
        path.unlink()


def read_answers(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that `write_answers` wrote, in order; none from a missing folder: DVC keeps no empty ones."""
    for path in sorted(folder.glob(_NAMES)):
        yield from read_jsonl(path)


def sum_answers(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum the tokens and the US dollars of the answers in lines; the cost is None if one of them is not known."""
    prompt, completion, costs = 0, 0, []
    for line in lines:
        prompt += line["prompt_tokens"]
        completion += line["completion_tokens"]
        costs.append(line["cost_usd"])
    cost = None if None in costs else round(sum(costs, 0.0), 6)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "cost_usd": cost}

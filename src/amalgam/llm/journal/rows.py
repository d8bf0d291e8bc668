"""The journal's tables, what a row of them is made of, and how a row proves that it is whole.

    answers   one a request: the answer, and beside its key what a person wants to know of the request
    setups    models and sampling settings, of which many requests share one; the number is made of the content
    spending  one row: US dollars that the answers recorded here have cost, kept up in their transaction, and what
              requests without an answer may have cost; the latter is lost where the file is damaged
    batches   what was submitted to the Batch API and not yet collected
    folders   hashes of folders of answers that were read in

Messages of a request are not kept: they are long, they hold human-coded responses, and the prompts can be made again.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from amalgam.errors import DataError
from amalgam.llm.request import Answer, Request

APPLICATION, VERSION = 0x416D6C67, 2  # what marks a file as a journal, and as one of this form

SCHEMA = f"""
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    setup INTEGER,
    sample INTEGER,
    seeded INTEGER NOT NULL,
    text TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost_usd REAL,
    checksum INTEGER NOT NULL
);
CREATE TABLE setups (id INTEGER PRIMARY KEY, model TEXT NOT NULL, settings TEXT NOT NULL);
CREATE TABLE spending (usd REAL NOT NULL);
CREATE TABLE batches (name TEXT PRIMARY KEY, remote TEXT NOT NULL, keys BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE folders (source TEXT PRIMARY KEY);
INSERT INTO spending VALUES (0.0);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""
FIRST_FORM = ["key", "request", "answer"]  # the columns of the only table of the first form

_SAMPLE, SEEDED, _TEXT, COST = 2, 3, 4, 8  # where in the row of an answer they are

_ANSWER_FIELDS = [field.name for field in fields(Answer)]

Row = tuple[Any, ...]  # the columns of a table but the number of the row
Setup = tuple[int, str, str]  # number, model, settings as JSON


def _check_unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair is no character") from error
    return text


_Text = Annotated[str, AfterValidator(_check_unicode)]
_Tokens = Annotated[int, Field(ge=0, lt=2**63)]


class StoredAnswer(BaseModel):
    """A line of a file of answers: a key, the fields of `Answer`, and in an export what else is known."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    text: _Text
    finish_reason: _Text
    prompt_tokens: _Tokens
    completion_tokens: _Tokens
    cost_usd: Annotated[float, Field(ge=0)] | None = None
    model: _Text = ""
    request: dict[_Text, bool | int | float] = {}  # its sample and its sampling settings

    @property
    def answer(self) -> Answer:
        """The answer in it."""
        return Answer(self.text, self.finish_reason, self.prompt_tokens, self.completion_tokens, self.cost_usd)

    @property
    def sample(self) -> int | None:
        """The sample of the request, where it is known."""
        sample = self.request.get("sample")
        return int(sample) if isinstance(sample, int) and abs(sample) < 2**63 else None

    @property
    def setup(self) -> Setup | None:
        """The setup of the request, where its model is known."""
        settings = {name: value for name, value in self.request.items() if name != "sample"}
        return build_setup(self.model, settings) if self.model else None


def seal(values: Sequence[object]) -> int:
    """Return the checksum of a row's other columns."""
    texts = [value.hex() if isinstance(value, bytes) else str(value) for value in values]
    return zlib.crc32("\0".join(texts).encode())


def is_whole(row: Sequence[object]) -> bool:
    """Say whether a row is as it was written; its checksum is the last column."""
    return row[-1] == seal(row[:-1])


def build_setup(model: str, settings: Mapping[str, object]) -> Setup:
    """Make the row of a model and its sampling settings; its number is a hash of both."""
    text = json.dumps(dict(sorted(settings.items())))
    return _number_setup(model, text), model, text


def is_setup(number: object, model: object, settings: object) -> bool:
    """Say whether a setup is as it was written."""
    return isinstance(model, str) and isinstance(settings, str) and number == _number_setup(model, settings)


@lru_cache(maxsize=64)
def _number_setup(model: str, settings: str) -> int:
    # 48 bits, which SQLite keeps in six bytes.
    return int.from_bytes(hashlib.sha256(json.dumps([model, settings]).encode()).digest()[:6], "big")


def describe_request(request: Request) -> Setup:
    """Make the setup of a request. Of its body only numbers are kept, so that no text and no name gets in."""
    numbers = {name: value for name, value in request.body.items() if isinstance(value, int | float) and name != "seed"}
    return build_setup(request.model, numbers)


def build_row(key: str, setup: int | None, sample: int | None, answer: Answer, *, seeded: bool) -> Row:
    """Make the row of an answer; the numbers become what SQLite will give back."""
    cost = None if answer.cost_usd is None else float(answer.cost_usd) + 0.0  # it knows no -0.0
    tokens = int(answer.prompt_tokens), int(answer.completion_tokens)
    values = (bytes.fromhex(key), setup, sample, int(seeded), answer.text, answer.finish_reason, *tokens, cost)
    return (*values, seal(values))


def read_answer(row: Sequence[Any]) -> Answer:
    """Read the answer in a row that is whole."""
    return Answer(*row[_TEXT : COST + 1])


def build_line(row: Sequence[Any], model: str, settings: str | None) -> dict[str, Any]:
    """Make the line of an export, which `StoredAnswer` reads, from a row that is whole and from its setup."""
    line = {"key": row[0].hex(), "model": model}
    if settings is not None:
        line["request"] = ({} if row[_SAMPLE] is None else {"sample": row[_SAMPLE]}) | json.loads(settings)
    return line | dict(zip(_ANSWER_FIELDS, row[_TEXT : COST + 1], strict=True))


def build_batch(name: str, remote: str, keys: bytes) -> Row:
    """Make the row of a batch; `keys` are those of its requests, one after the other."""
    return name, remote, keys, seal((name, remote, keys))


def convert_first_form(key: object, request: object, answer: object) -> tuple[Setup, Row] | None:
    """Make setup and row from a row of the first form; None where it is damaged."""
    try:
        sent = json.loads(str(request))
        stored = StoredAnswer.model_validate({"key": key, **json.loads(str(answer))})
        setup = describe_request(Request("", sent["model"], sent["body"], sent["sample"]))
        return setup, build_row(stored.key, setup[0], sent["sample"], stored.answer, seeded=False)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def parse_stored(line: dict[str, Any]) -> StoredAnswer:
    """Check a stored answer.

    Raises:
        DataError: it is none.
    """
    try:
        return StoredAnswer.model_validate(line)
    except ValidationError as error:
        raise DataError(f"a stored answer cannot be read ({explain_fault(error)}): run `dvc checkout`") from error


def explain_fault(error: ValidationError) -> str:
    """Say what is wrong with a stored answer, without a text that is in it."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(map(str, first["loc"]))
    return f"`{field}`: {first['msg']}" if field else first["msg"]

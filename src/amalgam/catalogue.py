"""The base models that Amalgam knows by name: where their files come from, and the hash of each."""

from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

Kind = Literal["llm", "encoder"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Formats that hold data alone. A pickle or a script could run code, so there is no place for one in an entry.
DataFile = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*\.(safetensors|gguf|json|txt)$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Hub(_Section):
    repo: str = Field(pattern=r"^\w[\w.-]*/[\w.-]+$")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")


class _Wheel(_Section):
    package: str
    sha256: Sha256
    part: str = ""  # the file in it that is a part of the whole


class Mirror(_Section):
    """Wheels that together carry a model's files; catalogue.yaml says what the layouts mean."""

    version: str
    layout: Literal["files", "parts", "zip_parts"]
    folder: str = ""
    wheels: tuple[_Wheel, ...] = Field(min_length=1, strict=False)


class Entry(_Section):
    """One base model. `files` maps the name of each file at the hub to its SHA-256."""

    kind: Kind
    licence: str
    hub: _Hub
    files: dict[DataFile, Sha256] = Field(min_length=1)
    mirror: Mirror | None = None


@cache
def load_catalogue() -> dict[str, Entry]:
    """Return all entries by name, in the order of catalogue.yaml."""
    text = files("amalgam").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Entry]).validate_python(yaml.safe_load(text))

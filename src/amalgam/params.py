"""params.yaml as typed, frozen values. Each stage lists the fields that it reads, except `Driving`, in dvc.yaml."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from amalgam.errors import ParamsError
from amalgam.llm.request import TOKEN_LIMITS


def _check_url(value: str) -> str:
    """Check `llm.endpoint`."""
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and value.split() == [value]
    except ValueError:  # from an invalid port, or from half an IPv6 address
        is_url = False
    if value != "embedded" and not is_url:
        raise ValueError("be `embedded` or a URL that begins with http:// or https://, with a host")
    if value.rstrip("/").endswith("/completions"):
        raise ValueError("be the base URL of the API, which ends before /chat/completions")
    return value


def _check_fields(value: dict[str, Any]) -> dict[str, Any]:
    """Check `llm.body`."""
    if taken := sorted({"messages", "model", "n", "response_format", "stream"} & value.keys()):
        raise ValueError(f"not contain `{taken[0]}`: it is set elsewhere")
    if value.get("seed") is not None:
        raise ValueError("not set `seed`, because each request has its own; null leaves it out")
    limits = [value[name] for name in TOKEN_LIMITS if value.get(name) is not None]
    if any(type(limit) is not int or limit < 1 for limit in limits) or (not limits and "max_tokens" in value):
        raise ValueError("set `max_completion_tokens` to a number of tokens if it leaves out `max_tokens`")
    return value


def _check_seeds(value: list[int]) -> list[int]:
    if twice := sorted({seed for seed in value if value.count(seed) > 1}):
        raise ValueError(f"hold each seed once, but {twice[0]} is there twice")
    return sorted(value)  # their order has no meaning, and tables use this one


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$")]  # of a file or folder
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Model = TypeVar("Model", bound="Section")
_ALLOWED = {  # by the type of pydantic's error, where pydantic's own message is for programmers
    "model_type": "be a section with keys of its own",
    "string_pattern_mismatch": "be a name of letters, digits, `_` and `-`",
    "string_type": "be text: put it in quotes",  # YAML reads it as a date or a number
}

# What `quality` means for keys that params.yaml leaves null, from large and good to small and fast; a value there wins.
# Only `_fill_in` fills a key in, so the rest of the code sees only values. The layers of the `best` student stay null:
# the size of its transfer set decides (`student.choose_depth`). A stage that reads one of these keys lists `quality`
# among its params in dvc.yaml.
Quality = Literal["best", "whole", "small", "fast"]
_MPNET = {"teacher.model": "all-mpnet-base-v2", "teacher.trained_layers": 6}
_MINILM = {"teacher.model": "all-minilm-l6-v2", "teacher.trained_layers": 6}
_OWN = {"distillation.student": "layers"}
_SMALL = {"distillation.layers": 4, "distillation.trained_layers": 4}
PRESETS: dict[str, dict[str, Any]] = {
    "best": _MPNET | _OWN | {"distillation.layers": None, "distillation.trained_layers": None},
    "whole": _MPNET | _OWN | {"distillation.layers": 12, "distillation.trained_layers": 6},
    "small": _MPNET | {"distillation.student": "all-minilm-l6-v2"} | _SMALL,
    "fast": _MINILM | _OWN | _SMALL,
}


class Section(BaseModel):
    """Base of all sections: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Split(Section):
    """How the human-coded rows are divided."""

    seed: Seed
    by: Literal["random", "time"]
    test: int = Field(ge=10)
    validation: float = Field(gt=0, lt=1)
    unlabelled: int = Field(ge=0)


class Driving(Section):
    """How requests are sent, and how many; no result depends on this, so no stage does."""

    batch: bool
    offline: bool
    budget_usd: float | None = Field(ge=0)
    max_requests: int | None = Field(ge=0)
    concurrency: int | None = Field(ge=1, le=4096)
    timeout: float = Field(gt=0)


class Llm(Driving):
    """The language model that writes and judges."""

    endpoint: Annotated[str, AfterValidator(_check_url)]
    model: str = Field(min_length=1)
    api_version: str | None = Field(min_length=1)
    body: Annotated[dict[str, Any], AfterValidator(_check_fields)]


class Prompts(Section):
    """What a request for synthetic responses contains."""

    seed: Seed
    template: Name
    shots: int = Field(ge=0)
    responses: int = Field(ge=1, le=100)
    format: Literal["text", "lines", "json"]


class Synthesis(Section):
    """Where synthetic rows come from; how many responses are written, and how they are sampled."""

    source: Literal["write", "label", "both"]
    rows: int = Field(ge=1)
    temperature: float = Field(ge=0, le=2)
    top_p: float = Field(gt=0, le=1)
    max_tokens: int = Field(ge=1)


class Judge(Section):
    """How the LLM grades a response against the rubric."""

    rows: int = Field(ge=0)
    rationale: bool


class Curation(Section):
    """Which synthetic rows are kept."""

    near_duplicate: float = Field(gt=0, le=1)
    consistency: Literal["none", "judge", "human_model"]


class Teacher(Section):
    """Fine-tuning of the teacher, and how it uses the synthetic rows."""

    model: str = Field(min_length=1)
    max_length: int = Field(ge=8, le=8192)
    trained_layers: int = Field(ge=1)
    recipe: Literal["amalgam", "paper"]
    learning_rate: float = Field(gt=0, lt=1)
    batch_size: int = Field(ge=1)
    steps: int = Field(ge=1)
    class_weights: bool
    guard: bool
    min_validation_rows: int = Field(ge=0)


class Distillation(Section):
    """Training of the student on the teacher's outputs."""

    student: str = Field(min_length=1)
    layers: int | None = Field(ge=1)
    trained_layers: int | None = Field(ge=1)
    temperature: float = Field(gt=0)
    left_out: int = Field(ge=0)
    learning_rate: float = Field(gt=0, lt=1)
    steps: int = Field(ge=1)


class Baselines(Section):
    """The models that the teacher has to beat."""

    llm_grader: bool


class Evaluation(Section):
    """How results are measured."""

    confidence: float = Field(gt=0.5, lt=1)


class Shipping(Section):
    """What ships, and when it defers to a human."""

    agreement: float = Field(gt=0.5, lt=1)


class Params(Section):
    """All of params.yaml."""

    task: Name
    ratio: Share
    human_rows: int = Field(ge=4)
    quality: Quality
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_check_seeds)]
    split: Split
    llm: Llm
    prompts: Prompts
    synthesis: Synthesis
    judge: Judge
    curation: Curation
    teacher: Teacher
    distillation: Distillation
    baselines: Baselines
    evaluation: Evaluation
    shipping: Shipping


class _Loader(yaml.SafeLoader):
    """Reads numbers as DVC writes them: `dvc exp run -S` writes 2e-05 where YAML 1.1 needs 2.0e-05."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_params(path: Path) -> Params:
    """Read params.yaml, fill in what `quality` means, and check it."""
    return load_section(path, Params)


def load_section(path: Path, model: type[Model], **changes: Any) -> Model:
    """Read a file of params, with `changes` to some of its top keys, as `load_params` does."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError as error:
        raise ParamsError(f"{path} is missing: run from the top folder of the project") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1}" if place else ""
        raise ParamsError(f"{path}{where} is not valid YAML: look for the error with `git diff {path}`") from error
    if isinstance(values, dict):
        values |= changes
        _fill_in(values)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ParamsError(f"{path}: {describe_errors(error)}") from error


def describe_errors(error: ValidationError) -> str:
    """Return one line with the key, the value and what is allowed, for each fault."""
    return "; ".join(_describe(fault) for fault in error.errors())


def dump_tracked(params: Params) -> dict[str, Any]:
    """Return the values that decide a result, as sections of plain values."""
    return params.model_dump(exclude={"llm": set(Driving.model_fields)})


def _fill_in(values: dict[str, Any]) -> None:
    """Put the preset's values in place of null; an unknown `quality` counts as `best`, so that there is one fault."""
    for key, value in PRESETS.get(str(values.get("quality")), PRESETS["best"]).items():
        section, name = key.split(".")
        keys = values.get(section)
        if isinstance(keys, dict) and name in keys and keys[name] is None:
            keys[name] = value


def _describe(fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        return f"`{key}` is missing"
    if fault["type"] == "extra_forbidden":
        return f"`{key}` is not a known key: check its spelling"
    words = re.sub(r"^(Value error, )?((Input|String|List|Dictionary|Value) should )?", "", fault["msg"])
    allowed = _ALLOWED.get(fault["type"], words)
    if not key:
        return "the file must hold keys with values" if fault["type"] == "model_type" else allowed
    value = fault["input"]
    shown = repr(value) if isinstance(value, str) else value
    known = "" if isinstance(value, (dict, list)) else f"is {shown}, but "
    return f"`{key}` {known}must {allowed}"

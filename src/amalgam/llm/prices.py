"""What a model costs: the price list `data/prices.yaml`, whose figures have a date."""

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from amalgam.errors import DataError

_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")  # at the end of the name of one version of a model


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens of prompts and of answers, and the Batch API's share of both."""

    prompt: float
    completion: float
    batch: float = 0.5

    def cost(self, prompt_tokens: int, completion_tokens: int, batch: bool = False) -> float:
        """Return what a request and its answer cost, in US dollars."""
        full = (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1_000_000
        return full * self.batch if batch else full


FREE = Price(0.0, 0.0)  # of a model that runs in this process


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: float = Field(ge=0, allow_inf_nan=False)
    completion: float = Field(ge=0, allow_inf_nan=False)


class Prices(BaseModel):
    """The price list: the day that its figures are of, where they come from, and prices by the model's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: datetime.date
    source: str
    batch: float = Field(ge=0, le=1)
    models: dict[str, _Line]

    def find(self, model: str) -> Price | None:
        """Return the price of a model, None where it is not known.

        A name that ends with a date costs what the name without it does, unless it has a line of its own.
        """
        line = self.models.get(model) or self.models.get(_DATE.sub("", model))
        return Price(line.prompt, line.completion, self.batch) if line else None


def load_prices(path: Path) -> Prices:
    """Read the price list; a DataError says what is wrong with it."""
    try:
        return Prices.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"the price list {path} cannot be read ({error.strerror}): get it back from Git") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"the price list {path} is not valid YAML: mend it, or get it back from Git") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise DataError(f"the price list {path} has a wrong value at `{place}` ({first['msg']}): mend it") from error

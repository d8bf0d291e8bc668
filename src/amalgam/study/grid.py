"""The study's params, its presets, the cells that they expand to, and the folders of a cell's rows.

In the target folder, `TASK-ROWS-SPLIT/` holds a split as CSV. Its subfolder `LLM-TEMPERATURE/` holds the answers of an
LLM and, for each filter, `FILTER.csv` with all its responses and the reason against each.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pandas as pd
from pydantic import BeforeValidator, Field

from amalgam.files import read_rows
from amalgam.params import Params, Quality, Section, Seed, Share, load_section

Filter = Literal["none", "judge", "human_model"]
Experiment = Literal["size", "variety", "consistency", "scarcity", "paper", "time"]
Preset = Literal["quick", "size", "variety", "consistency", "scarcity", "paper", "time"]
_STEPS = list(range(25, 251, 25))  # synthetic rows, as the paper adds them
_RATIOS = [0.2, 0.5, 0.8, 1.0]
# By preset and experiment, the axes that differ from params.yaml. Filters are compared at ratio 0.5: a strict filter
# seldom leaves enough for a higher one. Scarcity always adds the same number, so that only the human rows vary.
_FILTERS: dict[str, list[Any]] = {"filters": ["none", "judge", "human_model"], "ratios": [0.5]}
PRESETS: dict[Preset, dict[Experiment, dict[str, list[Any]]]] = {
    "quick": {"size": {"ratios": _RATIOS}, "variety": {"temperatures": [0.3, 0.7, 0.9]}, "consistency": _FILTERS},
    "size": {"size": {"ratios": _RATIOS, "rows": _STEPS}},
    "variety": {"variety": {"temperatures": [0.1, 0.3, 0.5, 0.7, 0.9]}},
    "consistency": {"consistency": _FILTERS},
    "scarcity": {"scarcity": {"human_rows": [10, 25, 51, 100, 200, 500], "ratios": [], "rows": [200]}},
    "paper": {"paper": {"recipes": ["amalgam", "protocol"], "ratios": [], "rows": _STEPS[1::2]}},
    "time": {"time": {"splits": ["random", "time"]}},
}
# The axis that each experiment varies, by its column in the table of results.
VARIED: dict[Experiment, str] = {
    "size": "ratio",
    "variety": "temperature",
    "consistency": "filter",
    "scarcity": "human_rows",
    "paper": "synthetic",
    "time": "split",
}
_SETTABLE = ("ratios", "rows", "temperatures", "filters", "human_rows")


class Study(Section):
    """All of study/params.yaml; an axis that is None takes the values of the preset."""

    preset: Annotated[
        list[Preset], BeforeValidator(lambda value: [value] if isinstance(value, str) else value), Field(min_length=1)
    ]
    tasks: list[str] = Field(min_length=1)
    llms: list[str] = Field(min_length=1)
    quality: Quality
    seeds: list[Seed] = Field(min_length=1)
    ratios: list[Share] | None
    rows: list[Annotated[int, Field(ge=1)]] | None
    temperatures: list[Annotated[float, Field(ge=0, le=2)]] | None
    filters: list[Filter] | None
    human_rows: list[Annotated[int, Field(ge=4)]] | None
    ray: str | None


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A teacher of one setting and seed, with a synthetic share `ratio` or else a number of synthetic rows `rows`.

    A human-only teacher has neither: it is the same for all LLMs, temperatures and filters.
    """

    task: str
    split: str
    human_rows: int
    recipe: str  # as `teacher.recipe`, or `protocol`: the paper's recipe with the weaknesses of its protocol
    seed: int
    ratio: float = 0.0
    rows: int = 0
    llm: str = ""
    temperature: float = 0.0
    filter: str = ""

    @property
    def twin(self) -> "Cell":
        """The human-only teacher that this teacher is compared with."""
        return Cell(self.task, self.split, self.human_rows, self.recipe, self.seed)

    @property
    def data(self) -> str:
        """Folder of the split rows that it learns from and is tested on."""
        return f"{self.task}-{self.human_rows}-{self.split}"

    @property
    def pool(self) -> str:
        """Folder of its synthetic rows, "" for a human-only teacher."""
        return f"{self.data}/{name_llm(self.llm)}-{self.temperature:g}" if self.llm else ""

    def __str__(self) -> str:
        """Describe the cell for a person."""
        split = ", split by time" if self.split == "time" else ""
        recipe = {"paper": ", the paper's recipe", "protocol": ", the paper's protocol"}.get(self.recipe, "")
        if not self.llm:
            return f"{self.task}, {self.human_rows} human rows alone{split}{recipe}, seed {self.seed}"
        amount = f"{self.rows} synthetic rows" if self.rows else f"ratio {self.ratio:g}"
        return (
            f"{self.task}, {self.human_rows} human rows{split}{recipe}, {amount} of {self.llm} at temperature "
            f"{self.temperature:g}, filter {self.filter}, seed {self.seed}"
        )


class Data(NamedTuple):
    """The split rows of a task: those for training, those for validation, and those that are scored."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


read_once = lru_cache(maxsize=64)(read_rows)  # a file of rows is complete when it is read, and many cells share it


def read_data(target: Path, cell: Cell) -> Data:
    """Read the split rows of a cell."""
    return Data(*(read_once(target / cell.data / f"{part}.csv") for part in Data._fields))


def name_llm(llm: str) -> str:
    """Return the name of an LLM's folder; the LLM's own name may be a path."""
    return re.sub(r"[^\w.-]+", "_", llm)


def load_study(folder: Path) -> tuple[Study, Params]:
    """Read study/params.yaml, and params.yaml for everything that the study does not set."""
    study = load_section(folder / "study/params.yaml", Study)
    return study, load_section(folder / "params.yaml", Params, quality=study.quality)


def expand_grid(study: Study, params: Params) -> dict[Cell, list[Experiment]]:
    """Return the cells of all experiments, human-only teachers first, with the experiments that each belongs to."""
    found: dict[Cell, list[Experiment]] = {}
    for experiment, axes in _list_blocks(study, params):
        amounts = [{"ratio": float(ratio)} for ratio in axes["ratios"]] + [{"rows": rows} for rows in axes["rows"]]
        twins = product(study.tasks, axes["splits"], axes["human_rows"], axes["recipes"], study.seeds)
        pools = product(study.llms, axes["temperatures"], axes["filters"])
        for first, amount, (llm, temperature, name) in product(twins, amounts, pools):
            twin = Cell(*first)
            cell = replace(twin, **amount, llm=llm, temperature=float(temperature), filter=name)
            for one in (twin, cell) if cell.ratio or cell.rows else (twin,):
                if experiment not in (experiments := found.setdefault(one, [])):
                    experiments.append(experiment)
    return dict(sorted(found.items(), key=lambda item: (item[0] != item[0].twin, item[0])))


def _list_blocks(study: Study, params: Params) -> list[tuple[Experiment, dict[str, list[Any]]]]:
    """Set the axes that study/params.yaml gives: in the experiments that vary them, or in all if none does."""
    plain: dict[str, list[Any]]
    plain = {"ratios": [params.ratio], "rows": [], "temperatures": [params.synthesis.temperature], "filters": ["none"]}
    plain |= {"human_rows": [params.human_rows], "splits": [params.split.by], "recipes": [params.teacher.recipe]}
    blocks = [(name, plain | axes) for preset in study.preset for name, axes in PRESETS[preset].items()]
    for axis in _SETTABLE:
        if (given := getattr(study, axis)) is not None:
            varying = [axes for _, axes in blocks if len(axes[axis]) > 1]
            for axes in varying or [axes for _, axes in blocks]:
                axes[axis] = given
    return blocks

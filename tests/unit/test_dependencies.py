"""`deps:` of dvc.yaml: whatever shapes an output of a stage, including code imported through other modules."""

import ast
import re
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
_FILE = re.compile(r'"(\w[\w./-]{0,99})"')  # what may be the name of a file or folder next to a module
TASK: str = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["task"]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# Code whose changes alter how results are reached, not what they are, with all that it imports; each with the reason.
# stages/runtime.py and data/prices.yaml are alike: an answer's cost is kept with it, whatever the prices are later.
PLUMBING = {
    "amalgam/errors.py": "what a user is told",
    "amalgam/files.py": "contents and cells are read as they were written",
    "amalgam/machine.py": "where, in how many threads and how fast work is done, and what the terminal shows",
    "amalgam/params.py": "each value is a dependency of its own, under `params`",
    "amalgam/tasks/schema.py": "task.yaml is a dependency, and what it says is checked and taken as it stands",
}


def list_outs(stage: str) -> list[str]:
    outs = [out for kind in ("outs", "metrics", "plots") for out in STAGES[stage].get(kind, [])]
    return [next(iter(out)) if isinstance(out, dict) else out for out in outs]


def list_deps(stage: str) -> list[str]:
    return [dep.replace("${task}", TASK) for dep in STAGES[stage]["deps"]]


@cache
def trace_needed(script: Path) -> set[Path]:
    """Return all that a script needs from the library, directly or not: modules, and files next to them."""
    finder = ModuleFinder([str(SOURCE)], excludes=[name[:-3].replace("/", ".") for name in PLUMBING])
    finder.run_script(str(script))
    modules = {Path(module.__file__) for module in finder.modules.values() if module.__file__}
    modules = {path for path in modules if path.is_relative_to(SOURCE) and not is_empty(path)}
    beside = {path.parent / name for path in modules for name in _FILE.findall(path.read_text(encoding="utf-8"))}
    return modules | {path for path in beside if path.exists() and not (path / "__init__.py").exists()}


def is_empty(module: Path) -> bool:
    """Return whether a module has only a docstring."""
    return len(ast.parse(module.read_text(encoding="utf-8")).body) < 2


def list_inputs(stage: str) -> set[str]:
    """List the files and folders of the project that a stage's script names."""
    texts = [
        call.args[0].value
        for call in ast.walk(ast.parse((ROOT / f"stages/{stage}.py").read_text("utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Path" and call.args
        if isinstance(call.args[0], ast.Constant)
    ]
    return {str(text) for text in texts if str(text).startswith(("data/", "metrics", "models/"))}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_that_shapes_its_output_and_on_the_files_that_it_names(stage: str) -> None:
    script, listed = ROOT / f"stages/{stage}.py", list_deps(stage)
    deps = [ROOT / dep for dep in listed]
    lacking = [
        f"{path.relative_to(ROOT)}, which its code needs"
        for path in sorted(trace_needed(script))
        if not any(path.is_relative_to(dep) for dep in deps)
    ]
    known = [Path(name) for name in [*listed, *list_outs(stage)]]
    lacking += [
        f"{text}, which its script names"
        for text in list_inputs(stage)
        if not any(name.is_relative_to(text) or Path(text).is_relative_to(name) for name in known)
    ]
    if lacking:
        pytest.fail(f"`deps` of stage {stage} in dvc.yaml lacks " + "; ".join(lacking), pytrace=False)
    assert script in deps
    assert STAGES[stage]["deps"] == sorted(STAGES[stage]["deps"])


def test_imports_are_followed_into_functions_and_packages_and_to_files() -> None:
    found = {str(path.relative_to(SOURCE / "amalgam")) for path in trace_needed(ROOT / "stages/curate.py")}
    assert {"synthesis/curate.py", "synthesis/phrases.yaml", "training/encoding.py"} <= found  # a function imports it
    assert not {"llm/journal.py", "synthesis/__init__.py"} & found  # the first is not needed; the second is empty

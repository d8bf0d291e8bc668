"""`deps:` of dvc.yaml: whatever shapes an output of a stage, including code imported through other modules."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
_FILE = re.compile(r"[\w.-][\w./-]{0,99}")  # what may be the name of a file next to a module
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


def walk_run(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes except those that only a type checker reads."""
    yield node
    typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    for child in node.orelse if typing and isinstance(node, ast.If) else ast.iter_child_nodes(node):
        yield from walk_run(child)


def find_module(name: str) -> Path | None:
    """Return the file of a module of the library, None for any other name."""
    path = SOURCE / name.replace(".", "/")
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


@cache
def find_needed(path: Path) -> set[Path]:
    """Find what a file needs from the library: modules, their packages, and files next to it that it names."""
    names: set[str] = set()
    texts: set[str] = set()
    for node in walk_run(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write the whole name of an imported module"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _FILE.fullmatch(node.value):
            texts.add(node.value)
    packages = {name.rsplit(".", count)[0] for name in names for count in range(1, name.count(".") + 1)}
    modules = {find_module(name) for name in names | packages}
    beside = {path.parent / text for text in texts if path.is_relative_to(SOURCE) and text.strip("./")}
    data = {file for file in beside if file.exists() and file.suffix != ".py" and not (file / "__init__.py").exists()}
    return {module for module in modules if module and not is_empty(module)} | data


@cache
def is_empty(module: Path) -> bool:
    """Return whether a module has only a docstring."""
    body = ast.parse(module.read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


@cache
def trace_needed(script: Path) -> dict[Path, Path]:
    """Return all that a script needs from the library, directly or not, each with the file that brings it in."""
    brought: dict[Path, Path] = {}
    waiting = [script]
    for path in waiting:
        followed = path.suffix == ".py" and path not in {SOURCE / name for name in PLUMBING}
        for needed in sorted(find_needed(path) - brought.keys()) if followed else []:
            brought[needed] = path
            waiting.append(needed)
    return brought


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
    plumbing = [SOURCE / name for name in PLUMBING]
    lacking = [
        f"{path.relative_to(ROOT)}, which {by.relative_to(ROOT)} needs"
        for path, by in trace_needed(script).items()
        if not any(path.is_relative_to(dep) for dep in [*deps, *plumbing])
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

"""params.yaml, its models, the `params:` lists of dvc.yaml and what each stage reads: four lists that must agree."""

import ast
import datetime
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from amalgam.errors import ParamsError
from amalgam.params import PRESETS, Driving, dump_tracked, load_params
from amalgam.report.content import flatten

ROOT = Path(__file__).parents[2]
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
FILLED_IN = {key for preset in PRESETS.values() for key in preset}
UNTRACKED = {f"llm.{name}" for name in Driving.model_fields}  # speed and money
# `read_answering` takes the whole section `llm`; these keys decide the answers, the rest is speed and money.
ANSWERING = {"llm.api_version", "llm.body", "llm.endpoint", "llm.model"}
# Keys in a section that a stage passes on whole, but that are not read there: all test rows are graded; without
# synthetic rows it does not matter how they are used; and the encoder comes as files.
PASSED_UNREAD = {
    "baselines": {"judge.rows"},
    "human_only": {"teacher.guard", "teacher.model"},
    "teacher": {"teacher.model"},
    "distill": {"distillation.left_out"},
}


LEAVES = set(flatten(VALUES))
TRACKED = set(flatten(dump_tracked(load_params(ROOT / "params.yaml"))))


def expand_key(key: str) -> set[str]:
    """Return the leaf keys of a section, or the key itself."""
    return {leaf for leaf in LEAVES if leaf == key or leaf.startswith(f"{key}.")}


def find_read_keys(stage: str) -> set[str]:
    """Find the leaf keys that a stage reads, as `params.section.key`, `params.section` or `params.key`."""
    tree = ast.parse((ROOT / f"stages/{stage}.py").read_text(encoding="utf-8"))
    # All params may go to a function of the same script, where they have the same name; nowhere else.
    known = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)} | {"dump_tracked"}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if "params" in map(ast.unparse, call.args):
            assert known & {ast.unparse(call.func), ast.unparse(call.args[0])}, ast.unparse(call)
    code = ast.unparse(tree).replace("read_answering(params.llm", "ANSWERING")
    keys = {key for key in ANSWERING if "ANSWERING" in code}
    keys |= {key for key in TRACKED if re.search(r"params\.model_dump|dump_tracked\(params", code)}
    found = [".".join(filter(None, pair)) for pair in re.findall(r"\bparams\.(\w+)(?:\.(\w+))?", code)]
    return keys.union(*map(expand_key, found))


def test_every_param_is_tracked_or_decides_nothing_and_is_read_before_the_report() -> None:
    assert LEAVES == TRACKED | UNTRACKED
    assert not TRACKED & UNTRACKED
    assert set().union(*(find_read_keys(stage) for stage in STAGES if stage != "report")) == TRACKED


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_params_that_it_reads(stage: str) -> None:
    listed = STAGES[stage]["params"]
    assert all(expand_key(key) for key in listed), f"dvc.yaml, {stage}: a key of `params` is not in params.yaml"
    read = find_read_keys(stage) - PASSED_UNREAD.get(stage, set())
    assert not read & UNTRACKED
    read |= {"quality"} if read & FILLED_IN else set()  # which fills in these keys if they are null
    assert set().union(*map(expand_key, listed)) == read
    assert listed == sorted(listed)


SENTENCES = [
    ("ratio", "abc", "`ratio` is 'abc', but must be a valid number"),
    ("ratio", 1.5, "`ratio` is 1.5, but must be less than or equal to 1"),
    ("human_rows", 51.5, "`human_rows` is 51.5, but must be a valid integer"),
    ("seeds", [2, 1, 2], "`seeds` must hold each seed once, but 2 is there twice"),
    ("task", "../x", "`task` is '../x', but must be a name of letters, digits, `_` and `-`"),
    ("llm.endpoint", "localhost:8000", "`llm.endpoint` is 'localhost:8000', but must be `embedded` or a URL"),
    ("llm.endpoint", "http://host:99999", "must be `embedded` or a URL that begins with http:// or https://"),
    ("llm.endpoint", "https://x.org/chat/completions", "must be the base URL of the API, which ends before /chat"),
    ("llm.api_version", datetime.date(2024, 10, 21), "is 2024-10-21, but must be text: put it in quotes"),
    ("llm.body", {"seed": 1}, "`llm.body` must not set `seed`"),
    ("llm.body", {"model": "x"}, "`llm.body` must not contain `model`"),
    ("llm.body", {"max_tokens": None}, "`llm.body` must set `max_completion_tokens` to a number of tokens"),
    ("curation.consistency", "both", "must be 'none', 'judge' or 'human_model'"),
    ("baselines", None, "must be a section with keys of its own"),
    *(("quality", value, "must be 'best', 'whole', 'small' or 'fast'") for value in ("worst", None, ["best"])),
    ("teacher.lr", 0.5, "`teacher.lr` is not a known key: check its spelling"),
    ("teacher.steps", ..., "`teacher.steps` is missing"),
]


def write_params(path: Path, key: str, value: Any, values: dict[str, Any] = VALUES) -> Path:
    """Write params.yaml with one key set to a value, or without it for `...`."""
    values = yaml.safe_load(yaml.safe_dump(values))
    *sections, leaf = key.split(".")
    place = values
    for section in sections:
        place = place[section]
    place[leaf] = value
    if value is ...:
        del place[leaf]
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize(("key", "value", "words"), SENTENCES)
def test_a_wrong_value_gives_one_sentence(key: str, value: Any, words: str, tmp_path: Path) -> None:
    path = write_params(tmp_path / "params.yaml", key, value)
    with pytest.raises(ParamsError, match=f"^{path}: `{key}` .+$") as caught:
        load_params(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("quality", PRESETS)
def test_the_dial_decides_the_keys_that_are_null_and_no_other(quality: str, tmp_path: Path) -> None:
    given = write_params(tmp_path / "params.yaml", "quality", quality)
    before, after = (dict(flatten(values)) for values in (yaml.safe_load(given.read_text()), load(given)))
    decided = {key: after[key] for key in FILLED_IN}
    assert decided == PRESETS[quality]
    assert {key for key in before if before[key] != after[key]} == {key for key in decided if decided[key] is not None}
    # A value that is given wins.
    for key, value in (("teacher.model", "some/encoder"), ("distillation.layers", 3)):
        given = write_params(tmp_path / "params.yaml", key, value, yaml.safe_load(given.read_text()))
        after[key] = value
    assert flatten(load(given)) == after


def load(path: Path) -> dict[str, Any]:
    return load_params(path).model_dump()


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    path = write_params(tmp_path / "params.yaml", "ratio", -1)
    path.write_text(path.read_text().replace("left_out:", "left_oot:"))
    with pytest.raises(ParamsError, match=r"`ratio` is -1.*`distillation.left_out` is miss.*`distillation.left_oot`"):
        load_params(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"task: !!python/name:os.system\nratio: 1", "line 1 is not valid YAML"),
        (b"\xff\xfe", "is not valid YAML"),
        (b"- 1\n", "the file must hold keys with values"),
        (None, "is missing: run from the top folder of the project"),
    ],
)
def test_a_file_that_holds_no_params_gives_one_sentence(content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(ParamsError, match=f"^.*{words}.*$"):
        load_params(tmp_path / "params.yaml")


def test_numbers_are_read_as_dvc_writes_them_and_the_order_of_seeds_says_nothing(tmp_path: Path) -> None:
    path = write_params(tmp_path / "params.yaml", "teacher.learning_rate", "HERE", VALUES | {"seeds": [3, 1, 2]})
    path.write_text(path.read_text().replace("HERE", "2e-05"))
    assert (load_params(path).teacher.learning_rate, load_params(path).seeds) == (2e-5, [1, 2, 3])

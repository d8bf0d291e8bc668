"""Requests for synthetic responses of a known label: a template filled in with a rubric and human-coded examples.

A template is a sandboxed Jinja file that writes the turns of a chat. A turn is a call block of `system`, `user` or
`assistant`, such as `{% call user() %}…{% endcall %}`. Its output is the turn's text, without surrounding blanks; a
turn without text is left out. Data can therefore never become a turn or markup, whatever it looks like.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from traceback import walk_tb
from typing import Any

import pandas as pd
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2 import Template as JinjaTemplate
from jinja2.sandbox import ImmutableSandboxedEnvironment

from amalgam.errors import DataError, ParamsError
from amalgam.params import Prompts
from amalgam.synthesis.answers import list_keys
from amalgam.tasks.personal import find_personal_rows, select_examples
from amalgam.tasks.schema import Label, Task

_ROLES = ("system", "user", "assistant")
_OTHER_FILES = (nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)
_FAILURES = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_POOL = 16  # first train rows of a label, from which shots are drawn, so that more human rows leave prompts unchanged
SET = 16  # consecutive responses whose requests share all shots but the last, so that a server reuses their prefix
LAST = 4  # consecutive requests of a set that share the last shot too; fewer vary more and cost more

Row = dict[str, str]
Turns = list[dict[str, str]]
Template = Callable[[dict[str, Any]], Turns]  # writes the `messages` of a request from plain data by name


def load_template(name: str, folders: Sequence[Path]) -> Template:
    """Read `NAME.j2` from the first folder that has it; a DataError, now or later, names a fault's file and line."""
    path = next((path for folder in folders if (path := folder / f"{name}.j2").is_file()), None)
    if path is None:
        names = ", ".join(sorted({path.stem for folder in folders for path in folder.glob("*.j2")}))
        raise DataError(
            f"there is no prompt template '{name}': set `prompts.template` in params.yaml to one of {names}, or write "
            f"{folders[0] / name}.j2"
        )
    # No loader: a template reads no file. Nothing is escaped: chat turns are not markup.
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # Equal data must give equal prompts.
    del environment.globals["lipsum"], environment.filters["random"]
    try:
        source = path.read_text(encoding="utf-8-sig")
        tree = environment.parse(source)
        code = environment.compile(source, name, str(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except TemplateSyntaxError as error:
        raise DataError(f"{path}, line {error.lineno}: {error.message}") from error
    for other in tree.find_all(_OTHER_FILES):
        raise DataError(f"{path}, line {other.lineno}: a template cannot use other files: put all of it into this file")
    return partial(_render, path, JinjaTemplate.from_code(environment, code, environment.make_globals(None)))


def build_prompts(
    task: Task, train: pd.DataFrame, template: Template, params: Prompts, rows: int
) -> Iterator[dict[str, Any]]:
    """Yield the requests for `rows` responses of each label, by number, then by label.

    Everything that varies is drawn from the seed, the label, and the number of the request or of its set of shots,
    never from earlier draws. So the requests for fewer rows are the first of those for more. The requests of one set
    are a group: they begin alike and ask the same question. The set with the same number of every other label asks it
    too, because a question must not reveal the label. If a label has too few examples of a question, examples of other
    questions fill up, each with its own question. Rows with personal data are not shown, unless the task allows it.
    `train` are human-coded rows (id, text, question, label) in the order of the split.
    """
    if params.format == "text" and params.responses > 1:
        raise ParamsError(
            f"params.yaml: `prompts.format` is 'text', which holds one response, but `prompts.responses` is "
            f"{params.responses}: set the format to `lines` or `json`"
        )
    pools = _select_pools(task, train)
    questions = sorted({row["question"] for pool in pools.values() for row in pool}) or [""]
    sets: dict[str, tuple[str, list[Row]]] = {}  # by label: scenario and shots of the current set
    length = -(-SET // params.responses)  # of a set, so that it holds about as many responses whatever an answer holds
    for slot in range(-(-rows // params.responses)):
        number, is_first = slot // length, slot % length == 0
        turn, place = divmod(number, len(questions))
        question = _shuffle_values(f"{params.seed}/question/{turn}", tuple(questions))[place]
        for label in task.labels:
            pool, own = pools[label.name], f"{params.seed}/{label.name}/own"
            if is_first:
                draw = random.Random(f"{params.seed}/{label.name}/{number}")
                scenario = draw.choice(task.scenarios or [""])
                # One answer to the question is kept back for the last shot.
                shared = _draw_shots(draw, pool, question, max(params.shots - 1, 0), params.responses, spared=1)
                sets[label.name] = scenario, shared
            scenario, shared = sets[label.name]
            left = [row for row in pool if row not in shared]
            last = random.Random(f"{own}/shot/{slot // LAST}")
            shots = [*shared, *_draw_shots(last, left, question, min(params.shots, 1), params.responses)]
            persona = random.Random(f"{own}/persona/{slot}").choice(label.personas or [""])
            attributes = draw_attributes(task, label, params.seed, slot)
            drawn = {"scenario": scenario, "question": question, "persona": persona, "shots": shots}
            yield {
                "id": f"{label.name}-{slot:05d}",
                "label": label.name,
                "sample": slot,
                "question": question,
                "shots": [shot["id"] for shot in shots],
                "attributes": attributes,
                "group": f"{label.name}/{number}",
                "responses": params.responses,
                "format": params.format,
                "messages": template(_list_values(task, label, drawn, attributes, params)),
            }


def list_shortages(task: Task, train: pd.DataFrame, params: Prompts) -> list[str]:
    """Return a sentence each on rows that are not shown and labels with fewer examples than a request should show."""
    sentences = []
    if (held := int(find_personal_rows(train).sum())) and not task.send_personal:
        sentences.append(
            f"{held} of {len(train)} train rows hold personal data (e-mail addresses, phone numbers, names on a "
            "roster), so no request shows them: set `send_personal: true` in task.yaml to allow it"
        )
    for name, count in ((name, len(pool)) for name, pool in _select_pools(task, train).items()):
        if count < params.shots:
            sentences.append(
                f"label {name!r} has {count} different train rows to draw examples from, so requests show {count} "
                f"of them, not {params.shots}: "
                + ("raise `human_rows` for more" if count < _POOL else "lower `prompts.shots`")
            )
    return sentences


def draw_attributes(task: Task, label: Label, seed: int, slot: int) -> dict[str, str]:
    """Draw a value of each attribute for a slot of a label: all come equally often, in orders of their own."""
    return {
        name: _shuffle_values(f"{seed}/{label.name}/{name}/{slot // len(values)}", tuple(values))[slot % len(values)]
        for name, values in (task.prompts.attributes | label.attributes).items()
    }


@lru_cache(maxsize=1024)
def _shuffle_values(seed: str, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(random.Random(seed).sample(values, len(values)))


def _render(path: Path, template: JinjaTemplate, values: dict[str, Any]) -> Turns:
    turns: Turns = []
    try:
        outside = template.render({**values, **{role: partial(_add_turn, turns, role) for role in _ROLES}})
    except _FAILURES as error:
        own = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
        known = f"; a template can use {', '.join(values)}" if str(error).endswith("is undefined") else ""
        raise DataError(f"{path}, line {own[-1] if own else 1}: {error}{known}") from error
    if text := " ".join(outside.split()):
        raise DataError(
            f"{path}: '{text[:60]}' is outside the turns: put it into `{{% call user() %}}` … `{{% endcall %}}`"
        )
    if not turns or turns[-1]["role"] != "user":
        raise DataError(f"{path}: the last turn must be the user's: end with `{{% call user() %}}` and a text")
    return turns


def _add_turn(turns: Turns, role: str, caller: Any = None) -> str:
    if caller is None:
        raise TypeError(f"a turn is written as `{{% call {role}() %}}` … `{{% endcall %}}`")
    number, text = len(turns), str(caller()).strip()
    if len(turns) != number:
        raise TypeError("a turn cannot be inside another turn")
    if text:
        turns.append({"role": role, "content": text})
    return ""


def _select_pools(task: Task, train: pd.DataFrame) -> dict[str, list[Row]]:
    shown = select_examples(train, _POOL, send_personal=task.send_personal)
    pools = {name: shown[shown["label"] == name] for name in task.label_names}
    return {name: pool[["id", "text", "question"]].to_dict("records") for name, pool in pools.items()}  # type: ignore[misc]


def _draw_shots(
    draw: random.Random, pool: list[Row], question: str, count: int, responses: int, spared: int = 0
) -> list[Row]:
    """Draw examples, those of the question last, closest to the request; keep `spared` of these back."""
    same, others = ([row for row in pool if (row["question"] == question) == is_same] for is_same in (True, False))
    answers = draw.sample(same, min(count, max(len(same) - spared, 0)))
    missing = count - len(answers) if responses == 1 else 0  # a list of responses is one answer to one question
    return [*draw.sample(others, min(missing, len(others))), *answers]


def _list_values(
    task: Task, label: Label, drawn: dict[str, Any], attributes: dict[str, str], params: Prompts
) -> dict[str, Any]:
    """List the values that a template can use, by name; docs/prompts.md explains each."""
    texts = [shot["text"] for shot in drawn["shots"]]
    answers = [[text] for text in texts] if params.responses == 1 else [texts] if texts else []
    return {
        "title": task.title,
        "response": task.response,
        **drawn,
        "label": _describe_label(label),
        "other_labels": [_describe_label(other) for other in task.labels if other != label],
        "example_answers": [_build_answer(answer, params.format) for answer in answers],
        "attributes": attributes,
        "attribute_sentences": [_phrase_attribute(name, value) for name, value in attributes.items()],
        "responses": params.responses,
        "format": params.format,
        "answer_form": _phrase_form(task.response, params.responses, params.format),
    }


def _build_answer(texts: Sequence[str], format: str) -> str:
    """Write responses as an answer that holds them, to show the wanted form."""
    if format == "json":
        return json.dumps(dict(zip(list_keys(len(texts)), texts, strict=True)), ensure_ascii=False)
    return "\n".join(texts)


def _phrase_form(response: str, responses: int, format: str) -> str:
    """Write the sentence that states the answer format; `response` is what one response is called."""
    if format == "json" and responses == 1:
        return f'Answer with a JSON object that holds the {response} under the key "response".'
    if format == "json":
        return 'Answer with a JSON object that holds them under the keys "response_1", "response_2" and so on.'
    if responses == 1:
        return f"Answer with the {response} alone."
    return "Write one on each line and nothing else, without numbers and without quotation marks."


def _phrase_attribute(name: str, value: str) -> str:
    words = name.replace("_", " ")
    return f"{words[0].upper()}{words[1:]}: {value}{'' if value.endswith(('.', '!', '?')) else '.'}"


def _describe_label(label: Label) -> dict[str, Any]:
    return {"name": label.name.replace("_", " "), "definition": label.definition, "examples": label.examples}

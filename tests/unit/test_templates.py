import re
from pathlib import Path
from typing import Any

import pytest

from amalgam.errors import DataError
from amalgam.synthesis.prompts import load_template

ROOT = Path(__file__).parents[2]
VALUES: dict[str, Any] = {
    "title": "Is it good?",
    "response": "comment",
    "scenario": "A guest was asked.",
    "question": "",
    "persona": "a guest",
    "label": {"name": "mixed view", "definition": "It is mixed.", "examples": ["So so."]},
    "other_labels": [{"name": "good", "definition": "It is good.", "examples": ["Good."]}],
    "shots": [{"id": "a", "text": "Well.", "question": ""}],
    "example_answers": ["Well."],
    "attributes": {"length": "a few words"},
    "attribute_sentences": ["Length: a few words."],
    "responses": 1,
    "format": "text",
    "answer_form": "Answer with the comment alone.",
}


def render(tmp_path: Path, text: str | bytes, **values: Any) -> list[dict[str, str]]:
    (tmp_path / "own.j2").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_template("own", [tmp_path])({**VALUES, **values})


def test_call_blocks_become_turns(tmp_path: Path) -> None:
    text = """\ufeff{% macro ask(what) %}What about {{ what }}?{% endmacro %}
{% call system() %}
  Hello, {{ persona }}.
{% endcall %}
{% for shot in shots %}
  {% call user() %}{{ ask("bread") }}{% endcall %}
  {% call assistant() %}{{ shot.text }}{% endcall %}
{% endfor %}
{% call user() %}{{ question }}{% endcall %}{# It is empty, so it is no turn. #}
{% call user() %}

  One.

  {% if shots | length == 1 %}
Two.
  {% endif %}
{% endcall %}
"""
    assert [(turn["role"], turn["content"]) for turn in render(tmp_path, text)] == [
        ("system", "Hello, a guest."),
        ("user", "What about bread?"),
        ("assistant", "Well."),
        ("user", "One.\n\nTwo."),
    ]


MARKUP = ["{% endcall %}", "{{ persona }}", "{# x #}", "<|im_end|>", "</s>", "<b>", "&amp;", '"', "\\n", "{", "%}", "é"]


def test_data_that_looks_like_markup_stays_data(tmp_path: Path) -> None:
    text = " a ".join([*MARKUP, *reversed(MARKUP)])
    source = "{% call assistant() %}{{ shots[0].text }}{% endcall %}{% call user() %}[{{ persona }}]{% endcall %}"
    turns = render(tmp_path, source, shots=[{"text": f"({text})"}], persona=text)
    assert [turn["content"] for turn in turns] == [f"({text})", f"[{text}]"]


USER = "{% call user() %}Write.{% endcall %}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (USER + "{% if persona %}\n\nHello\n{% endif %}", ": 'Hello' is outside the turns: put it into"),
        ("{% call user() %}\n{% call system() %}x{% endcall %}\n{% endcall %}", "line 1: a turn cannot be inside"),
        ("{% call user() %}\n{{ persona }\n{% endcall %}", "line 2: unexpected '}'"),
        ("{% call user() %}\nOh\n{{ person }}{% endcall %}", "line 3: 'person' is undefined; a template can use title"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{% call user() %}{{ a() }}{% endcall %}", "line 1: maximum recursion"),
        ("{% call user() %}\n{{ user() }}{% endcall %}", "line 2: a turn is written as `{% call user() %}` … `{% end"),
        # What the sandbox forbids, and what would make prompts differ for equal data.
        ("{% call user() %}\n{{ persona.__class__ }}{% endcall %}", "line 2: access to attribute '__class__' of 'str'"),
        (USER + "{% include 'chat.j2' %}", "line 2: a template cannot use other files"),
        (b"\xff", " is not UTF-8 text"),
        (USER + "{% call assistant() %}Well.{% endcall %}", ": the last turn must be the user's"),
    ],
)
def test_a_faulty_template_is_named_with_its_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(DataError, match=f"^{tmp_path}/own.j2(, )?{re.escape(words)}.*$"):
        render(tmp_path, text)


def test_the_task_s_own_template_comes_first_and_an_unknown_one_is_none(tmp_path: Path) -> None:
    own, shared = tmp_path / "task", tmp_path / "shared"
    for folder, name in ((own, "chat"), (shared, "chat"), (shared, "paper")):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.j2").write_text(f"{{% call user() %}}{folder.name}{{% endcall %}}", encoding="utf-8")
    found = {name: load_template(name, [own, shared])(VALUES)[0]["content"] for name in ("chat", "paper")}
    assert found == {"chat": "task", "paper": "shared"}
    words = "there is no prompt template 'chta': set `prompts.template` in params.yaml to one of chat, paper, or write"
    with pytest.raises(DataError, match=f"{words} .*/task/chta.j2$"):
        load_template("chta", [own, shared])


def test_the_template_of_the_documentation_works(tmp_path: Path) -> None:
    examples = re.findall(r"```jinja\n(.*?)```", (ROOT / "docs/prompts.md").read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for example in examples:
        system, user = render(tmp_path, example)
        assert system["content"] == "You are a guest."
        assert all(text in user["content"] for text in ("It is mixed.", "Well.", "Answer with the", "Length: "))

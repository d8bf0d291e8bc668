"""In which form JSON is asked for: by a schema, and where an endpoint takes none, in words."""

import json
from typing import Any

_NOTICES = (
    "it is asked for a JSON object instead, whose keys are said in the prompt",
    "it is asked for JSON in words alone",
)


class Forms:
    """The form that an endpoint takes, as far as it is known; an object lives as long as a run.

    Attributes:
        level: 0 is a schema, 1 is JSON without one, 2 is text; from 1 on, words say what is wanted.
    """

    def __init__(self) -> None:
        """Begin with the schema."""
        self.level = 0

    def leave(self, level: int) -> str | None:
        """Take note that a form was refused.

        Returns:
            What is done instead, "" where that was known already, None where there is no other form.
        """
        if level < self.level:
            return ""
        if level == len(_NOTICES):
            return None
        self.level = level + 1
        return _NOTICES[level]


def wants_schema(body: dict[str, Any]) -> bool:
    """Say whether the body of a request asks for JSON by a schema."""
    form = body.get("response_format")
    return isinstance(form, dict) and form.get("type") == "json_schema"


def shape_body(body: dict[str, Any], level: int) -> dict[str, Any]:
    """Put the body of a request into another form; one without a schema stays as it is."""
    if not level or not wants_schema(body):
        return body
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    keys = ", ".join(_phrase_key(name, part) for name, part in properties.items())
    # OpenAI wants the word JSON in the messages. Where a system message says the task, this belongs to it.
    messages = list(body["messages"])
    place = 0 if messages[0]["role"] == "system" else -1
    words = f"Answer with a JSON object and nothing else. Its keys: {keys}."
    messages[place] = messages[place] | {"content": f"{messages[place]['content']}\n\n{words}"}
    form = {"response_format": {"type": "json_object"}} if level == 1 else {}
    return {name: part for name, part in body.items() if name != "response_format"} | {"messages": messages} | form


def _phrase_key(name: str, part: dict[str, Any]) -> str:
    values = part.get("enum")
    kind = f"one of {', '.join(json.dumps(value, ensure_ascii=False) for value in values)}" if values else "a text"
    return f'"{name}" ({kind})'

"""What an answer holds: the form that is asked for, and the way back from an answer to its responses.

An answer holds one response or several, in one of three formats: `text` is one response; `lines` is one response a
line; `json` is an object that the endpoint enforces by a schema.
"""

import json
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

from amalgam.synthesis.reading.answer import read_answer
from amalgam.synthesis.reading.refusals import is_refusal
from amalgam.synthesis.reading.wrapping import announces, drop_talk, find_first, is_heading, unwrap
from amalgam.tasks.texts import clean_text, fold_text

_DASHES = "\N{EN DASH}\N{EM DASH}"
# A number in front of a response ("3. ", "**3)** ", "Response 3: "), not one that it begins with ("3.5 stars"), or a
# bullet.
_MARK = re.compile(
    rf"(\**((response|answer|comment|example) )?[(#]?\d{{1,3}}[.):]+(?!\d)\**\s*|[-+*{_DASHES}]\s+|\N{{BULLET}}\s*)",
    re.IGNORECASE,
)
_RULE = re.compile(rf"[-\s_=#~*`{_DASHES}]*|```\w*")  # a line that only sets parts of an answer apart
_TRIES = 20  # brackets at which JSON may begin
_KEY = re.compile(r"responses?|response_\d+")


def phrase_form(response: str, responses: int, format: str) -> str:
    """Say in one sentence in what form to answer; `response` is what one response is called."""
    if format == "json":
        keys = _list_keys(responses)[:2]
        if responses == 1:
            return f'Answer with a JSON object that holds the {response} under the key "{keys[0]}".'
        return f'Answer with a JSON object that holds them under the keys "{keys[0]}", "{keys[1]}" and so on.'
    if responses == 1:
        return f"Answer with the {response} alone."
    return "Write one on each line and nothing else, without numbers and without quotation marks."


def build_answer(texts: Sequence[str], format: str) -> str:
    """Write responses as an answer that holds them, to show what is wanted."""
    if format == "json":
        return json.dumps(dict(zip(_list_keys(len(texts)), texts, strict=True)), ensure_ascii=False)
    return "\n".join(texts)


def build_response_format(responses: int) -> dict[str, Any]:
    """Build the `response_format` of a request whose answer is JSON.

    Several responses are as many keys of one object, not an array: Azure, and fine-tuned models of OpenAI, refuse a
    strict schema that bounds the length of an array, and without bounds a small model writes one item or hundreds.
    The 100 keys that a strict schema may have everywhere are also the most that `prompts.responses` allows.
    """
    keys = _list_keys(responses)
    schema = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in keys},
        "required": keys,
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "responses", "strict": True, "schema": schema}}


def parse_answer(text: str, finish_reason: str, format: str, responses: int) -> tuple[list[str], str]:
    """Take the usable responses out of an answer; it never raises.

    Args:
        text: the answer as it came.
        finish_reason: why the model stopped, as the endpoint gave it.
        format: `text`, `lines` or `json`.
        responses: how many were asked for; what is beyond that is dropped.

    Returns:
        The responses, cleaned, and the answer's fault: error, refusal, cut_off, thinking, announcement, empty or
        malformed, or "" exactly if there is a response. Of lines that were cut off, the complete ones are usable.
    """
    said, fault = read_answer(text, finish_reason)
    first = _clean_response(find_first(said))
    if fault != "error" and is_refusal(first):
        fault = "refusal"
    if fault in ("error", "refusal", "thinking"):
        return [], fault
    if format == "text":
        found = [] if fault else [first]
    else:
        found = _read_json(said) if format == "json" else _read_lines(said, is_cut=fault == "cut_off")
    cleaned = [_clean_response(response) for response in found]
    usable = [response for response in cleaned if fold_text(response) and not is_refusal(response)][:responses]
    if usable and not all(map(announces, usable)):
        return usable, ""
    if fault:
        return [], fault
    if any(map(is_refusal, cleaned)):
        return [], "refusal"
    if usable or (not cleaned and announces(said)):
        return [], "announcement"
    return [], "empty" if cleaned or not fold_text(first) else "malformed"


def _list_keys(responses: int) -> list[str]:
    return ["response"] if responses == 1 else [f"response_{number}" for number in range(1, responses + 1)]


def _clean_response(raw: str) -> str:
    # JSON can hold halves of surrogate pairs, which no file in UTF-8 can.
    return unwrap(clean_text(raw.encode("utf-8", "ignore").decode("utf-8")))


def _read_lines(raw: str, *, is_cut: bool) -> list[str]:
    lines = (raw if is_cut else drop_talk(raw)).splitlines(keepends=True)
    if is_cut and lines and lines[-1].splitlines() == [lines[-1]]:  # no line end: the model was still writing it
        lines.pop()
    lines = [line.strip() for line in lines]
    marks = {line: mark.end() for line in lines if (mark := _MARK.match(line))}
    lines = [line for line in lines if not _RULE.fullmatch(line[marks.get(line, 0) :])]
    marked = [line[marks[line] :] for line in lines if line in marks]
    if 2 * len(marked) >= len(lines):
        return marked  # what stands around a list speaks of the list
    # Without marks, only what looks like the announcement of a list is taken for one.
    while lines and (announces(lines[0]) or (len(lines) > 1 and is_heading(lines[0]))):
        lines = lines[1:]
    return lines


def _read_json(raw: str) -> list[str]:
    """Read JSON of the asked shape or one that models confuse it with; an empty list is anything else."""
    # It may stand in a code block, or after a sentence, which may hold brackets itself.
    starts = islice(re.finditer(r"[{\[]", raw), _TRIES)
    return next((found for start in starts if (found := _read_json_at(raw, start.start()))), [])


def _read_json_at(raw: str, start: int) -> list[str]:
    try:
        value, _ = json.JSONDecoder().raw_decode(raw, start)
    except (ValueError, RecursionError):
        return []
    if isinstance(value, dict):
        items = [item for key, item in value.items() if _KEY.fullmatch(key)]
        value = items[0] if len(items) == 1 and isinstance(items[0], list) else items
    return value if all(isinstance(item, str) for item in value) else []

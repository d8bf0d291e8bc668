"""Read answers: the responses in an LLM's text, or one fault of the whole answer.

Many endpoints separate neither the thinking nor the next turn from the reply, and report in words of their own why they
stopped. Models announce their responses, wrap them, and comment on them. `parse_answer` removes all of that.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import chain, count, islice
from pathlib import Path
from sys import intern
from typing import Any
from urllib.parse import quote

import pandas as pd
import yaml

from amalgam.errors import DataError
from amalgam.files import read_json
from amalgam.llm.request import read_answers
from amalgam.tasks.texts import clean_text, fold_text

SUMMARY = "summary.json"  # of data/completions
NO_REASONING = (
    "turn off the reasoning of a reasoning model in `llm.body`, such as `{chat_template_kwargs: {enable_thinking: "
    "false}}` or `{reasoning_effort: low}`"
)
MORE_TOKENS = f"{NO_REASONING}, or give it more tokens there, such as `{{max_tokens: 2000}}`"


def _compile_patterns(phrases: dict[str, Any]) -> dict[str, re.Pattern[str]]:
    """Compile the regular expressions of phrases.yaml, which are built from named parts."""
    expressions = {name: "".join(pieces) for name, pieces in {**phrases["stopped"], **phrases["patterns"]}.items()}
    expressions["refused"] = "|".join(f"(?:{''.join(pieces)})" for pieces in phrases["refusals"])
    for name, pieces in reversed(phrases["parts"].items()):  # a part may contain earlier parts
        part = "".join(pieces)
        expressions = {key: text.replace(f"<{name}>", part) for key, text in expressions.items()}
    return {name: re.compile(text, re.IGNORECASE) for name, text in expressions.items()}


_PHRASES = yaml.safe_load((Path(__file__).parent / "phrases.yaml").read_text(encoding="utf-8"))
_RE = _compile_patterns(_PHRASES)
_TRIES = 50  # brackets at which JSON may begin
_NESTED = 20  # marks or labels around a response; a model that repeats itself writes thousands
_LONGEST = 300  # characters of an announcement; a longer text has content of its own
# gpt-oss, where a decoder dropped the channel tokens and left the names of the channels.
_BARE_CHANNEL = re.compile(r"\s*(?:analysis|commentary)(?:(?=[A-Z\W]).*?assistant\n?final|(?=[A-Z]).*)", re.DOTALL)
_FULL_WIDTH = str.maketrans("\N{FULLWIDTH COMMA}\N{FULLWIDTH EXCLAMATION MARK}\N{FULLWIDTH SEMICOLON}", ",!;")
_MARKS = "\"'`*_\N{LEFT DOUBLE QUOTATION MARK}"


@cache
def _compile_echo(kind: str, label: str) -> re.Pattern[str]:
    """Compile what repeats a label beside a response: on a `line` of its own, or at the `ends` of the response."""
    asked, lead = r"[\W_]+".join(re.findall(r"[^\W_]+", label)) or r"\b\B", _PHRASES["echoes"]["lead"]
    expression = "".join(_PHRASES["echoes"][kind]).replace("<lead>", lead).replace("<asked>", asked)
    return re.compile(expression, re.IGNORECASE)


def read_responses(folder: Path) -> pd.DataFrame:
    """Read the responses in `data/completions/`; raise a DataError if part of the folder is missing."""
    expected, numbers = read_json(folder / SUMMARY)["answers"], count()
    responses = tabulate_responses(line for line, _ in zip(read_answers(folder), numbers, strict=False))
    if (found := next(numbers)) != expected:
        raise DataError(f"{folder} holds {found} of {expected} answers: run `dvc checkout` or `dvc repro synthesize`")
    return responses


def tabulate_responses(lines: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Tabulate the responses in the answers, in order: id, label, sample, question, shots, text, fault.

    If an answer holds no usable response, `text` is the whole answer. `shots` are the ids of the human-coded examples
    that the LLM saw, percent-encoded and separated by blanks.
    """
    rows = []
    for line in lines:
        label, question = intern(line["label"]), intern(line["question"])
        texts, fault = parse_answer(line["text"], line["finish_reason"], line["format"], line["responses"], label)
        shots = intern(" ".join(map(quote, line.get("shots", ()))))  # older answers lack them
        for number, text in enumerate(texts or [line["text"]], start=1):
            name = f"{line['id']}-{number}" if line["responses"] > 1 and not fault else line["id"]
            rows.append((name, label, line["sample"], question, shots, text, fault))
    return pd.DataFrame(rows, columns=["id", "label", "sample", "question", "shots", "text", "fault"])


def list_keys(responses: int) -> list[str]:
    """List the keys of a JSON object with this many responses."""
    return ["response"] if responses == 1 else [f"response_{number}" for number in range(1, responses + 1)]


def describe_json(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Build the `response_format` of a request whose answer is a JSON object with these properties."""
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def shorten_example(text: str) -> str:
    """Quote the beginning of a text on one line, with unprintable characters escaped."""
    line = " ".join(text[:280].split())
    return repr(line if len(line) <= 70 else f"{line[:70].rstrip()}…")


def parse_answer(text: str, finish_reason: str, format: str, responses: int, label: str = "") -> tuple[list[str], str]:
    """Extract the usable responses from a raw answer, no more than were asked for; it never raises.

    What repeats the name of `label`, for which they were written, is removed.

    Returns the cleaned responses and the answer's fault: error, refusal, cut_off, thinking, announcement, empty or
    malformed, or "" exactly if there is a response. If lines or JSON were cut off, the complete responses are usable.
    """
    said, fault = read_answer(text, finish_reason)
    said = _read_table(_compile_echo("line", label).sub("", said))
    first = _clean_response(_pick_item(_find_first(said), said), label)
    if fault != "error" and is_refusal(first):
        fault = "refusal"
    if fault in ("error", "refusal", "thinking"):
        return [], fault
    # Some models answer in JSON whatever they are asked for.
    found = _read_json(said) if format == "json" or first.startswith(("{", "[")) else []
    if not found and format == "text":
        found = [] if fault else [first]
    elif not found and format == "lines":
        found = _read_lines(said, is_cut=fault == "cut_off")
    cleaned = [_clean_response(response, label) for response in found]
    usable = [response for response in cleaned if fold_text(response) and not is_refusal(response)][:responses]
    if usable and not all(map(_announces, usable)):
        return usable, ""
    if fault:
        return [], fault
    if any(map(is_refusal, cleaned)):
        return [], "refusal"
    if usable or (not cleaned and _announces(said)):
        return [], "announcement"
    return [], "empty" if cleaned or not fold_text(first) else "malformed"


def read_answer(text: str, finish_reason: str) -> tuple[str, str]:
    """Return the text of the model's first turn without its thinking, and the answer's fault or ""; it never raises."""
    name = finish_reason.casefold()
    fault = next((kind for kind in ("refusal", "cut_off", "error") if _RE[kind].search(name)), "")
    if "&lt;" in text:  # texts that went through a web page
        text = text.replace("&lt;", "<").replace("&gt;", ">")
    said, is_complete, has_thought = _find_turn(text)
    if fault == "cut_off" and is_complete:
        fault = ""  # only the text after the model's turn was cut off
    if not fault and has_thought and not said.strip():
        fault = "thinking"
    return said, fault


def iterate_json(text: str) -> Iterator[Any]:
    """Yield the JSON objects and lists in a text, which may be in a code block or after a sentence."""
    for start in islice(re.finditer(r"[{\[]", text), _TRIES):
        with suppress(ValueError, RecursionError):  # a string may hold line breaks, as small models write them
            yield json.JSONDecoder(strict=False).raw_decode(text, start.start())[0]


def is_refusal(text: str) -> bool:
    """Return whether a cleaned text is a refusal in one of the forms of phrases.yaml."""
    return _RE["refused"].match(text.translate(_FULL_WIDTH)) is not None


def _find_turn(text: str) -> tuple[str, bool, bool]:
    """Return the text of the model's first turn, whether the turn ended, and whether there was thinking."""
    has_thought = True
    if "<|channel|>" in text:
        final = _RE["final"].search(text)
        text = text[final.end() :] if final else ""
    elif bare := _BARE_CHANNEL.match(text):
        text = text[bare.end() :]
    else:
        has_thought = False
    text = _RE["closing"].sub("</think>", _RE["opening"].sub("<think>", text))
    tokens, parts = ["", *_RE["token"].findall(text)], _RE["token"].split(text)
    for number, (token, part) in enumerate(zip(tokens, parts, strict=True), start=1):
        if token and (_RE["others_token"].fullmatch(token) or _RE["others_turn"].match(part)):
            break
        _, closed, said = (_RE["own_turn"].sub("", part) if token else part).rpartition("</think>")
        if "<think>" in said or (not closed and _RE["bare_thinking"].match(said.lstrip())):
            said, closed = "", "it never ends"
        has_thought |= bool(closed)
        if said.strip():
            following = _RE["next_turn"].search(said.rstrip())
            said = said[: following.start()] if following else said
            wrapped = [found[2] for found in _RE["wrapped"].finditer(said)]
            is_complete = number < len(parts) or following is not None
            return ("\n\n".join(wrapped) if wrapped else said), is_complete, has_thought
    return "", False, has_thought


def _find_first(said: str) -> str:
    """Return the first paragraph that is more than an announcement, without fences; failing that, an announcement."""
    rest = said
    while True:
        if fence := _RE["fence"].match(rest.strip()):
            rest = fence[2]
            continue
        rest = _strip_quotes(rest)
        parts = [part for part in _RE["paragraphs"].split(rest) if part.strip()]
        if not parts:
            return ""
        first, following = parts[0].strip(), "\n\n".join(parts[1:])
        line, _, more = first.partition("\n")
        if following and (_announces(first) or _is_heading(first) or _RE["title"].fullmatch(first)):
            rest = following
        elif more and (
            _is_heading(line) or _RE["title"].fullmatch(line) or (_announces(line) and _RE["speaks"].match(line))
        ):
            rest = f"{more}\n\n{following}"
        elif following and first.endswith(","):  # how a letter begins
            return _drop_talk(rest)
        else:
            return _drop_talk(first)


def _read_table(said: str) -> str:
    """Return the longest cell of each row of a Markdown table, or the text if it is none."""
    rows = [row.strip() for row in said.strip().splitlines()]
    if len(rows) < 3 or not all(row.startswith("|") for row in rows) or not re.fullmatch(r"[|:\s-]+", rows[1]):
        return said
    return "\n".join(max(map(str.strip, row.split("|")), key=len) for row in rows[2:])


def _pick_item(paragraph: str, said: str) -> str:
    """Return the first item of "Option 1: …", "Option 2: …": several responses in place of one.

    A list with numbers or bullets alone stays whole, because a response may be a list of steps or points.
    """
    before, *items = _RE["option"].split(paragraph)
    several = len(_RE["option"].findall(said)) > 1
    return items[0] if items and several and not before.strip() else paragraph


def _announces(text: str) -> bool:
    """Return whether a text ends with a colon, whatever marks follow it."""
    end = text.rstrip().rstrip(_MARKS)
    return end.endswith((":", "\N{FULLWIDTH COLON}")) and not end.endswith("(:") and len(end) <= _LONGEST


def _is_heading(text: str) -> bool:
    """Return whether a paragraph or line only announces a response, without a colon."""
    return _RE["assents"].fullmatch(text.strip()) is not None or _RE["heading"].fullmatch(text) is not None


def _drop_talk(text: str) -> str:
    """Drop the lines at the end that address the person who asked."""
    lines = text.rstrip().split("\n")
    while len(lines) > 1 and (_RE["talk"].match(lines[-1].strip()) or not lines[-1].strip()):
        lines.pop()
    return "\n".join(lines)


def _clean_response(raw: str, label: str) -> str:
    """Remove the announcement and labels beside one response, and the marks that surround all of it."""
    # JSON can hold halves of surrogate pairs; a UTF-8 file cannot.
    text = clean_text(raw.encode("utf-8", "ignore").decode("utf-8"))
    for _ in range(_NESTED):
        found = _RE["label_in_front"].sub("", _RE["here_in_front"].sub("", _strip_quotes(text)))
        found = _compile_echo("ends", label).sub("", found)
        if found == text:
            break
        text = found
    return text


def _strip_quotes(text: str) -> str:
    """Strip quotation marks and emphasis, but only if they surround the whole text."""
    for _ in range(_NESTED):
        if (inner := _strip_pair(text.strip())) == text:
            break
        text = inner
    return text


def _strip_pair(text: str) -> str:
    """Strip the outermost marks."""
    for family in _PHRASES["quotes"]:
        size = len(text) - len(text.lstrip(family))
        if size == len(text) > 1:
            return ""
        if size and 2 * size <= len(text) and len(text) - len(text.rstrip(family)) >= size:
            inner = text[size:-size]
            # Inner marks, except apostrophes between letters, belong to an inner quotation if the first one opens it;
            # otherwise the text is two quotations.
            mark = re.search(rf"(?<![^\W_])[{family}]|[{family}](?![^\W_])", inner)
            if not mark or re.search(r"[\s(\[]\Z", inner[: mark.start()]):
                return inner.strip()
    return text


def _read_lines(raw: str, *, is_cut: bool) -> list[str]:
    lines = (raw if is_cut else _drop_talk(raw)).splitlines(keepends=True)
    if is_cut and lines and lines[-1].splitlines() == [lines[-1]]:  # no line end: the model was still writing it
        lines.pop()
    lines = [line.strip() for line in lines]
    marks = {line: mark.end() for line in lines if (mark := _RE["bullet"].match(line))}
    lines = [line for line in lines if not _RE["rule"].fullmatch(line[marks.get(line, 0) :])]
    marked = [line[marks[line] :] for line in lines if line in marks]
    if 2 * len(marked) >= len(lines):
        return marked  # the text around a list is about the list
    # Without marks, only lines that look like the announcement of a list are dropped.
    while lines and (_announces(lines[0]) or (len(lines) > 1 and _is_heading(lines[0]))):
        lines = lines[1:]
    return lines


def _read_json(raw: str) -> list[str]:
    """Read JSON of the requested shape or one that models confuse it with; return [] for anything else."""
    whole = raw.rpartition('",')[0] + '"}'  # without what was cut off, or with a comma at the end
    for value in chain(iterate_json(raw), iterate_json(whole)):
        with suppress(RecursionError):
            if texts := _list_texts(value):
                return texts
    return []


def _list_texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = [part for key, part in value.items() if _RE["key"].fullmatch(key)]
    if isinstance(value, list):
        return [text for part in value for text in _list_texts(part)]
    return [value] if isinstance(value, str) else []

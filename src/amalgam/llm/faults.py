"""Read the replies of an endpoint: an answer, or an error, its meaning, and what the user can do about it.

Endpoints word the same problem in many ways, and some put it into a reply with status 200.
"""

import email.utils
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from amalgam.llm.request import TOKEN_LIMITS, Answer, Price, Request

_PASSING = (408, 409, 424, 425, 429)  # and all from 500 up; 424 is what TGI answers if its model fails
_UNSERVED = (501, 503, 529)  # sent before anything is generated; 529 is Anthropic's form of 503
_REJECTING = (400, 415, 422, 501)  # statuses for a request that is not understood
# The fields that a request has without `llm.body`.
_OWN_FIELDS = ("seed", "temperature", "top_p", "max_tokens", "logprobs", "top_logprobs")
_REASONING_TOKENS = 400  # a model that requires `max_completion_tokens` may think before it answers

_UNPAID = (
    r"insufficient[ _](\w+[ _])?(quota|credit|balance|fund)|credit balance|billing_hard_limit"
    r"|budget[^.]{0,30} exceeded|exceeded[ _-]?budget|key limit exceeded \(|spending limit|specified api usage limits"
    r"|billing_not_active|arrearage|(any|all available|prepayment) credits"
)
_FILTER = (
    r"content[ _-]?(management|filter|policy|moderation|exists risk)|responsible ?ai|data[ _]?inspection|moderation"
    r"|prohibited[ _]content|sensitive[ _]?(content|word)|new_sensitive|(considered|content is) high risk"
    r"|(prompt|input|content|message)s? (was |were |has been |is )?(flagged|blocked)|inappropriate content"
    r"|(content|prompt|input|text)[^.]{0,40} violat[^.]{0,40}(polic|guideline|terms)|safety (system|filter|check|polic)"
    "|\N{CJK UNIFIED IDEOGRAPH-654F}\N{CJK UNIFIED IDEOGRAPH-611F}"  # "sensitive" in Chinese
)
# A filter of the network, or a blocked account: nothing about this one request.
_BLOCKED = r"<html|<!doctype|site (is|was|has been) |your (account|organi[sz]ation|access|ip\b|api key)"
_CONTEXT = (
    r"context[ _]?(length|size|window)|maximum context|maximum (input|prompt|sequence) length|max_model_len|n_ctx"
    r"|(prompt|input|request|messages?) (is |are )?too (long|large)|too many (input |prompt )?tokens|input token count"
    r"|reduce the length|exceeds? the (model'?s )?(maximum|max) (number of )?(input )?tokens|request entity too large"
    r"|`inputs` (tokens|must have less)"
)
_FORM = (
    r"response[ _]?format|json[ _-]?(object|mode|output)|structured[ _-]?output|output[ _](format|config)|schema|guided"
    r"|grammar|requested param"
)
_KEY = r"api[ _-]?key|unauthori[sz]ed|authenticat"
_MODEL = (
    r"model.{0,60}(not[ _](found|exist)|does not exist|decommissioned|no longer|retired|unloaded)"
    r"|(unknown|invalid|no such|not a valid) model|no models? (is |are )?loaded"
    r'|"param": "model"'
)
_KINDS = (  # of faults: name, statuses, and a pattern; the first match is used
    ("unpaid", (402,), ""),
    ("unpaid", (400, 403, 412, 429), _UNPAID),
    ("blocked", (400, 403, 422, 451), _BLOCKED),
    ("filtered", (400, 403, 422, 451), _FILTER),
    ("cut_off", (400,), r"could not finish the message"),  # OpenAI's, if the tokens only sufficed for reasoning
    ("too_long", (400, 413, 422, 500), _CONTEXT),
    ("logprobs", (403, 422), "allowed to request logprobs|top_n_tokens"),  # OpenAI's words, and TGI's
    ("key", _REJECTING, _KEY),
    ("form", (*_REJECTING, 404, 500), _FORM),
    ("model", _REJECTING, _MODEL),
    ("roles", (*_REJECTING, 500), r"system role|roles must alternate|roles are supported|role'? does not support"),
    ("version", _REJECTING, r"api[ _-]?version"),
    ("rejected", (*_REJECTING, 413), ""),
)
_LASTING = ("unpaid", "too_long", "roles")  # kinds that no further try changes, and that cost nothing
_STATUSES = (  # the status of an error inside a reply with status 200 that gives no number
    (400, f"{_FILTER}|{_CONTEXT}"),
    (402, _UNPAID),
    (429, r"rate[ _-]?limit|too many requests|resource[ _]exhausted|throttl"),
    (503, r"overload|unavailable|capacity|timed? ?out"),
    (401, _KEY),
    (403, r"permission|forbidden|access denied"),
    (404, r"not[ _]found|no such model|does not exist|unexpected endpoint"),
    (400, r"invalid|bad[ _]?request|unsupported|not supported"),
)
# "Please try again in 1h2m2.5s", and `retryDelay` of Google.
_WAIT = re.compile(
    r'(?:retrydelay": ?"|(?:retry|try again) (?:in|after) |wait )(?:(\d+)h ?)?(?:(\d+)m ?)?(\d+(?:\.\d+)?) ?(ms|s)'
)
_ADVICE: dict[str | int, str] = {  # by kind, else by status
    "unpaid": "add credit there, or set another `llm.endpoint`",
    "blocked": "ask who runs the endpoint, or the network between",
    "logprobs": "set `llm.body: {{logprobs: null, top_logprobs: null}}`, in addition to its other fields",
    "key": "set {key} in the environment",
    "model": "check `llm.model`",
    "roles": "set another `llm.model`, because this one takes no system message",
    "version": "check `llm.api_version`",
    401: "set {key} in the environment",
    403: "check the permissions of the key in {key}",
    404: "check `llm.endpoint` and `llm.model`",
    407: "add a user name and a password to HTTP_PROXY or HTTPS_PROXY in the environment",
    429: "wait, or lower `llm.concurrency`",
}


@dataclass(eq=False)
class Fault(Exception):  # noqa: N818 - the error is the endpoint's
    """A reply that is an error."""

    status: int  # the HTTP status, or the status that an error inside a reply stands for
    message: str  # the endpoint's message
    text: str  # the whole error in lower case, including codes and field names

    @property
    def kind(self) -> str:
        """One of `_KINDS`, or ""."""
        fitting = (kind for kind, statuses, words in _KINDS if self.status in statuses and re.search(words, self.text))
        return next(fitting, "")

    @property
    def can_pass(self) -> bool:
        """Whether trying again can help."""
        return can_pass(self.status) and self.kind not in _LASTING

    @property
    def may_cost(self) -> bool:
        """Whether an answer may have been generated, and charged for, before the error."""
        return self.status >= 500 and self.status not in _UNSERVED and self.kind not in _LASTING

    def find_fields(self, body: Mapping[str, Any]) -> list[str]:
        """Return the fields of a request's body that the error names."""
        fields = [name for name in body if name not in ("messages", "model", "response_format")]
        # An ordinary word, such as `stop`, may not mean the field, so it must be in quotes.
        marks = {name: "" if name in _OWN_FIELDS or "_" in name else "[\"'`]" for name in fields}
        patterns = {name: rf"{mark}\b{re.escape(name.lower())}\b{mark}" for name, mark in marks.items()}
        return [name for name in fields if self.status in _REJECTING and re.search(patterns[name], self.text)]

    def refuses_schema(self, body: Mapping[str, Any]) -> bool:
        """Whether the JSON schema in the body may be what was refused: the error names it, or names nothing else."""
        return self.kind == "form" or (self.kind == "rejected" and self.status != 413 and not self.find_fields(body))


def read_answer(content: bytes, price: Price | None, *, batch: bool = False, status: int = 200) -> Answer:
    """Return the answer in the body of a reply; raise a Fault if it is an error, a ValueError if it is something else.

    If the reply is a single token with its likely alternatives, the text is their log-probabilities, as JSON under the
    key `logprobs`. Own reasons are `error` (no choice), `refusal`, and those that some endpoints report by an error:
    `content_filter` and `length`. The cost is None if there is no price, or if the endpoint does not count tokens.
    """
    fault = read_fault(content, status)
    if fault and fault.kind == "filtered":
        return Answer("", "content_filter", 0, 0, None if price is None else 0.0)
    if fault and fault.kind == "cut_off":
        return Answer("", "length", 0, 0)
    if fault:
        with suppress(KeyError, TypeError, ValueError):  # Groq's form of an answer that does not fit the JSON schema
            return Answer(_join_parts(json.loads(content)["error"]["failed_generation"]), "stop", 0, 0)
        raise fault
    try:
        reply = json.loads(content)
        usage = reply.get("usage") or {}
        tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        prompt, completion = (int(number or 0) for number in tokens)
        # Some endpoints count the tokens of reasoning, which they charge for, only in the total.
        completion = max(completion, int(usage.get("total_tokens") or 0) - prompt)
        is_counted = None not in tokens or (price is not None and not price.cost(1, 1))
        cost = price.cost(prompt, completion, batch) if price and is_counted else None
        choice = [*reply["choices"], {"message": {}, "finish_reason": "error"}][0]
        reason, message = choice.get("finish_reason") or "", choice.get("message")
        if message is None and reason not in ("", "stop"):  # Google leaves out a message without text
            message = {}
        refusal = message.get("refusal")
        text = _read_logprobs(choice) or _join_parts(refusal or message.get("content"))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("it is not a chat completion") from error
    return Answer(text, "refusal" if refusal else reason, prompt, completion, cost)


def can_pass(status: int) -> bool:
    """Return whether trying again may help after a failure with this HTTP status."""
    return status in _PASSING or status >= 500


def read_fault(content: bytes, status: int = 200) -> Fault | None:
    """Return the error in the body of a reply; None if its status is 200 and it holds no error."""
    try:
        body = json.loads(content)
    except ValueError:
        body = content.decode(errors="replace")
    if isinstance(body, list) and len(body) == 1:  # Google's
        body = body[0]
    error = _find_error(body)
    if not error and status == 200:
        return None
    error = _leave_out_input(error or body or "")
    text = json.dumps(error, ensure_ascii=False).lower()
    return Fault(status if status != 200 else _find_status(error, text), _phrase(error), text)


def read_wait(headers: Mapping[str, str], now: float, text: str = "") -> float:
    """Return the seconds that a reply asks to wait, in its headers or in the `text` of its error; 0 if it does not.

    `Retry-After` holds seconds or a date (RFC 9110, 10.2.3) by the clock that `Date` shows, or else by `now` (in
    seconds since 1970).
    """
    with suppress(ValueError, OverflowError):
        now = email.utils.parsedate_to_datetime(headers.get("date", "")).timestamp()
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        with suppress(ValueError):
            return max(0.0, float(value) * unit)  # 0 for NaN
        with suppress(ValueError, OverflowError):
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    if not (found := _WAIT.search(text)):
        return 0.0
    return 3600 * int(found[1] or 0) + 60 * int(found[2] or 0) + float(found[3]) * (0.001 if found[4] == "ms" else 1.0)


def advise(fault: Fault, key_name: str, request: Request | None = None) -> str:
    """Return what to do about a fault; `request` is None if it was sent in a batch and is not available."""
    if fault.kind == "too_long":
        lower = "" if request and not request.group else "lower `prompts.shots`, or "  # a grader's requests have none
        rows = ", ".join(request.rows) if request else ""
        return f"{lower}shorten the longest of its rows" + (f" ({rows})" if rows else "")
    if fault.kind == "form" and request is None:
        return "set `llm.batch: false`, so that JSON is requested in another form"
    if fault.kind not in _ADVICE and fault.status in _REJECTING:
        return _advise_on_fields(fault, request.body if request else dict.fromkeys(_OWN_FIELDS, _REASONING_TOKENS))
    other = "run again later" if fault.can_pass else "check that `llm.endpoint` is the base URL of the API"
    return _ADVICE.get(fault.kind, _ADVICE.get(fault.status, other)).format(key=key_name)


def _advise_on_fields(fault: Fault, body: Mapping[str, Any]) -> str:
    changes: dict[str, str] = {}
    advice, fields = [], fault.find_fields(body)
    for name in fields:
        if name == "max_tokens" and re.search(
            r"too (large|high|big)|at most|less than|exceed|maximum|valid range", fault.text
        ):
            advice.append("lower `synthesis.max_tokens`")
        elif name in _OWN_FIELDS:
            changes |= dict.fromkeys(_OWN_FIELDS[-2:] if name in _OWN_FIELDS[-2:] else [name], "null")
            if name == "max_tokens" and not body.keys() & set(TOKEN_LIMITS[1:]):
                changes["max_completion_tokens"] = str(max(int(body[name]), _REASONING_TOKENS))
        elif not (name in TOKEN_LIMITS and "max_tokens" in fields):
            advice.append(f"remove `{name}` from `llm.body`, or change it")
    if changes:
        shown = ", ".join(f"{name}: {value}" for name, value in changes.items())
        advice.insert(0, f"set `llm.body: {{{shown}}}`, in addition to its other fields")
    default = "use `llm.body` to leave out what it names, as in `llm.body: {seed: null}`, or set another `llm.model`"
    return ", and ".join(advice) or default


def _find_error(body: object) -> object:
    """Return the value in the places where endpoints put an error; None if there is none."""
    if not isinstance(body, dict):
        return None
    match body.get("choices"):
        case [{"error": error}, *_] if error:
            return error
        case [{"finish_reason": "error"}, *_]:
            return body.get("error") or {"message": "it broke off with the finish_reason `error`", "code": 502}
        case [{}, *_]:
            return body.get("error")
    is_error = body.get("object") == "error" or ("message" in body and body.keys() & {"code", "status", "type"})
    return body.get("error") or (body if is_error else None)


def _find_status(error: object, text: str) -> int:
    for name in ("code", "status", "status_code"):
        number = str(error.get(name, "")) if isinstance(error, dict) else ""
        if number.isdigit() and 400 <= int(number) < 600:
            return int(number)
    return next((status for status, words in _STATUSES if re.search(words, text)), 500)


def _leave_out_input(value: Any) -> Any:
    """Leave out the input that an error repeats: it is not the endpoint's text, and a person may have written it."""
    if isinstance(value, dict):
        return {name: _leave_out_input(part) for name, part in value.items() if name != "input"}
    return [_leave_out_input(part) for part in value] if isinstance(value, list) else value


def _phrase(error: Any) -> str:
    match error:
        case str():
            return error
        case [*errors]:
            return "; ".join(map(_phrase, errors))
        case {"msg": str(message), "loc": [*place]}:  # FastAPI's
            return f"{'.'.join(map(str, place))}: {message}"
        case {"message": message, "metadata": {"raw": str(raw)}} if message:  # the error that OpenRouter got
            return f"{_phrase(message)}: {raw}"
        case dict():
            if said := next(filter(None, map(error.get, ("message", "msg", "detail", "error"))), None):
                return _phrase(said)
    return json.dumps(error, ensure_ascii=False)


def _read_logprobs(choice: Mapping[str, Any]) -> str:
    """Return the log-probabilities of the candidates for an answer's only token, as JSON; "" if there are none."""
    found: dict[str, float] = {}
    try:
        tokens = choice["logprobs"]["content"]
        for one in tokens[0]["top_logprobs"] if len(tokens) == 1 else ():
            # Two tokens may have one spelling; the likelier comes first.
            found.setdefault(one["token"].encode("utf-8", "replace").decode(), round(one["logprob"], 4))
    except (AttributeError, KeyError, TypeError):  # they are missing, or have another form
        return ""
    return json.dumps({"logprobs": found}, ensure_ascii=False) if found else ""


def _join_parts(content: Any) -> str:
    """Join the text parts of a content; leave out the model's thinking and everything else that is not text."""
    parts = content if isinstance(content, list) else [content] if content is not None else []
    texts = [
        part["text"] if isinstance(part, dict) else part
        for part in parts
        if not isinstance(part, dict) or part.get("type", "text") in ("text", "output_text")
    ]
    # A text that ends inside an emoji may hold half a surrogate pair, which is not valid Unicode and cannot be stored.
    return "".join(texts).encode("utf-8", "replace").decode()

"""What an endpoint says of a request that it does not answer, and what the person at the terminal can do about it.

Endpoints word the same trouble in many ways, and some put it into a reply with status 200.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from amalgam.llm.endpoint import Endpoint
from amalgam.llm.request import TOKEN_LIMITS, Request

_PASSING = (408, 409, 425, 429)  # and all from 500 up
_UNSERVED = (501, 503, 529)  # said before anything is generated; 529 is Anthropic's word for 503
_REJECTING = (400, 415, 422, 501)  # of a request that is not understood
_OWN_FIELDS = ("seed", "temperature", "top_p", "max_tokens")  # those that a request has without `llm.body`
_REASONING_TOKENS = 400  # a model that wants `max_completion_tokens` may think before it answers

_UNPAID = re.compile(r"insufficient[ _](\w+[ _])?(quota|credit|balance|fund)|credit balance|billing_hard_limit")
_FILTER = re.compile(
    r"content[ _-]?(management|filter|policy|moderation|exists risk)|responsible ?ai|data[ _]?inspection|moderation"
    r"|prohibited[ _]content|sensitive[ _]?(content|word)|new_sensitive|(considered|content is) high risk"
    r"|(prompt|input|content|message)s? (was |were |has been |is )?(flagged|blocked)|inappropriate content"
    r"|(content|prompt|input|text)[^.]{0,40} violat[^.]{0,40}(polic|guideline|terms)|safety (system|filter|check|polic)"
    "|\N{CJK UNIFIED IDEOGRAPH-654F}\N{CJK UNIFIED IDEOGRAPH-611F}"  # "sensitive" in Chinese
)
_CONTEXT = re.compile(
    r"context[ _]?(length|size|window)|maximum context|maximum (input|prompt|sequence) length|max_model_len|n_ctx"
    r"|(prompt|input|request|messages?) (is |are )?too (long|large)|too many (input |prompt )?tokens|input token count"
    r"|reduce the length|exceeds? the (model'?s )?(maximum|max) (number of )?(input )?tokens|request entity too large"
)
_FORM = re.compile(
    r"response[ _]?format|json[ _-]?(object|mode|output)|structured[ _-]?output|output[ _](format|config)|schema|guided"
    r"|grammar|requested param"
)
_KEY = re.compile(r"api[ _-]?key|unauthori[sz]ed|authenticat")
_MODEL = re.compile(r"model[^.]{0,60}(not[ _](found|exist)|does not exist)|(unknown|invalid|no such) model")
_STATUSES = {  # what an error inside a reply with status 200 means where it gives no number
    402: _UNPAID,
    429: re.compile(r"rate[ _-]?limit|too many requests|resource[ _]exhausted|throttl"),
    503: re.compile(r"overload|unavailable|capacity|timed? ?out"),
    401: _KEY,
    403: re.compile(r"permission|forbidden|access denied"),
    404: re.compile(r"not[ _]found|no such model|does not exist"),
    400: re.compile(r"invalid|bad[ _]?request|unsupported|not supported"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of an endpoint.

    Attributes:
        status: the HTTP status, or the one that an error inside a reply stands for.
        message: what the endpoint says.
        text: all that it says, codes and names of fields included, in lower case.
    """

    status: int
    message: str
    text: str

    @property
    def is_rejection(self) -> bool:
        """Whether this one request is wrong in itself."""
        return self.status in (*_REJECTING, 413) and not self.is_unpaid

    @property
    def is_unpaid(self) -> bool:
        """Whether money is missing."""
        return self.status == 402 or (self.status in (400, 403, 429) and bool(_UNPAID.search(self.text)))

    @property
    def is_filtered(self) -> bool:
        """Whether a filter refused what this one request says."""
        return self.status in (400, 403, 422, 451) and not self.is_unpaid and bool(_FILTER.search(self.text))

    @property
    def is_too_long(self) -> bool:
        """Whether the request does not fit into the model's context."""
        return self.status in (400, 413, 422, 500) and bool(_CONTEXT.search(self.text))

    @property
    def can_pass(self) -> bool:
        """Whether trying again can help."""
        return can_pass(self.status) and not self.is_unpaid and not self.is_too_long

    @property
    def may_cost(self) -> bool:
        """Whether an answer may have been generated, and charged for, before the error."""
        return self.status >= 500 and self.status not in _UNSERVED and not self.is_too_long

    def find_fields(self, body: dict[str, Any]) -> list[str]:
        """Return the fields of a request's body that the endpoint names."""
        if self.status not in _REJECTING:
            return []
        fields = [name for name in body if name not in ("messages", "model", "response_format")]
        # Of an ordinary word, such as `stop`, one does not know whether it is the field.
        marks = {name: "" if name in _OWN_FIELDS or "_" in name else "[\"'`]" for name in fields}
        return [
            name for name, mark in marks.items() if re.search(rf"{mark}\b{re.escape(name.lower())}\b{mark}", self.text)
        ]

    def refuses_schema(self, body: dict[str, Any]) -> bool:
        """Whether it may be the JSON schema in the body that is refused: it is named, or nothing else is."""
        if self.is_too_long or self.is_filtered or self.is_unpaid or _KEY.search(self.text):
            return False
        if _FORM.search(self.text):
            return self.status in (*_REJECTING, 404, 500)
        return self.status in _REJECTING and not self.find_fields(body) and not _MODEL.search(self.text)


def can_pass(status: int) -> bool:
    """Say of the HTTP status of a failure whether trying again may help."""
    return status in _PASSING or status >= 500


def read_fault(content: bytes, status: int = 200) -> Fault | None:
    """Find the error in the body of a reply; None where its status is 200 and it holds none."""
    try:
        body = json.loads(content)
    except ValueError:
        body = content.decode(errors="replace") if status != 200 else None
    if isinstance(body, list) and len(body) == 1:  # Google's
        body = body[0]
    error = _find_error(body)
    if not error and status == 200:
        return None
    error = error or body or ""
    error = _leave_out_input(error)
    text = json.dumps(error, ensure_ascii=False).lower()
    return Fault(status if status != 200 else _find_status(error, text), _phrase(error), text)


def advise(fault: Fault, endpoint: Endpoint, request: Request | None = None) -> str:
    """Say what to do about a fault; `request` is None where it went out in a batch, and is not at hand."""
    status = fault.status
    if fault.is_too_long:
        return _advise_on_length(endpoint, request)
    if fault.is_unpaid:
        return "pay for more there, or name another `llm.endpoint`"
    if status in _REJECTING and _KEY.search(fault.text):
        status = 401
    elif status in _REJECTING:
        if _MODEL.search(fault.text):
            return "check `llm.model`"
        if endpoint.api_version and re.search(r"api[ _-]?version", fault.text):
            return "check `llm.api_version`"
        if request is None and _FORM.search(fault.text):
            return "set `llm.batch: false`, so that it is asked for JSON in another form"
        body = request.body if request else dict.fromkeys(_OWN_FIELDS, _REASONING_TOKENS)
        return _advise_on_fields(fault.find_fields(body), body, fault.text)
    return {
        401: f"set {endpoint.key_name} in the environment",
        403: f"check what the key in {endpoint.key_name} may do",
        404: "check `llm.endpoint` and `llm.model`",
        407: "put a name and a password into HTTP_PROXY or HTTPS_PROXY in the environment",
        429: "wait, or set `llm.requests_per_minute` to what the endpoint allows",
    }.get(status, "run again later" if fault.can_pass else "check `llm.endpoint`, the base URL that the API is below")


def _advise_on_length(endpoint: Endpoint, request: Request | None) -> str:
    advice = "raise `llm.context`, or lower" if endpoint.slots else "lower"
    if request is None:
        return f"{advice} `prompts.shots` or `judge.shots`, or leave out the longest row"
    shots = "prompts.shots" if request.group else "judge.shots"  # only requests for responses are in groups
    if longest := request.find_longest():
        return f"{advice} `{shots}`, or shorten the row {longest[0]}, the longest in it ({longest[1]} characters)"
    return f"{advice} `{shots}`, or shorten the longest of its rows ({', '.join(request.rows) or request.id})"


def _advise_on_fields(fields: list[str], body: dict[str, Any], text: str) -> str:
    changes: dict[str, str] = {}
    advice = []
    for name in fields:
        if name not in _OWN_FIELDS:
            if not (name in TOKEN_LIMITS and "max_tokens" in fields):
                advice.append(f"take `{name}` out of `llm.body`, or change it")
        elif name != "max_tokens":
            changes[name] = "null"
        elif re.search(r"too (large|high|big)|at most|less than|exceed|maximum", text):
            advice.append("lower `synthesis.max_tokens`")
        else:
            changes[name] = "null"
            if not any(other in body for other in TOKEN_LIMITS if other != name):
                changes["max_completion_tokens"] = str(max(int(body[name]), _REASONING_TOKENS))
    if changes:
        shown = ", ".join(f"{name}: {value}" for name, value in changes.items())
        advice.insert(0, f"set `llm.body: {{{shown}}}`, beside what it holds")
    default = "leave out what it names by `llm.body`, as in `llm.body: {seed: null}`, or name another `llm.model`"
    return ", and ".join(advice) or default


def _find_error(body: object) -> object:
    """Return what stands where endpoints put an error; None where there is nothing."""
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        if error := body.get("error") or choices[0].get("error"):
            return error
        if choices[0].get("finish_reason") == "error":
            return {"message": "it broke off with the finish_reason `error`", "code": 502}
        return None
    is_error = body.get("object") == "error" or ("message" in body and body.keys() & {"code", "status", "type"})
    return body.get("error") or (body if is_error else None)


def _find_status(error: object, text: str) -> int:
    if isinstance(error, dict):
        for name in ("code", "status", "status_code"):
            number = str(error.get(name, ""))
            if number.isdigit() and 400 <= int(number) < 600:
                return int(number)
    if _FILTER.search(text) or _CONTEXT.search(text):
        return 400
    return next((status for status, words in _STATUSES.items() if words.search(text)), 500)


def _leave_out_input(value: Any) -> Any:
    """Leave out what an error repeats of the request, which is no word of the endpoint, and may be a person's."""
    if isinstance(value, dict):
        return {name: _leave_out_input(part) for name, part in value.items() if name != "input"}
    return [_leave_out_input(part) for part in value] if isinstance(value, list) else value


def _phrase(error: Any) -> str:
    if isinstance(error, dict):
        if isinstance(error.get("msg"), str) and isinstance(error.get("loc"), list):  # FastAPI's
            return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
        for name in ("message", "msg", "detail", "error"):
            if error.get(name):
                metadata = error.get("metadata")
                raw = metadata.get("raw") if isinstance(metadata, dict) else None  # what OpenRouter was told itself
                return _phrase(error[name]) + (f": {raw}" if isinstance(raw, str) else "")
    if isinstance(error, list):
        return "; ".join(map(_phrase, error))
    return error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)

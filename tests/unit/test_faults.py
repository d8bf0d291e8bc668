"""Replies of endpoints: answers in every form, and errors as many endpoints word them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam.llm.faults import Fault, advise, read_answer, read_fault, read_wait
from amalgam.llm.request import FREE, Answer, Price, Request

KEY = "OPENAI_API_KEY"
NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT
BODY = {"messages": [], "temperature": 0.7, "top_p": 0.9, "max_tokens": 64, "seed": 1, "top_k": 5, "stop": "x"}
JSON = BODY | {"response_format": {"type": "json_schema"}}
FILTERED = [
    (400, {"message": "The response was filtered", "code": "content_filter", "innererror": {"code": "x"}}),
    (400, {"message": "Filtered.", "code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}),
    (400, {"message": "the prompt triggered the content management policy. Please modify your prompt"}),
    (400, {"message": "Input data may contain inappropriate content.", "code": "data_inspection_failed"}),
    (400, {"message": "Output data may contain it.", "code": "DataInspectionFailed"}),
    (400, {"message": "Content Exists Risk", "type": "invalid_request_error"}),
    (400, {"message": "Invalid prompt: your prompt was flagged as potentially violating our usage policy."}),
    (400, {"message": "Output blocked by content filtering policy"}),
    (403, {"message": "Your chosen model requires moderation and your input was flagged", "code": 403}),
    (403, {"message": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"}),
    (422, {"message": "rejected because it was considered high risk"}),
    (400, {"code": "1301", "message": "内容可能包含不安全或敏感内容"}),
]
TOO_LONG = [
    (400, {"message": "This model's maximum context length is 4096 tokens. However, you requested 9360 tokens."}),
    (400, {"message": "Please reduce it", "code": "context_length_exceeded"}),
    (400, {"message": "the request exceeds the available context size, try increasing it", "n_ctx": 4096}),
    (500, {"message": "the request exceeds the available context size. try increasing the context size"}),
    (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}),
    (400, {"message": "The input token count (40000) exceeds the maximum number of tokens allowed (32768)."}),
    (400, {"message": "Input length 5000 exceeds the maximum input length 4095"}),
    (413, "<html><h1>413 Request Entity Too Large</h1></html>"),
]
NEITHER = [
    (400, {"message": "This response_format type is unavailable now"}),
    (401, {"message": "Incorrect API key provided"}),
    (403, {"message": "You do not have access to this model"}),
    (429, {"message": "Rate limit reached for requests"}),
    (400, {"message": "Invalid value for 'content': expected a string"}),
    (422, [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": "content policy"}]),
]


def read(status: int, error: Any) -> Fault:
    fault = read_fault(json.dumps({"error": error}).encode(), status)
    assert fault
    return fault


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [(kind, *one) for kind, all_ in (("filtered", FILTERED), ("too_long", TOO_LONG), ("", NEITHER)) for one in all_],
)
def test_a_filter_and_a_context_that_is_too_small_are_told_in_every_wording(kind: str, status: int, error: Any) -> None:
    fault = read(status, error)
    assert kind == (fault.kind if kind else "" if fault.kind not in ("filtered", "too_long") else fault.kind)
    if kind == "filtered":
        content = json.dumps({"error": error}).encode()
        answer = read_answer(content, Price(1.0, 1.0), status=status)
        assert (answer, fault.refuses_schema(JSON)) == (Answer("", "content_filter", 0, 0, 0.0), False)
    if kind == "too_long":
        assert (fault.can_pass, fault.may_cost) == (False, False)


@pytest.mark.parametrize(
    ("status", "message", "is_schema"),
    [
        (400, "This response_format type is unavailable now", True),
        (400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.", True),
        (422, "response_format.type: Input should be 'text' or 'json_object'", True),
        (500, "failed to parse grammar", True),
        (501, "structured outputs are not implemented", True),
        (404, "No endpoints found that can handle the requested parameters.", True),
        (400, "Bad Request", True),  # no cause is named, so it is worth a try
        (400, "seed is not supported", False),
        (400, "API key not valid. Please pass a valid API key.", False),
        (400, "Model Not Exist", False),
        (404, "no such model", False),
        (401, "wrong key", False),
        (500, "internal error", False),
        (402, "insufficient credits", False),
    ],
)
def test_a_schema_that_is_refused_is_told(status: int, message: str, is_schema: bool) -> None:
    assert read(status, {"message": message}).refuses_schema(JSON) == is_schema


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ({"message": {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs"}]}}, "set `llm.body: {seed: null}`"),
        ({"message": "Unrecognized request argument supplied: seed"}, "set `llm.body: {seed: null}`"),
        ({"message": "it is unsupported", "param": "temperature"}, "set `llm.body: {temperature: null}`"),
        (
            {"message": "`temperature` and `top_p` cannot both be specified for this model."},
            "set `llm.body: {temperature: null, top_p: null}`",
        ),
        (
            {"message": "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."},
            "set `llm.body: {max_tokens: null, max_completion_tokens: 400}`",
        ),
        ({"message": "max_tokens is too large: 64. At most 32 are allowed"}, "lower `synthesis.max_tokens`"),
        ({"message": 'unknown name "top_k": cannot find field'}, "remove `top_k` from `llm.body`, or change it"),
        ({"message": "API key not valid. Please pass a valid API key."}, "set OPENAI_API_KEY in the environment"),
        ({"message": "The model `m` does not exist"}, "check `llm.model`"),
        ({"message": "please stop"}, "use `llm.body` to leave out what it names, as in `llm.body: {seed: null}`"),
        ({"message": "property 'stop' is unsupported"}, "remove `stop` from `llm.body`"),
    ],
)
def test_a_field_that_is_refused_is_named_with_the_way_out(error: Any, advice: str) -> None:
    assert advise(read(400, error), KEY, Request("a", "m", BODY, 0)).startswith(advice)


BOTH = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported"


@pytest.mark.parametrize(
    ("message", "request_", "advice"),
    [
        ("no json_schema", None, "set `llm.batch: false`"),  # for a batch, only the fault is known
        ("no such seed", None, "set `llm.body: {seed: null}`"),
        ("context_length", None, "lower `prompts.shots`, or shorten"),
        ("context_length", Request("a", "m", BODY, 0, "g", ("c1", "c2")), "lower `prompts.shots`, or shorten"),
        ("context_length", Request("a", "m", BODY, 0, "", ("c1", "c2")), "shorten the longest of its rows (c1, c2)"),
        (BOTH, Request("a", "m", BODY | {"max_completion_tokens": 400}, 0), "set `llm.body: {max_tokens: null}`, i"),
    ],
)
def test_advice_knows_what_was_asked(message: str, request_: Request | None, advice: str) -> None:
    assert advise(read(400, {"message": message}), KEY, request_).startswith(advice)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"choices": None, "error": {"message": "busy", "code": 429}}, 429, "busy"),
        ({"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": "x"}}}, 502, "x"),
        ({"error": {"message": "Insufficient credits", "code": "402"}}, 402, "Insufficient credits"),
        ({"error": {"message": "no", "type": "insufficient_quota"}}, 402, "no"),
        ({"error": {"message": "no", "type": "rate_limit_error"}}, 429, "no"),
        ({"error": {"message": "It may be.", "code": "data_inspection_failed"}}, 400, "It may be."),
        ({"error": "model is overloaded"}, 503, "model is overloaded"),
        ({"error": {"message": "Invalid API key"}}, 401, "Invalid API key"),
        ({"error": {"message": "what?"}}, 500, "what?"),
        ({"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}, 400, "bad"),
        ([{"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}], 429, "slow"),
        ({"choices": [{"finish_reason": "error", "error": {"code": 503, "message": "gone"}}]}, 503, "gone"),
        ({"choices": [{"finish_reason": "error", "message": {"content": "hal"}}]}, 502, "finish_reason"),
    ],
)
def test_an_error_inside_an_answer_counts_as_its_status(body: Any, status: int, message: str) -> None:
    fault = read_fault(json.dumps(body).encode())
    assert fault
    assert fault.status == status
    assert message in fault.message


def build_reply(text: Any = "fine", **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}, **changes}


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (build_reply(), Answer("fine", "stop", 3, 2)),
        (build_reply(choices=[]), Answer("", "error", 3, 2)),
        (build_reply(None), Answer("", "stop", 3, 2)),
        (build_reply([{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]), Answer("fine", "stop", 3, 2)),
        (build_reply([{"type": "thinking", "thinking": [{"text": "hm"}]}, "fine"]), Answer("fine", "stop", 3, 2)),
        (build_reply(usage=None), Answer("fine", "stop", 0, 0)),
        (build_reply(usage={}), Answer("fine", "stop", 0, 0)),
        ({"choices": [{"message": {"content": "short"}}]}, Answer("short", "", 0, 0)),
        ({"choices": [{"index": 0, "finish_reason": "content_filter"}]}, Answer("", "content_filter", 0, 0)),
        (
            build_reply(choices=[{"message": {"content": None, "refusal": "I won't"}, "finish_reason": "stop"}]),
            Answer("I won't", "refusal", 3, 2),
        ),
        (build_reply("half \ud83d, whole 😀, zero \x00"), Answer("half ?, whole 😀, zero \x00", "stop", 3, 2)),
    ],
)
def test_answers_of_every_form_are_read(reply: Any, answer: Answer) -> None:
    assert read_answer(json.dumps(reply).encode(), None) == answer


NO_COMPLETIONS = [
    *([], None, "text", {"detail": "hello"}, {"error": 0}),
    build_reply(choices=[None]),
    build_reply(choices=[{"index": 0, "finish_reason": "stop"}]),
    build_reply([{"type": "text"}]),
    build_reply({"type": "text", "text": 5}),
]


@pytest.mark.parametrize(
    "content",
    [*(json.dumps(reply).encode() for reply in NO_COMPLETIONS), b"<html>a page</html>", b"", b'{"choices": [', b"\xff"],
)
def test_what_is_no_completion_is_told_and_with_a_status_it_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".|^$"):
        read_answer(content, None)
    with pytest.raises(Fault) as caught:
        read_answer(content, None, status=500)
    fault = caught.value
    assert (fault.status, fault.can_pass, fault.may_cost) == (500, True, True)


@pytest.mark.parametrize(
    ("usage", "price", "cost"),
    [
        ({"prompt_tokens": 1000, "completion_tokens": 100}, Price(2.0, 8.0), 0.0028),
        ({"prompt_tokens": 1000, "completion_tokens": 100}, None, None),
        ({"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}, Price(2.0, 8.0), 0.0028),
        ({"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1600}, Price(2.0, 8.0), 0.0068),
        ({"prompt_tokens": 1000}, Price(2.0, 8.0), None),
        (None, Price(2.0, 8.0), None),
        (None, FREE, 0.0),
    ],
)
def test_an_answer_costs_what_its_endpoint_counted(usage: Any, price: Price | None, cost: float | None) -> None:
    content = json.dumps(build_reply(usage=usage)).encode()
    assert read_answer(content, price).cost_usd == (None if cost is None else pytest.approx(cost))
    half = None if cost is None else pytest.approx(cost / 2)
    assert read_answer(content, price, batch=True).cost_usd == half


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
    ],
)
def test_a_wait_is_read_in_every_form(headers: dict[str, str], wait: float) -> None:
    assert read_wait(headers, NOW) == wait


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        ({"message": "Quota.", "details": [{"@type": "x/google.rpc.RetryInfo", "retryDelay": "40s"}]}, 40.0),
        ({"message": "You exceeded your current quota. Please retry in 40.5s."}, 40.5),
        ({"message": "Rate limit reached. Please try again in 1m2.5s."}, 62.5),
        ({"message": "Please try again in 250ms."}, 0.25),
        ({"message": "Try again in a while."}, 0.0),
    ],
)
def test_a_wait_is_also_read_from_the_error(error: dict[str, Any], wait: float) -> None:
    assert read_wait({}, NOW, read(429, error).text) == wait
    assert read_wait({"retry-after": "7"}, NOW, read(429, error).text) == 7.0


@pytest.mark.parametrize(
    "content",
    [
        b"<html><body>This site is blocked due to content filtering</body></html>",
        b'{"error": {"message": "Your account has been blocked for a violation of our content policy"}}',
    ],
)
def test_a_blocked_account_or_site_is_no_answer(content: bytes) -> None:
    with pytest.raises(Fault) as caught:
        read_answer(content, None, status=403)
    assert not caught.value.can_pass
    assert advise(caught.value, KEY).startswith("ask who runs the endpoint")


@given(st.text())
def test_whatever_the_header_holds_is_no_error(value: str) -> None:
    assert read_wait({"retry-after": value}, NOW) >= 0

"""Replies of endpoints: answers in every form, and errors as many endpoints word them."""

import json
from typing import Any

import pytest

from amalgam.llm.faults import Fault, advise, read_answer, read_fault, read_wait
from amalgam.llm.request import FREE, Answer, Price, Request

KEY = "OPENAI_API_KEY"
NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT
BODY = {"messages": [], "temperature": 0.7, "top_p": 0.9, "max_tokens": 64, "seed": 1, "top_k": 5, "stop": "x"}
ASKED = Request("a", "m", BODY, 0)
JSON = BODY | {"response_format": {"type": "json_schema"}}
FILTERED = [
    (400, {"message": "The response was filtered", "code": "content_filter", "innererror": {"code": "x"}}),
    (400, {"message": "Filtered.", "code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}),
    (400, "the prompt triggered the content management policy. Please modify your prompt"),
    (400, {"message": "Output data may contain it.", "code": "DataInspectionFailed"}),
    (400, "Content Exists Risk"),
    (400, "Invalid prompt: your prompt was flagged as potentially violating our usage policy."),
    (403, "Your chosen model requires moderation and your input was flagged"),
    (403, "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"),
    (422, "rejected because it was considered high risk"),
    (400, {"code": "1301", "message": "内容可能包含不安全或敏感内容"}),
]
TOO_LONG = [
    (400, "This model's maximum context length is 4096 tokens. However, you requested 9360 tokens."),
    (400, {"message": "Please reduce it", "code": "context_length_exceeded"}),
    (500, "the request exceeds the available context size. try increasing the context size"),
    (400, "prompt is too long: 210000 tokens > 200000 maximum"),
    (400, "The input token count (40000) exceeds the maximum number of tokens allowed (32768)."),
    (400, "Input length 5000 exceeds the maximum input length 4095"),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 512. Given: 700 `inputs` tokens"),
    (422, "Input validation error: `inputs` must have less than 4096 tokens. Given: 4545"),
    (413, "<html><h1>413 Request Entity Too Large</h1></html>"),
]
UNPAID = [
    (429, {"message": "Your account is not active, please check your billing details", "code": "billing_not_active"}),
    (429, "Your prepayment credits are depleted."),
    (429, "Your team has either used all available credits or reached its monthly spending limit."),
    (403, "Your newly created team doesn't have any credits or licenses yet."),
    (403, "Key limit exceeded (total limit). Manage it in the settings"),
    (412, "Account x is suspended, possibly due to reaching the monthly spending limit"),
    (400, "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."),
    (400, {"message": "Access denied, please make sure your account is in good standing.", "code": "Arrearage"}),
]
ROLES = [
    (500, "While executing CallExpression in source: {{ raise_exception('System role not supported') }}"),
    (400, 'Error rendering prompt with jinja template: "Only user and assistant roles are supported!".'),
]
LASTING = (("too_long", TOO_LONG), ("unpaid", UNPAID), ("roles", ROLES))
NEITHER = [
    (401, "Incorrect API key provided"),
    (403, "You do not have access to this model"),
    (429, "Rate limit reached for requests"),
    (400, "Invalid value for 'content': expected a string"),
    (422, [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": "content policy"}]),
]


def read(status: int, error: Any) -> Fault:
    fault = read_fault(json.dumps({"error": error}).encode(), status)
    assert fault
    return fault


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [(kind, *one) for kind, all_ in (("filtered", FILTERED), *LASTING, ("", NEITHER)) for one in all_],
)
def test_what_no_further_try_changes_is_told_in_every_wording(kind: str, status: int, error: Any) -> None:
    fault = read(status, error)
    assert fault.kind == kind or (not kind and fault.kind not in ("filtered", "too_long"))
    if kind == "filtered":
        answer = read_answer(json.dumps({"error": error}).encode(), Price(1.0, 1.0), status=status)
        assert (answer, fault.refuses_schema(JSON)) == (Answer("", "content_filter", 0, 0, 0.0), False)
    elif kind:
        assert (fault.can_pass, fault.may_cost) == (False, False)


def test_an_answer_of_thinking_only_that_came_as_an_error_is_cut_off() -> None:
    said = "Could not finish the message because max_tokens or model output limit was reached. Please try again."
    content = json.dumps({"error": {"message": said, "type": "invalid_request_error"}}).encode()
    assert read_answer(content, Price(1.0, 1.0), status=400) == Answer("", "length", 0, 0)


def test_an_answer_that_does_not_fit_its_schema_and_came_as_an_error_is_an_answer() -> None:
    said = "Generated JSON does not match the expected schema. See 'failed_generation' for more details."
    error = {"message": said, "code": "json_validate_failed", "failed_generation": '{"respons'}
    assert read_answer(json.dumps({"error": error}).encode(), None, status=400) == Answer('{"respons', "stop", 0, 0)


@pytest.mark.parametrize(
    ("status", "message", "is_schema"),
    [
        (400, "This response_format type is unavailable now", True),
        (500, "failed to parse grammar", True),
        (501, "structured outputs are not implemented", True),
        (404, "No endpoints found that can handle the requested parameters.", True),
        (400, "Bad Request", True),  # no cause is named, so it is worth a try
        (400, "seed is not supported", False),
        (400, "API key not valid. Please pass a valid API key.", False),
        (400, "Model Not Exist", False),
        (400, "bytedance/seed-9 is not a valid model ID", False),
        (400, "System role not supported", False),
        (404, "no such model", False),
        (500, "internal error", False),
    ],
)
def test_a_schema_that_is_refused_is_told(status: int, message: str, is_schema: bool) -> None:
    assert read(status, {"message": message}).refuses_schema(JSON) == is_schema


BOTH = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported"
ROWS = ("c1", "c2")


@pytest.mark.parametrize(
    ("error", "request_", "advice"),
    [
        ({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs"}]}, ASKED, "set `llm.body: {seed: null}`"),
        ({"message": "unsupported", "param": "temperature"}, ASKED, "set `llm.body: {temperature: null}`"),
        ("`temperature` and `top_p` cannot both be set.", ASKED, "set `llm.body: {temperature: null, top_p: null}`"),
        (
            "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            ASKED,
            "set `llm.body: {max_tokens: null, max_completion_tokens: 400}`",
        ),
        (BOTH, Request("a", "m", BODY | {"max_completion_tokens": 400}, 0), "set `llm.body: {max_tokens: null}`, i"),
        ("max_tokens is too large: 64. At most 32 are allowed", ASKED, "lower `synthesis.max_tokens`"),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", ASKED, "lower `synthesis.max_tokens`"),
        ('unknown name "top_k": cannot find field', ASKED, "remove `top_k` from `llm.body`, or change it"),
        ("API key not valid. Please pass a valid API key.", ASKED, "set OPENAI_API_KEY in the environment"),
        ("The model `m` does not exist", ASKED, "check `llm.model`"),
        ("bytedance/seed-9 is not a valid model ID", ASKED, "check `llm.model`"),
        ("The model `llama-3.1-70b` has been decommissioned and is no longer supported.", ASKED, "check `llm.model`"),
        ("Model unloaded.", ASKED, "check `llm.model`"),
        ("No models loaded. Please load a model in the developer page.", ASKED, "check `llm.model`"),
        ({"message": "m is not supported by any provider", "param": "model"}, ASKED, "check `llm.model`"),
        (
            "'messages[0].role' does not support 'system' with this model.",
            ASKED,
            "set another `llm.model`, because this one takes no system message",
        ),
        ("please stop", ASKED, "use `llm.body` to leave out what it names, as in `llm.body: {seed: null}`"),
        ("property 'stop' is unsupported", ASKED, "remove `stop` from `llm.body`"),
        ("no json_schema", None, "set `llm.batch: false`"),  # for a batch, only the fault is known
        ("no such seed", None, "set `llm.body: {seed: null}`"),
        ("context_length", None, "lower `prompts.shots`, or shorten"),
        ("context_length", Request("a", "m", BODY, 0, "g", ROWS), "lower `prompts.shots`, or shorten"),
        ("context_length", Request("a", "m", BODY, 0, "", ROWS), "shorten the longest of its rows (c1, c2)"),
    ],
)
def test_advice_names_the_field_or_the_rows(error: Any, request_: Request | None, advice: str) -> None:
    assert advise(read(400, error), KEY, request_).startswith(advice)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "You are not allowed to request logprobs from this model"),
        (422, "Input validation error: `top_n_tokens` must be >= 0 and <= 5. Given: 20"),
    ],
)
def test_log_probabilities_that_are_refused_can_be_left_out(status: int, message: str) -> None:
    advice = advise(read(status, message), KEY, ASKED)
    assert advice.startswith("set `llm.body: {logprobs: null, top_logprobs: null}`")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"choices": None, "error": {"message": "busy", "code": 429}}, 429, "busy"),
        ({"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": "x"}}}, 502, "x"),
        ({"error": {"message": "Insufficient credits", "code": "402"}}, 402, "Insufficient credits"),
        ({"error": {"message": "no", "type": "insufficient_quota"}}, 402, "no"),
        ({"error": "model is overloaded"}, 503, "model is overloaded"),
        ({"error": {"message": "Invalid API key"}}, 401, "Invalid API key"),
        ({"error": {"message": "what?"}}, 500, "what?"),
        ({"error": "Unexpected endpoint or method. (POST /chat/completions)"}, 404, "Unexpected endpoint"),
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
        ({"choices": [{"message": {"content": "short"}}]}, Answer("short", "", 0, 0)),
        ({"choices": [{"index": 0, "finish_reason": "SAFETY"}]}, Answer("", "SAFETY", 0, 0)),
        (build_reply(choices=[{"index": 0, "message": None, "finish_reason": "length"}]), Answer("", "length", 3, 2)),
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
    ("headers", "message", "wait"),
    [
        ({}, "Try again in a while.", 0.0),
        ({"retry-after": "7"}, "Please try again in 9s.", 7.0),
        ({"retry-after": "-3"}, "", 0.0),
        ({"retry-after": "soon"}, "", 0.0),
        ({"retry-after": "nan"}, "", 0.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, "", 1.5),
        ({"retry-after-ms": "x", "retry-after": "2"}, "", 2.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, "", 30.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, "", 0.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:30 GMT", "date": "Fri, 15 Jan 2027 07:00:00 GMT"}, "", 30.0),
        ({}, [{"@type": "x/google.rpc.RetryInfo", "retryDelay": "40s"}], 40.0),
        ({}, "You exceeded your current quota. Please retry in 40.5s.", 40.5),
        ({}, "Rate limit reached. Please try again in 1m2.5s.", 62.5),
        ({}, "Please try again in 1h12m0s.", 4320.0),
        ({}, "Please wait 40 seconds before retrying.", 40.0),
        ({}, "Please try again in 250ms.", 0.25),
    ],
)
def test_a_wait_is_read_in_every_form(headers: dict[str, str], message: Any, wait: float) -> None:
    assert read_wait(headers, NOW, read(429, message).text if message else "") == wait


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

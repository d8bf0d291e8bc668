from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amalgam.errors import AmalgamError, BudgetError, EndpointError, ModelError
from amalgam.llm.answering import Answering, answer_requests, choose_slots, serve_model
from amalgam.llm.request import Answer, Request
from amalgam.machine import count_cores
from tests.pipeline.server import StubServer
from tests.unit.helpers import make_answering


def make_request(label: str, sample: int, group: str = "") -> Request:
    content = f"Write one comment that is {label}: it says so."
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 9, "seed": sample}
    return Request(f"{label}-{sample}", "m", body, sample, group)


def answer(requests: list[Request], answering: Answering) -> list[Answer]:
    return answer_requests(requests, answering, "asking")


@pytest.fixture
def answering(server: StubServer, tmp_path: Path) -> Answering:
    return make_answering(tmp_path, server.url)


def test_only_what_has_no_answer_is_sent(server: StubServer, answering: Answering) -> None:
    requests = [make_request(label, sample) for sample in range(3) for label in ("praise", "complaint")]
    first = answer(requests[:2], answering)
    everything = answer(requests[::-1], answering)[::-1]
    assert server.log.synthesis == len(requests)
    assert everything[:2] == first
    assert answer(requests, answering) == everything
    assert server.log.synthesis == len(requests)
    assert len({one.text for one in everything}) == len(requests)
    assert {received.authorization for received in server.log.answered} == {"Bearer sk-secret"}


def test_equal_requests_are_sent_once_but_samples_apart(server: StubServer, answering: Answering) -> None:
    request = make_request("praise", 0)
    requests = [request] * 1200 + [Request("other", "m", request.body, 1)]
    assert len(answer(requests, answering)) == 1201
    assert server.log.synthesis == 2


def test_with_all_answers_known_no_endpoint_is_needed(server: StubServer, answering: Answering) -> None:
    known = answer([make_request("praise", 0)], answering)
    embedded = answering.llm.model_copy(update={"endpoint": "embedded"})  # its model is missing
    assert answer([make_request("praise", 0)], replace(answering, llm=embedded)) == known
    assert answer([], replace(answering, llm=embedded)) == []


def test_what_dvc_shares_is_not_sent(server: StubServer, answering: Answering) -> None:
    requests = [make_request("praise", sample) for sample in range(3)]
    read: list[str] = []

    def read_seeds(is_known: Callable[[str], bool]) -> Iterator[tuple[str, Iterator[tuple[str, Answer]]]]:
        if not is_known("source"):
            read.append("source")
            yield "source", iter([(requests[1].key, Answer("shared", "stop", 2, 1))])

    shared = replace(answering, read_seeds=read_seeds)
    assert answer(requests, shared)[1].text == "shared"
    assert server.log.synthesis == 2
    answer([*requests, make_request("praise", 3)], shared)
    assert (server.log.synthesis, read) == (3, ["source"])


def test_offline_fails_rather_than_send(server: StubServer, tmp_path: Path, answering: Answering) -> None:
    answer([make_request("praise", 0)], answering)
    offline = make_answering(tmp_path, server.url, offline=True)
    assert len(answer([make_request("praise", 0)], offline)) == 1
    with pytest.raises(EndpointError, match=r"2 of 3 requests have no answer and `llm\.offline` is true"):
        answer([make_request("praise", sample) for sample in range(3)], offline)
    assert server.log.synthesis == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_requests": 2}, "llm.max_requests"),
        ({"budget_usd": 1.0}, "no price"),
        ({"budget_usd": 0.0, "model": "gpt-4o-mini"}, "llm.budget_usd"),
        ({"endpoint": "embedded", "batch": True}, "the embedded LLM has no Batch API"),
    ],
)
def test_a_limit_ends_the_run_before_it_is_passed(
    server: StubServer, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    requests = [make_request("praise", sample) for sample in range(5)]
    with pytest.raises(AmalgamError, match=message):
        answer(requests, make_answering(tmp_path, **{"endpoint": server.url} | settings))
    assert server.log.synthesis == (settings.get("max_requests") or 0)


def test_the_requests_of_one_run_count_together(server: StubServer, tmp_path: Path) -> None:
    answering = make_answering(tmp_path, server.url, max_requests=3)
    answer([make_request("praise", sample) for sample in range(2)], answering)
    with pytest.raises(BudgetError, match=r"`llm\.max_requests: 3` is reached: 3 were sent in this run"):
        answer([make_request("complaint", sample) for sample in range(2)], answering)
    assert (answering.sent, server.log.synthesis) == (2, 3)


def test_there_are_two_slots_a_core_up_to_sixteen() -> None:
    assert choose_slots() == min(2 * count_cores(), 16)


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"model.gguf cannot be served"), serve_model(path, context=256, slots=1):
        pass

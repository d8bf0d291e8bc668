"""Spending: limits in requests and dollars hold, whatever fails, and what may have cost money counts."""

import pytest

from amalgam.errors import BudgetError, EndpointError
from amalgam.llm.journal import Journal
from amalgam.llm.request import Answer, Endpoint, Limits, Price, bound_tokens
from amalgam.llm.sending import send_requests
from tests.pipeline.server import BROKEN_JSON, Fault, StubServer
from tests.unit.sending import check_rows, make_request, send

PRICE = Price(1000.0, 10_000.0)  # 0.001 and 0.01 US dollars a token


@pytest.mark.parametrize("limit", [0, 7, 20])
def test_no_more_requests_are_sent_than_allowed(limit: int, server: StubServer, journal: Journal) -> None:
    if limit < 20:
        with pytest.raises(BudgetError, match=rf"`llm.max_requests: {limit}` is reached: .+, {20 - limit} are left"):
            send(20, server, journal, max_requests=limit)
    else:
        send(20, server, journal, max_requests=limit)
    assert len(server.log.arrived) == limit
    send(20, server, journal)
    check_rows(20, server, journal)


def test_tries_count_as_requests(server: StubServer, journal: Journal) -> None:
    server.fault = Fault(500, after=2, times=2)
    with pytest.raises(BudgetError, match="4 answers of this run are kept, 16 are left"):
        send(20, server, journal, max_requests=6)
    assert len(server.log.arrived) == 6
    server.fault = Fault(500, times=1)
    endpoint, groups = Endpoint(server.url, "served", "k"), [[make_request(number)] for number in range(50, 53)]
    limits = Limits(sent=2, max_requests=6)
    assert send_requests(groups, endpoint, journal, print, limits=limits, notify=print, total=3) == 6


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_budget_is_used_but_never_passed(concurrency: int, server: StubServer, journal: Journal) -> None:
    server.delay = 0.01
    # A request costs at most 0.059 for its prompt (43 or 46 bytes), 0.05 for its answer, which is longer here.
    with pytest.raises(
        BudgetError, match=r"`llm.budget_usd: 1` is reached: 0.\d+ US dollars are spent or set aside, and the next"
    ):
        send(40, server, journal, price=PRICE, budget_usd=1.0, concurrency=concurrency)
    spent = journal.read_spending()
    assert 1.0 - 0.112 < spent <= 1.0
    assert spent == pytest.approx(len(server.log.answered) * 0.098)
    # The budget is for the whole journal: another run does not start at zero.
    with pytest.raises(BudgetError, match="0 answers of this run are kept"):
        send(40, server, journal, price=PRICE, budget_usd=1.0)
    # Raised by exactly what the rest costs, and what is set aside for the last request beyond that.
    answers = send(40, server, journal, price=PRICE, budget_usd=40 * 0.098 + 0.02)
    assert {answer.cost_usd for answer in answers} == {0.098}
    check_rows(40, server, journal)


def test_a_budget_that_is_met_exactly_is_enough_and_an_answer_of_unknown_cost_counts_at_its_most(
    server: StubServer, journal: Journal
) -> None:
    most = PRICE.cost(*bound_tokens(make_request(0)))
    with pytest.raises(BudgetError):
        send(1, server, journal, price=PRICE, budget_usd=most - 1e-6)
    server.fault = Fault(200, body=b'{"choices": [{"message": {"content": "fine"}}]}')
    assert send(1, server, journal, price=PRICE, budget_usd=most) == [Answer("fine", "", 0, 0, None)]
    assert journal.read_spending() == pytest.approx(most) == 0.109


def test_a_request_that_timed_out_counts_as_spent(server: StubServer, journal: Journal) -> None:
    server.delay = 0.3
    for _ in range(2):  # another run does not start at zero
        with pytest.raises(BudgetError, match=r"is reached: 0.109000 US dollars are spent"):
            send(1, server, journal, price=PRICE, budget_usd=0.15, timeout=0.1, retries=9)
    assert len(server.log.arrived) <= 1  # it is logged when its answer is ready


@pytest.mark.parametrize(
    ("fault", "spent"),
    [
        (Fault(500), 0.109),
        (Fault(200, body=BROKEN_JSON), 0.109),
        (Fault(200, body=b'{"error": {"code": 502, "message": "it broke off"}}'), 0.109),
        (Fault(0), 0.109),  # the connection breaks when the request is there
        (Fault(503), 0.0),
        (Fault(429), 0.0),
        (Fault(400), 0.0),
    ],
)
def test_what_failed_and_may_have_cost_counts_for_ever(
    fault: Fault, spent: float, server: StubServer, journal: Journal
) -> None:
    server.fault = fault
    with pytest.raises(EndpointError):
        send(1, server, journal, price=PRICE, retries=0)
    assert journal.read_spending() == pytest.approx(spent)
    server.reset()
    send(3, server, journal, price=PRICE)
    assert journal.read_spending() == pytest.approx(spent + 3 * 0.098)


def test_a_budget_without_a_price_is_told_before_anything_is_sent(server: StubServer, journal: Journal) -> None:
    with pytest.raises(BudgetError, match=r"no price for `llm.model` is known: add it to data/prices.yaml"):
        send(1, server, journal, budget_usd=1.0)
    assert not server.log.arrived

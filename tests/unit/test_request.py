import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from amalgam.llm.request import Request, override_bodies
from amalgam.llm.tokens import bound_answer

LEAF = st.text(max_size=5) | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
BODY = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        LEAF, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=3), part, max_size=3)
    ),
    max_size=4,
)


def turn_around(value: Any) -> Any:
    """Give every dict in a value the opposite order."""
    if isinstance(value, dict):
        return {name: turn_around(value[name]) for name in reversed(value)}
    return [turn_around(part) for part in value] if isinstance(value, list) else value


def make_request(messages: list[dict[str, str]], sample: int = 0, model: str = "m", **params: Any) -> Request:
    return Request(f"row-{sample}", model, {"messages": messages, **params}, sample)


@given(BODY, st.integers(0, 9))
def test_neither_the_order_of_keys_nor_the_row_changes_the_key(body: dict[str, Any], sample: int) -> None:
    assert Request("a", "m", body, sample).key == Request("b", "m", turn_around(copy.deepcopy(body)), sample).key


@given(BODY, st.text(max_size=5), LEAF)
def test_whatever_is_sent_changes_the_key(body: dict[str, Any], name: str, value: Any) -> None:
    request = Request("a", "m", body, 0)
    changed = Request("a", "m", body | {name: value}, 0)
    assert (changed.key == request.key) == (name in body and repr(body[name]) == repr(value))
    assert len({request.key, Request("a", "n", body, 0).key, Request("a", "m", body, 1).key}) == 3


def test_the_key_of_a_request_is_for_ever() -> None:
    # Another key would mean to pay for all answers again.
    request = make_request([{"role": "user", "content": "Grüße"}], 7, "sha256:00", temperature=0.7, seed=7)
    assert request.key == "16ef5a5159eafd8e958c6219c4fe9821633260c55b7e1b5ae7cf0969ca3d9149"


def test_the_group_is_not_sent() -> None:
    assert Request("a", "m", {}, 0, "set 1").key == Request("a", "m", {}, 0).key


def test_fields_are_put_in_and_taken_out() -> None:
    request = Request("a", "m", {"messages": [], "max_tokens": 9, "seed": 1}, 0)
    (other,) = override_bodies([request], {"max_tokens": None, "max_completion_tokens": 99})
    assert other.body == {"messages": [], "seed": 1, "max_completion_tokens": 99}
    assert other.key != request.key
    assert bound_answer(other) == 99
    assert list(override_bodies([request], {})) == [request]

"""The LLM as a coder of real texts: requests for a letter, reading the answers, and how far they are trusted."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from amalgam.errors import DataError
from amalgam.llm.faults import read_answer
from amalgam.llm.request import Answer
from amalgam.synthesis import labelling
from amalgam.tasks.schema import Task
from amalgam.training.embeddings import read_targets
from amalgam.training.guard import measure_label_auc
from amalgam.training.loop import CrossEntropy

TRAIN = pd.DataFrame(
    {
        "id": [f"t{number}" for number in range(9)],
        "text": [*"abcdefgh", "write to me@example.org"],
        "question": "",
        "label": ["bad", "good", "mixed_view"] * 3,
    }
)


def make_texts(count: int) -> pd.DataFrame:
    """Make rows; the first holds a number."""
    texts = ["Call 617-555-0123", *["fine"] * (count - 1)]
    return pd.DataFrame({"id": [f"u{n}" for n in range(count)], "text": texts, "question": "Why?"})


def test_requests_begin_alike_and_want_one_letter(task: Task) -> None:
    first, second = labelling.build_label_requests(task, make_texts(2), TRAIN, "m", {"seed": None})
    assert first.body["messages"][:-1] == second.body["messages"][:-1]
    rubric, *turns, last = (turn["content"] for turn in first.body["messages"])
    assert "\nC. mixed view" in rubric
    assert turns[1::2] == ["A", "B", "C", "A", "B", "C"]
    assert last == "Question: Why?\n\nComment: Call 617-555-0123"
    rest = {name: value for name, value in first.body.items() if name != "messages"}
    assert rest == {"temperature": 0.0, "max_tokens": 1, "logprobs": True, "top_logprobs": 20}
    sampled = labelling.build_label_requests(task, make_texts(1), TRAIN, "m", samples=2)
    for seed, one in enumerate(sampled):
        assert (one.id, one.sample, one.body["seed"], one.body["temperature"]) == (f"u0s{seed}", seed, seed, 1.0)
        assert not {"logprobs", "top_logprobs"} & one.body.keys()
    coded = labelling.select_coded(task, TRAIN.head(8), TRAIN.tail(1))
    assert coded["id"].tolist() == ["t6", "t7"]  # two of each label are shown, the last has an address


@pytest.mark.parametrize(
    ("source", "ratio", "count"),
    [("write", 0.5, 0), ("label", 0.5, 10), ("both", 0.5, 5), ("label", 1.0, 29), ("both", 0.9, 29)],
)
def test_as_many_texts_are_labelled_as_the_ratio_takes(task: Task, source: str, ratio: float, count: int) -> None:
    texts = make_texts(30)
    assert labelling.select_texts(task, texts, source, ratio, 10)["id"].tolist() == [f"u{n + 1}" for n in range(count)]
    with pytest.raises(DataError, match=r"`ratio: 0\.8` needs 40 texts to label, but the task has 29 that may be sent"):
        labelling.select_texts(task, texts, "label", 0.8, 10)
    named = texts.assign(personal=["", "name", *[""] * 28])
    assert labelling.select_texts(task, named, "label", 0.1, 9)["id"].tolist() == ["u2"]


def test_log_probabilities_of_one_token_are_the_answer() -> None:
    tokens = {"A": -1.0, " A": -1.0, "B": -2.0, "so": -4.0}
    likely = [{"token": token, "logprob": value} for token, value in (*tokens.items(), ("B", -9.0))]
    choice = {"message": {"content": "A"}, "logprobs": {"content": [{"token": "A", "top_logprobs": likely}]}}
    found = read_answer(json.dumps({"choices": [choice]}).encode(), None)
    assert json.loads(found.text) == {"logprobs": tokens}
    # Both tokens of A count; C is at most as likely as the last of those that are known.
    assert labelling.read_logits(found, 3) == pytest.approx([np.log(2) - 1, -2, -4])
    token, empty = choice["logprobs"]["content"], {"token": "C", "logprob": None}  # type: ignore[index]
    others = [[{"token": "A", "top_logprobs": other}] for other in (None, {"A": -1.0}, [*likely, empty])]
    for content in (None, 2 * token, *others):
        reply = {"choices": [choice | {"logprobs": {"content": content}}]}
        assert read_answer(json.dumps(reply).encode(), None).text == "A"


@pytest.mark.parametrize("text", ["A", "", "3", '{"logprobs": 3}', '{"logprobs": {"so": -1.0}}', '{"logprobs": {}}'])
def test_an_answer_without_probabilities_of_letters_says_so(text: str) -> None:
    said = [Answer(one, "stop", 1, 1) for one in (text, "A", " (B) fine", "<think>C</think>B.", "Bad", "D")]
    assert labelling.read_logits(said[0], 2) is None
    assert labelling.count_letters(said, 3).tolist() == [1 + (text == "A"), 2, 0]


def test_a_source_is_believed_as_far_as_the_codes_confirm_it() -> None:
    draw = np.random.default_rng(0)
    classes = np.arange(60) % 3
    knows = 2.0 * np.eye(3)[classes] + draw.normal(size=(60, 3))
    guesses = draw.normal(size=(60, 3))
    for sources in ([knows, guesses], [guesses, knows], [knows * 7 + [3, 0, 0], guesses]):  # scale and bias are fitted
        found = labelling.calibrate(sources, sources, classes)
        assert found.sum(axis=1) == pytest.approx(np.ones(60))
        assert (found.argmax(axis=1) == classes).mean() > 0.85
    found = labelling.calibrate([guesses], [guesses], np.where(np.arange(60) < 50, 0, classes))
    assert found.argmax(axis=1).tolist().count(0) > 50  # an uninformed source has hardly any weight


def test_without_codes_the_llm_alone_is_believed() -> None:
    said = np.log([[0.2, 0.8]])
    found = labelling.calibrate([said, said], [said[:0], said[:0]], np.array([], dtype=np.int64))
    assert found == pytest.approx(np.array([[0.2, 0.8]]))
    assert measure_label_auc(pd.DataFrame({"label": []}), ["a", "b"], said[:0]) == 0.5


def test_the_loss_takes_distributions() -> None:
    rows = pd.DataFrame({"label": ["a", "b"], "soft": ["", "[0.25, 0.75]"]})
    targets = read_targets(rows, ["a", "b"])
    assert targets.tolist() == [[1, 0], [0.25, 0.75]]
    assert read_targets(rows.assign(soft=""), ["a", "b"]).tolist() == [0, 1]
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    likely = torch.log_softmax(logits, dim=1)
    wanted = -(likely[0, 0] + 0.25 * likely[1, 0] + 0.75 * likely[1, 1]) / 2
    assert float(CrossEntropy(targets)(logits, np.array([0, 1]))) == pytest.approx(float(wanted))

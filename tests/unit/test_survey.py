from pathlib import Path

from amalgam.llm.journal import open_journal
from amalgam.llm.request import Answer, Request
from amalgam.llm.survey import iterate_missing, survey_requests


def make_request(content: str, sample: int = 0) -> Request:
    return Request(f"r{sample}", "m", {"messages": [{"role": "user", "content": content}], "max_tokens": 9}, sample)


def test_a_survey_counts_what_is_missing_once(tmp_path: Path) -> None:
    known, short, long = (
        make_request("k" * 4000),
        make_request("s" * 40),
        make_request("\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 200),
    )
    with open_journal(tmp_path / "journal.sqlite") as journal:
        journal.record([(known, Answer("fine", "stop", 1, 1))])
        requests = [known, short, long, short, known]
        survey = survey_requests(iter(requests), journal)
        assert (survey.requests, survey.missing) == (3, 2)
        assert survey.prompt_tokens == (40 + 400) / 4
        assert survey.completion_tokens == 18
        # What bounds the context is far on the safe side.
        assert survey.longest >= 200 + 9
        assert list(iterate_missing(iter(requests), journal)) == [short, long]


def test_a_survey_streams(tmp_path: Path) -> None:
    with open_journal(tmp_path / "journal.sqlite") as journal:
        survey = survey_requests((make_request("x", sample) for sample in range(3000)), journal)
    assert (survey.requests, survey.missing) == (3000, 3000)

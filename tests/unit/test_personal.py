"""Personal data: which columns look like it, and which texts hold it."""

from pathlib import Path

import pandas as pd
import pytest

from amalgam.tasks.personal import find_names, find_personal_columns, find_personal_rows
from tests.unit.tasks import load_rows

NAMES = ["Anna Müller", "Jean-Luc Picard", "Ngozi A. Okafor", "Ludwig van Beethoven", "Sean O'Casey", "Li Wei"]
COLUMNS = {
    "Reply": ([*NAMES[:5], "x@y.org"], "name"),  # without a word in the header, by what the cells look like
    "StudentName": (["anna", "ben", "chris", "dan", "eve", "finn"], "name"),
    "Contact": (["a.b@example.org", "c@uni-x.de", "", "d+e@mail.co.uk", "", ""], "e-mail address"),
    "Mobile": (["0171 1234567", "+49 30 1234567", "(617) 555-0123", "06 12 34 56 78", "", ""], "phone number"),
    "student_id": (["20231234", "20231235", "20231236", "", "20231238", "s2023123"], "student number"),
    "Matrikelnummer": (["1234567"] * 6, "student number"),
    "IPAddress": (["192.168.2.1"] * 6, "IP address"),
    # None of them.
    "question_name": (["Oak Hill", "Gravity"] * 3, ""),
    "id": (["c1", "c2", "c3", "c4", "c5", "c6"], ""),
    "group": (["20231234", "20231235", "20231236", "7", "8", "9"], ""),
    "label": (["Mixed View", "Good One"] * 3, ""),
    "response": (["Because of the heat.", "I agree with Anna", "No", "?", "See page 3", "It is 2,000"], ""),
    "score": (["0.5", "1.0", "10", "3", "4", "5"], ""),
    "date": (["2024-05-31", "01/02/2004", "31.12.1999", "2024", "2004-2005", "12:30"], ""),
    "empty": ([""] * 6, ""),
}


def test_columns_that_look_like_personal_data_are_found() -> None:
    found = find_personal_columns(pd.DataFrame({name: cells for name, (cells, _) in COLUMNS.items()}))
    assert found == {name: kind for name, (_, kind) in COLUMNS.items() if kind}


CONTACTS = "ann@example.org|+1 617-555-0123|(617) 555-0123|1-617-555-0123|030/1234567|01711234567|06.12.34.56.78"
NUMBERS = "It is 3.14159265358979.|10,000,000 bytes|2004-2005 or 01/02/2004|@home x@y|192.168.0.1|1 2 3"


@pytest.mark.parametrize("column", ["text", "question"])
def test_contacts_are_found_in_whatever_is_around_them_and_numbers_are_none(column: str) -> None:
    texts = [f"Write to me ({contact}), please." for contact in CONTACTS.split("|")] + NUMBERS.split("|")
    rows = pd.DataFrame({"text": "Fine.", "question": ""}, index=texts).assign(**{column: texts})
    found = find_personal_rows(rows)
    assert found[found].index.tolist() == texts[:7]


def test_names_of_a_roster_are_found_but_not_the_words_that_they_are_too() -> None:
    named = ["Anna was right.", "I agree with anna", "ANNA SAID SO", "Will said so", "我同意王小明的看法"]
    others = ["it will melt", "annalise", *["it will rise"] * 5]
    found = find_names([*named, *others], ["MÜLLER, ANNA", "Will Smith", "王小明"])
    assert found == ["name"] * len(named) + [""] * len(others)


def test_rows_are_marked_where_the_task_names_a_roster(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("text\nBob said so\nnobody did\n")
    table = "id,text,label,who\n1,Zo\u00eb is kind,yes,Bob Fox\n2,I am cold,no,Zoe\u0308 Low\n"
    rows = load_rows(tmp_path, table, {"roster": "who"}, unlabelled=["more.csv"])
    assert rows.unlabelled["personal"].tolist() == ["name", ""]
    assert rows.main["personal"].tolist() == ["name", ""]
    assert "who" not in rows.main
    assert find_personal_rows(rows.main).tolist() == [True, False]

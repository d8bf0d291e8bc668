"""The price list, and what is counted with it."""

import datetime
from pathlib import Path

import pytest

from amalgam.errors import DataError
from amalgam.llm.request import Price, load_prices

SHIPPED = Path(__file__).parents[2] / "data/prices.yaml"
LIST = """\
date: 2026-01-02
source: a friend
batch: 0.25
models:
  good: {prompt: 2.0, completion: 8}
  good-2025-01-01: {prompt: 1.0, completion: 4.0}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "prices.yaml"
    path.write_text(text)
    return path


def test_the_shipped_list_knows_the_common_models() -> None:
    prices = load_prices(SHIPPED)
    assert prices.date <= datetime.date.today()
    assert prices.find("gpt-4o-mini") == prices.find("gpt-4o-mini-2024-07-18") == Price(0.15, 0.60, 0.5)
    assert prices.find("gpt-4o-2024-05-13") == Price(5.0, 15.0, 0.5)
    assert prices.find("gpt-4o-2024-08-06") == prices.find("gpt-4o") == Price(2.5, 10.0, 0.5)
    for unknown in ("smollm2-135m-instruct", "gpt-4o-audio", "gpt-4o-mini-07-18", ""):
        assert prices.find(unknown) is None


def test_a_price_counts_tokens_of_both_kinds(tmp_path: Path) -> None:
    price = load_prices(write(tmp_path, LIST)).find("good")
    assert price == Price(2.0, 8.0, 0.25)
    assert price.cost(1_000_000, 1_000_000) == 10.0
    assert price.cost(500, 250) == pytest.approx(0.003)
    assert price.cost(500, 250, batch=True) == pytest.approx(0.00075)


def test_a_name_with_a_date_may_have_a_line_of_its_own(tmp_path: Path) -> None:
    prices = load_prices(write(tmp_path, LIST))
    assert prices.find("good-2025-01-01") == Price(1.0, 4.0, 0.25)
    assert prices.find("good-2025-01-02") == prices.find("good")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (LIST.replace("2.0", "-2.0"), "wrong value at `models.good.prompt`"),
        (LIST.replace("2.0", ".inf"), "wrong value at `models.good.prompt`"),
        (LIST.replace("8}", "8, cached: 1}"), "wrong value at `models.good.cached`"),
        (LIST.replace("2026-01-02", "soon"), "wrong value at `date`"),
        ("- a list", "wrong value at `the whole`"),
        ("models: [", "is not valid YAML"),
    ],
)
def test_a_wrong_list_is_told(wrong: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_prices(write(tmp_path, wrong))
    assert words in str(caught.value)
    assert "prices.yaml" in str(caught.value)


def test_a_missing_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"prices.yaml cannot be read \(No such file or directory\)"):
        load_prices(tmp_path / "prices.yaml")

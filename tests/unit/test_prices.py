"""The price list, and the costs computed with it."""

import datetime
from pathlib import Path

import pytest

from amalgam.errors import DataError
from amalgam.llm.request import Price, load_prices
from tests.unit.helpers import PRICES

LIST = """\
date: 2026-01-02
source: a friend
batch: 0.25
models:
  good: {prompt: 2.0, completion: 8}
  good-2025-01-01: {prompt: 1.0, completion: 4.0}
"""


def test_the_shipped_list_knows_the_common_models() -> None:
    prices = load_prices(PRICES)
    assert prices.date <= datetime.date.today()
    assert prices.find("gpt-4o-mini") == prices.find("gpt-4o-mini-2024-07-18") == Price(0.15, 0.60, 0.5)
    assert prices.find("gpt-4o-2024-05-13") == Price(5.0, 15.0, 0.5)
    assert prices.find("gpt-4o-2024-08-06") == prices.find("gpt-4o") == Price(2.5, 10.0, 0.5)
    for unknown in ("smollm2-135m-instruct", "gpt-4o-audio", "gpt-4o-mini-07-18", ""):
        assert prices.find(unknown) is None


def test_a_price_counts_tokens_of_both_kinds_and_a_dated_name_may_have_its_own(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(LIST)
    prices = load_prices(tmp_path / "prices.yaml")
    price = prices.find("good")
    assert price == prices.find("good-2025-01-02") == Price(2.0, 8.0, 0.25)
    assert prices.find("good-2025-01-01") == Price(1.0, 4.0, 0.25)
    assert price
    assert price.cost(1_000_000, 1_000_000) == 10.0
    assert price.cost(500, 250) == pytest.approx(0.003)
    assert price.cost(500, 250, batch=True) == pytest.approx(0.00075)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (LIST.replace("2.0", "-2.0"), "wrong value at `models.good.prompt`"),
        (LIST.replace("2.0", ".inf"), "wrong value at `models.good.prompt`"),
        (LIST.replace("8}", "8, cached: 1}"), "wrong value at `models.good.cached`"),
        (LIST.replace("2026-01-02", "soon"), "wrong value at `date`"),
        ("- a list", "wrong value at `the top level`"),
        ("models: [", "is not valid YAML"),
        (None, r"cannot be read \(No such file or directory\)"),
    ],
)
def test_a_wrong_or_missing_list_is_told(wrong: str | None, words: str, tmp_path: Path) -> None:
    if wrong is not None:
        (tmp_path / "prices.yaml").write_text(wrong)
    with pytest.raises(DataError, match=f"prices.yaml .*{words}"):
        load_prices(tmp_path / "prices.yaml")

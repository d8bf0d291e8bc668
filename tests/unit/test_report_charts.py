from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.report.charts.curves import LEAST, draw_calibration, draw_roc
from amalgam.report.charts.intervals import CLEAR, DIFFERENCE_LOOKS, draw_intervals
from amalgam.report.charts.style import BLUE, GREY, MODEL_LOOKS, ORANGE
from amalgam.report.phrases import MODEL_NAMES
from amalgam.report.svg import draw_svg
from tests.unit.reporting import HOSTILE

PAGES = ("#ffffff", "#14171c")  # of style.css
ROW = {"name": "a", "series": CLEAR, "value": 0.1, "low": 0.05, "high": 0.15}


def find_luminance(colour):
    """Return the relative luminance of WCAG 2.2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", PAGES)
def test_colours_show_on_both_pages(page):
    for colour in {BLUE, GREY, ORANGE, *(look.colour for look in MODEL_LOOKS.values())}:
        dark, light = sorted((find_luminance(colour), find_luminance(page)))
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def test_models_differ_without_colour():
    assert list(MODEL_LOOKS) == list(MODEL_NAMES.values())
    assert len({look.dash for look in MODEL_LOOKS.values()}) == len(MODEL_LOOKS)
    assert len({look.shape for look in MODEL_LOOKS.values()}) == len(MODEL_LOOKS)


def test_svg_holds_drawing_alone():
    names = [HOSTILE, "b\nc"]
    spec = draw_intervals([ROW | {"name": name} for name in names], DIFFERENCE_LOOKS, HOSTILE, signed=True)
    svg = draw_svg(spec, "key", HOSTILE, HOSTILE)
    root = ElementTree.fromstring(svg)
    assert {element.tag for element in root.iter()} <= {
        "svg",
        "title",
        "desc",
        "g",
        "path",
        "line",
        "rect",
        "text",
        "tspan",
    }
    names = {name for element in root.iter() for name in element.attrib}
    assert not {name for name in names if name.startswith("on") or name in ("style", "href", "font-family")}
    # Parsers of XML turn every kind of line end into one.
    assert [root[0].text, root[1].text] == [HOSTILE, HOSTILE]
    assert (root.get("role"), root.get("aria-labelledby"), root.get("aria-describedby")) == (
        "img",
        "key-title",
        "key-text",
    )
    assert root.get("viewBox").startswith("0 0 400 ")


def test_points_lie_between_the_ends_of_their_intervals():
    root = ElementTree.fromstring(draw_svg(draw_intervals([ROW], DIFFERENCE_LOOKS, "x", signed=True), "k", "t", "d"))
    (bar,) = [line for line in root.iter("line") if line.get("stroke") == BLUE]
    start = float(bar.get("transform")[len("translate(") :].split(",")[0])
    (point,) = [path for path in root.iter("path") if path.get("fill") == BLUE and path.get("transform")][:1]
    x = float(point.get("transform")[len("translate(") :].split(",")[0])
    assert x - start == pytest.approx(float(bar.get("x2")) / 2, abs=0.2)


def test_bins_of_few_predictions_are_not_drawn():
    rows = [{"model": "teacher", "confidence": 0.7, "share": 0.6, "rows": count} for count in (LEAST - 1, LEAST)]
    drawn = [row for data in draw_calibration(rows)["layer"][1:] for row in data.get("data", {}).get("values", [])]
    assert {row["rows"] for row in drawn} <= {LEAST}


@settings(max_examples=5)
@given(title=st.text(), low=st.floats(0, 1))
def test_every_title_makes_well_formed_svg(title, low):
    rows = [{"model": "teacher", "fpr": 0, "tpr": low}, {"model": "teacher", "fpr": 1, "tpr": 1}]
    svg = draw_svg(draw_roc(rows), "k", title, title)
    assert svg.count("<title") == svg.count("</title>") == 1
    assert svg.count("<script") == 0

import math
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.report.charts import (
    BLUE,
    GREY,
    MODEL_LOOKS,
    ORANGE,
    build_figure,
    draw_points,
    draw_roc,
)
from amalgam.report.models import MIN_BIN, build_curves, tabulate_roc, tabulate_training
from amalgam.report.phrases import MODEL_NAMES
from tests.unit.reporting import HOSTILE, make_content

ROW = {"name": "a", "series": "Teacher", "value": 0.1, "low": 0.05, "high": 0.15}


def find_luminance(colour):
    """Return the relative luminance of WCAG 2.2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", ["#ffffff", "#14171c"])  # of style.css
def test_colours_show_on_both_pages(page):
    for colour in {BLUE, GREY, ORANGE, *(look.colour for look in MODEL_LOOKS.values())}:
        dark, light = sorted((find_luminance(colour), find_luminance(page)))
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def test_models_differ_without_colour():
    assert list(MODEL_LOOKS) == list(MODEL_NAMES.values())
    assert len({look.dash for look in MODEL_LOOKS.values()}) == len(MODEL_LOOKS)
    assert len({look.shape for look in MODEL_LOOKS.values()}) == len(MODEL_LOOKS)


def test_svg_holds_drawing_alone():
    spec = draw_points([ROW | {"name": name} for name in (HOSTILE, "b\nc")], HOSTILE, signed=True)
    root = ElementTree.fromstring(build_figure("key", HOSTILE, HOSTILE, spec).svg)
    drawing = {"svg", "title", "desc", "g", "path", "line", "rect", "text", "tspan"}
    assert {element.tag for element in root.iter()} <= drawing
    inner = {name for element in list(root.iter())[1:] for name in element.attrib}
    assert not {name for name in inner if name.startswith(("on", "aria", "role", "style", "href", "font-family"))}
    assert root[0].text == HOSTILE
    assert root[1].text.startswith(HOSTILE)
    assert [root.get(name) for name in ("aria-labelledby", "aria-describedby")] == ["key-title", "key-text"]
    assert root.get("viewBox").startswith("0 0 400 ")


def test_points_lie_between_the_ends_of_their_intervals():
    svg = build_figure("k", "t", "d", draw_points([ROW], "x", signed=True)).svg
    root = ElementTree.fromstring(svg)
    (bar,) = [line for line in root.iter("line") if line.get("stroke") == BLUE]
    start = float(bar.get("transform")[len("translate(") :].split(",")[0])
    (point,) = [path for path in root.iter("path") if path.get("fill") == BLUE and path.get("transform")][:1]
    x = float(point.get("transform")[len("translate(") :].split(",")[0])
    assert x - start == pytest.approx(float(bar.get("x2")) / 2, abs=0.2)


def test_bins_of_few_predictions_are_not_drawn():
    bins = pd.DataFrame({"model": "teacher", "confidence": [0.6, 0.7], "share": 0.6, "rows": [MIN_BIN - 1, MIN_BIN]})
    (figure,) = build_curves(make_content(plots={"calibration": bins}))["figures"]
    root = ElementTree.fromstring(figure.svg)
    assert len([path for path in root.iter("path") if path.get("fill") == BLUE]) == 1
    assert len(figure.numbers.rows) == 2
    assert build_curves(make_content(plots={"calibration": bins[:1]})) is None


@settings(max_examples=5, deadline=None)
@given(title=st.text(), low=st.floats(0, 1))
def test_every_title_makes_well_formed_svg(title, low):
    svg = build_figure(
        "k", title, title, draw_roc(pd.DataFrame({"model": "teacher", "fpr": [0, 1], "tpr": [low, 1]}))
    ).svg
    assert svg.count("<title") == svg.count("</title>") == 1
    assert svg.count("<script") == 0


def test_roc_is_read_between_its_points():
    rows = pd.DataFrame({"model": "teacher", "fpr": [0, 0.1, 0.3, 1], "tpr": [0, 0.5, 0.9, 1]})
    assert tabulate_roc(rows).rows == [["Teacher", "0.25", "0.50", "0.70", "0.90", "0.93"]]


def test_losses_are_means_over_the_seeds_that_have_one():
    losses = {"step": [20, 20, 10, 10], "seed": [1, 2, 1, 2], "loss": [0.4, 0.2, math.nan, math.nan]}
    table = tabulate_training(pd.DataFrame(losses | {"validation_loss": 0.5}))
    assert table.rows == [["10", "", "0.500"], ["20", "0.300", "0.500"]]

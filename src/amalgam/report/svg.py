"""Charts as SVG inside the page: drawn once, so the page needs no library, and prints as it looks."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from markupsafe import Markup, escape

from amalgam.report.charts.style import Spec

_NAMESPACE = "{http://www.w3.org/2000/svg}"
_ELEMENTS = {"svg", "g", "path", "line", "rect", "circle", "text", "tspan", "defs", "clipPath"}
# Colours of text and axes are the style sheet's; names for a screen reader are those of the whole chart.
_ATTRIBUTES = {"class", "d", "dx", "dy", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height"}
_ATTRIBUTES |= {"viewBox", "transform", "fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-miterlimit"}
_ATTRIBUTES |= {"stroke-opacity", "fill-opacity", "opacity", "text-anchor", "font-size", "id", "clip-path"}
_THEMED = {"axis-grid": "grid", "axis-domain": "axis", "axis-tick": "axis"}
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}(e-?\d+)?")


def draw_svg(spec: Spec, key: str, title: str, description: str) -> Markup:
    """Draw a chart as an SVG element that is named and described for a screen reader.

    Only elements and attributes that draw are taken over, and only text that is escaped.

    Args:
        spec: Vega-Lite with its data; nothing is fetched.
        key: begins the ids in the element, so that they are unique in the page.
        title: names the chart.
        description: says in words what it shows.
    """
    import vl_convert

    drawn = ElementTree.fromstring(vl_convert.vegalite_to_svg(spec, vl_version="6.4", allowed_base_urls=[]))
    view = drawn.attrib["viewBox"]
    inner = Markup("").join(part for child in drawn for part in _write_element(child, key))
    return Markup(
        '<svg role="img" viewBox="{view}" aria-labelledby="{key}-title" aria-describedby="{key}-text">'
        '<title id="{key}-title">{title}</title><desc id="{key}-text">{description}</desc>{inner}</svg>'
    ).format(view=view, key=key, title=title, description=description, inner=inner)


def _write_element(element: ElementTree.Element, key: str) -> Iterator[Markup]:
    name = element.tag.removeprefix(_NAMESPACE)
    if name not in _ELEMENTS or element.get("display") == "none" or _is_empty(name, element):
        return
    parts = [part for child in element for part in _write_element(child, key)]
    if name in ("g", "defs") and not parts:
        return
    attributes = Markup("").join(
        Markup(' {}="{}"').format(attribute, value) for attribute, value in _keep_attributes(name, element, key)
    )
    text = Markup("") if name == "g" else escape(element.text or "")
    yield Markup("<{name}{attributes}>{text}{inner}</{name}>").format(
        name=Markup(name), attributes=attributes, text=text, inner=Markup("").join(parts)
    )


def _keep_attributes(name: str, element: ElementTree.Element, key: str) -> Iterator[tuple[str, str]]:
    for attribute, value in element.attrib.items():
        if attribute not in _ATTRIBUTES or (attribute == "opacity" and value == "1"):
            continue
        if attribute == "class":
            theme = next((theme for role, theme in _THEMED.items() if f"role-{role}" in value), None)
            if theme:
                yield "class", theme
        elif attribute == "id":
            yield "id", f"{key}-{value}"
        elif attribute == "clip-path":
            yield "clip-path", value.replace("url(#", f"url(#{key}-")
        elif not (name == "text" and attribute == "fill"):
            yield attribute, _LONG_NUMBER.sub(_round_number, value)


def _is_empty(name: str, element: ElementTree.Element) -> bool:
    # What Vega draws behind groups, in no colour.
    if name != "path":
        return False
    return not element.get("d") or (
        element.get("class") in ("background", "foreground") and "fill" not in element.attrib
    )


def _round_number(match: re.Match[str]) -> str:
    return f"{float(match[0]):.1f}".removesuffix(".0")

"""A plot as an SVG of its own, drawn by pygal: no script, no foreign host, light and dark by the styles inside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from typing import Any, Literal
from xml.etree.ElementTree import Element

import pygal
from pygal.style import Style

from gateway.pages.rendering import templates_folder

Kind = Literal["bars", "line"]

FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", sans-serif'
BY_PYGALS_OWN_WORD = {"truncate_label": -1, "show_legend": False, "js": [], "explicit_size": True, "no_prefix": True}
"""It would cut labels, name the one series, load a script from elsewhere, have no size, and prefix its styles."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a drawing, in pixels. The words of a wide one could not be read when it is shrunk to a phone."""

    width: int
    height: int
    font_px: int
    days_apart: int
    """Between two days that are named below."""


WIDE = Shape(960, 320, 14, 7)
NARROW = Shape(400, 300, 17, 14)


@dataclass(frozen=True, slots=True)
class Series:
    """One value a day, in `unit`."""

    title: str
    kind: Kind
    unit: str
    days: Sequence[date]
    values: Sequence[int]


def draw(series: Series, shape: Shape) -> bytes:
    """The SVG document. Pure, but for the stylesheet whose colours it takes."""
    names = [f"{day:%-d %b}" for day in series.days]
    shown = names[:: -shape.days_apart][::-1]
    config: dict[str, Any] = {
        **BY_PYGALS_OWN_WORD,
        "width": shape.width,
        "height": shape.height,
        "y_title": series.unit,
        "x_labels": names,
        "x_labels_major": shown,
        "show_minor_x_labels": False,
        "include_x_axis": True,
        "order_min": 0,
        "max_scale": 6,
        "value_formatter": amount,
        "margin": 8,
        "margin_right": 2 * shape.font_px,
        "dots_size": 3,
        "style": style_of(shape),
        "css": ["file://style.css", "file://graph.css", f"inline:{colours()}{OUR_RULES}"],
    }
    if not any(series.values):
        config["range"] = (0, 1)
    chart = pygal.Bar(**config) if series.kind == "bars" else pygal.Line(**config)
    words = zip(names, series.values, strict=True)
    labelled = [{"value": value, "label": f"{name}: {amount(value)} {series.unit}"} for name, value in words]
    chart.add(series.title, labelled)
    chart.add_xml_filter(partial(only_the_drawing, series.title))
    return bytes(chart.render())


def style_of(shape: Shape) -> Any:
    """Every colour is a name of our stylesheet, so that light and dark are decided where it is shown."""
    sizes = {f"{part}_font_size": shape.font_px for part in ("label", "major_label", "title", "value", "no_data")}
    return Style(
        background="transparent",
        plot_background="transparent",
        foreground="var(--soft)",
        foreground_strong="var(--soft)",
        foreground_subtle="var(--line)",
        guide_stroke_color="var(--line)",
        major_guide_stroke_color="var(--line)",
        guide_stroke_dasharray="none",
        major_guide_stroke_dasharray="none",
        font_family=FONTS,
        opacity="1",
        opacity_hover="1",
        stroke_opacity="1",
        stroke_opacity_hover="1",
        stroke_width="0",
        transition="none",
        colors=("var(--accent)",),
        **sizes,
    )


OUR_RULES = """
text { font-variant-numeric: tabular-nums; }
.axis.x > .line, .axis.y > .line { stroke: var(--edge); }
.line.reactive { stroke-width: 2.5; stroke-linejoin: round; }
.bar:hover rect, .dots:hover circle { fill: var(--ink); stroke: var(--ink); }
"""


@cache
def colours() -> str:
    """The rules of style.css that name our colours, for light and for dark."""
    sheet = (templates_folder() / "static" / "style.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)
    light, dark = (re.findall(r"--[a-z-]+: #[0-9a-f]{6};", block) for block in blocks)
    return f":root {{ {' '.join(light)} }} @media (prefers-color-scheme: dark) {{ :root {{ {' '.join(dark)} }} }}"


def only_the_drawing(title: str, root: Element) -> Element:
    """Without the script and the notes for it; what a bar or a point says becomes its title, which browsers show."""
    root.attrib.pop("id")
    named = root.find("title")
    if named is not None:
        named.text = title
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == "desc" and child.get("class") == "label":
                child.tag = "title"
                child.attrib.clear()
            elif child.tag in ("script", "desc") or not isinstance(child.tag, str):
                parent.remove(child)
    return root


def amount(value: float) -> str:
    """`1,500` · `−20`: whole numbers, by thousands. Pure."""
    return f"{value:,.0f}".replace("-", "−")

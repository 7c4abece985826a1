"""A figure's SVG as a part of a page: with names of its own, and by panels for a phone."""

from __future__ import annotations

import re

from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

POINTS = 72
"""matplotlib's SVG units an inch."""
PIXELS = 96
"""CSS pixels an inch: at its own size a figure's letters are as large as its neighbours'."""
ASIDE = 0.15
"""Of the figure's width: what is narrower belongs to the panel beside it, such as a bar of colours."""


def svg(text: str, name: str, label: str) -> Markup:
    """The SVG file `text` as an element of a page, as wide as it was drawn or as the page allows.

    Args:
        name: put before every id, since another figure of the page may have the same.
        label: what it shows, for those who cannot see it.
    """
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(href="|url\()#', rf"\1#{name}-", body)
    body = body.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    head, _, rest = body.partition(">")
    [(width, _)] = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    box = re.findall(r'viewBox="[^"]+"', head)[0]
    wide = round(float(width) * PIXELS / POINTS)
    head = (
        f'<svg {box} id="{name}-whole" role="img" aria-label="{escape(label)}" '
        'style="stroke-linejoin: round; stroke-linecap: butt; '
        f'width: {wide}px"'
    )
    return Markup(f"{head}>{rest}")


def panels(figure: Figure) -> list[str]:
    """The view boxes of a figure's panels, in its SVG's units, to be stacked where it is too wide.

    None if they cannot stand alone: there is one, or some have no axis labels of their own.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes = [axis for axis in figure.axes if axis.get_visible()]
    boxes = [axis.get_tightbbox(renderer) for axis in axes]
    whole = figure.bbox
    alone = [
        box for axis, box in zip(axes, boxes, strict=True)
        if box is not None and box.width > ASIDE * whole.width and _labelled(axis)
    ]  # fmt: skip
    wide = [box for box in boxes if box is not None and box.width > ASIDE * whole.width]
    if len(alone) < 2 or len(alone) < len(wide):
        return []
    boxed = [_with_neighbours(box, alone, boxes) for box in alone]
    boxed += [legend.get_window_extent(renderer) for legend in figure.legends]
    unit = POINTS / figure.dpi
    return [
        f"{box.x0 * unit - 3:.1f} {(whole.height - box.y1) * unit - 3:.1f} "
        f"{box.width * unit + 6:.1f} {box.height * unit + 6:.1f}"
        for box in boxed
    ]


def _labelled(axis: Axes) -> bool:
    """Whether its vertical axis says what is what, without a neighbour's help."""
    return any(label.get_visible() and label.get_text() for label in axis.get_yticklabels())


def _with_neighbours(box: Bbox, alone: list[Bbox], boxes: list[Bbox | None]) -> Bbox:
    """The box and the narrow ones on its right, up to the next panel."""
    aside = [
        other for other in boxes
        if other is not None and other not in alone
        and other.x0 >= box.x0 and other.y0 < box.y1 and other.y1 > box.y0
        and not any(box.x0 < between.x0 < other.x0 for between in alone)
    ]  # fmt: skip
    return Bbox.union([box, *aside])

"""One module a table or figure. In a notebook: `exhibits.show(settings, "fig08")`."""

from companion.exhibits.gallery import redraw, show

__all__ = ["redraw", "show"]

"""An exhibit as it hangs on a page: with what it shows, and the runs behind it."""

from __future__ import annotations

from dataclasses import dataclass

from companion.exhibits.exhibit import Exhibit, Shown
from companion.study.roles import Evidence


@dataclass(frozen=True)
class Placed:
    exhibit: Exhibit
    shown: Shown
    behind: Evidence

    @property
    def label(self) -> str:
        """For those who cannot see the figure: what it says, and how it looks."""
        return ". ".join(filter(None, (self.shown.finding, self.exhibit.alt)))

"""Exhibits put up: one in a notebook, from this seed's runs; all again from what is published."""

from __future__ import annotations

from pathlib import Path

from companion import outputs
from companion.exhibits import files, opening, page, registry, verdict
from companion.exhibits.exhibit import Shown
from companion.exhibits.placed import Placed
from companion.params import ROOT
from companion.schema import Profile
from companion.study import roles
from companion.study.roles import Evidence


def show(profile: Profile, name: str) -> Shown | None:
    """The exhibit `name` of this seed, kept in runs/; None if the profile has nothing to show.

    Makes what is missing of its runs.

    Raises:
        ValueError: what it would be drawn from has another content than when it was made.
    """
    exhibit = registry.find(name)
    behind = _as_made(roles.made(profile, exhibit.roles))
    shown = exhibit.make(profile, behind)
    return shown and files.keep(profile, name, shown)


def redraw(profile: str, target: Path | None = None) -> Path:
    """Write tables, figures and the page from the published runs and their own settings.

    Args:
        target: where; results/<profile> if None.

    Raises:
        ValueError: nothing is published, what a run says that it made has another content, or two
            exhibits would write one file.
    """
    settings, evidence = roles.settings(profile), _as_made(roles.published(profile))
    target = target or ROOT / "results" / profile
    placed, tables = [], set[str]()
    for exhibit in registry.EXHIBITS:
        behind = evidence.of(exhibit.roles, every_seed=exhibit.every_seed)
        shown = behind and exhibit.make(settings, behind)
        if behind and shown:
            if twice := tables & {exhibit.name, *shown.more}:
                raise ValueError(f"two exhibits write the table '{min(twice)}'; name one otherwise")
            tables |= {exhibit.name, *shown.more}
            files.save(target, exhibit.name, shown)
            placed.append(Placed(exhibit, shown, behind))
    verdicts = verdict.table(placed)
    files.save_table(target / "tables", "verdict", verdicts.set_index("claim"))
    about = opening.about(settings, evidence, ROOT / "results" / profile)
    page.write(target, about, placed)
    if target == ROOT / "results" / profile:
        verdict.refresh(ROOT / "README.md")
    return target


def _as_made(evidence: Evidence) -> Evidence:
    """The same, if every file that is drawn from is what its run made: one byte is seen nowhere else."""
    for run in evidence.index["run"]:
        if wrong := run.shortfalls(wholly=True, among=outputs.SHOWN):
            raise ValueError(f"run {run.name}: {wrong[0]}; restore that before anything is drawn")
    return evidence

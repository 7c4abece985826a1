"""Is what is published what was measured? Every hash checked, every table and figure drawn again."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from PIL import Image

from companion import exhibits
from companion.commands import manifest
from companion.commands.publish import KEPT
from companion.params import ROOT
from companion.provenance import first_line
from companion.runs import Run, fingerprint, read_run
from companion.study import roles
from companion.study.roles import INDEX

DRAWN = ("tables/*", "figures/*", "report.html", "README.md")
ROUNDING = 1e-6
"""Relative, or of 1: what another processor may add up differently."""
SHADE = 2.0
"""Root mean square over a picture's pixels, of 255: what another rasteriser may draw differently."""
NUMBER = re.compile(r"(?<![#\w.])(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
PICTURE = re.compile(r"data:image/png;base64,([\w+/=]+)")


def verify(profile: str) -> list[str]:
    """Check the published results of a profile, and this machine's finished runs of it.

    Prints what was checked. Returns what is wrong, a sentence each; nothing is written.

    Raises:
        ValueError: there is nothing to check, or a list that says what to check cannot be read.
    """
    target, shipped = ROOT / "results" / profile, ROOT / "results" / "checkpoints"
    wrong: list[str] = []
    settings = roles.settings(profile)
    print(f"results/{profile}: settings of {roles.PROFILE}, seed {settings.seed} the first")
    wrong += _index(target)
    for folder, patterns in ((target, manifest.PUBLISHED), (shipped, manifest.SHIPPED)):
        found = manifest.check(folder, patterns)
        wrong += [f"results/{folder.name}: {one}" for one in found]
        listed = f"{len(manifest.read(folder))} files, {len(found)} wrong"
        print(f"results/{folder.name}/{manifest.NAME}: {listed}")
    wrong += _local(ROOT / "runs" / profile)
    if not wrong:  # of damaged measurements nothing should be drawn
        wrong += _drawn(profile, target)
    return wrong


def _index(target: Path) -> list[str]:
    """That index.csv and the folders of runs agree, and that each record is its run's own."""
    try:
        index = pd.read_csv(target / INDEX, keep_default_na=False)
        parts = index.groupby(["seed", "role", "key"])["run"].size()
    except (ValueError, KeyError) as error:
        return [f"{INDEX} cannot be read ({first_line(error)})"]
    folders = {path.name: path for path in (target / "runs").iterdir()}
    wrong = [f"{INDEX} lists {name}, which is not there" for name in index["run"].unique()
             if name not in folders]  # fmt: skip
    wrong += [
        f"{name} is not listed in {INDEX}" for name in folders if name not in set(index["run"])
    ]
    wrong += [f"{INDEX} lists {part} more than once" for part in parts.index[parts > 1]]
    hashed = 0
    for name in sorted(folders):
        try:
            run = read_run(folders[name])
        except ValueError as error:
            wrong.append(str(error))
            continue
        wrong += _record(run, set(index.loc[index["run"] == name, "seed"]))
        hashed += "outputs" in run.record
    print(f"{INDEX}: {len(index)} parts, {len(folders)} runs; {hashed} of them record their outputs' "
          "hashes (those of 0.1.0 do not)")  # fmt: skip
    return wrong


def _record(run: Run, seeds: set[int]) -> Iterator[str]:
    """What a published record says that is not so."""
    record, seed = run.record, run.identity["settings"].get("seed")
    if record.get("run") != run.name or not run.name.endswith(f"-{fingerprint(run.identity)}"):
        yield f"{run.name} is not what its run.json is called after"
    if record.get("status") != "finished":
        yield f"{run.name} was not finished"
    if seed is not None and seeds - {seed}:
        yield f"{run.name} is of seed {seed}, and listed in {INDEX} for {sorted(seeds - {seed})[0]}"
    yield from (f"{run.name}: {one}" for one in run.shortfalls(wholly=True, among=KEPT))


def _local(folder: Path) -> list[str]:
    """The same of this machine's finished runs, policies included."""
    wrong, count = [], 0
    for path in sorted(folder.glob("*/run.json")):
        try:
            run = read_run(path.parent)
            if run.record.get("status") == "finished":
                count += 1
                wrong += [f"run {run.name}: {one}" for one in run.shortfalls(wholly=True)]
        except ValueError as error:
            wrong.append(str(error))
    print(f"runs/{folder.name}: {count} finished runs on this machine, {len(wrong)} files wrong")
    return wrong


def _drawn(profile: str, target: Path) -> list[str]:
    """Every table, every figure and the page, drawn again elsewhere and compared."""
    with TemporaryDirectory() as place:
        again = Path(place)
        exhibits.redraw(profile, again)
        kept, new = (
            {path.relative_to(folder): path for name in DRAWN for path in folder.glob(name)}
            for folder in (target, again)
        )
        how = {name: alike(kept[name], new[name]) for name in kept.keys() & new.keys()}
    counts = Counter(filter(None, how.values()))
    print(f"tables, figures, page: {len(new)} files drawn again; the same "
          + ", ".join(f"{count} {way}" for way, count in counts.items()))  # fmt: skip
    return (
        [f"{name} is published and no longer drawn" for name in sorted(kept.keys() - new.keys())]
        + [f"{name} is drawn and not published" for name in sorted(new.keys() - kept.keys())]
        + [f"{name} is drawn otherwise than published" for name in sorted(how) if not how[name]]
    )


def alike(one: Path, other: Path) -> str | None:
    """How two files are the same: "byte for byte", "to rounding" or "pixel by pixel"; None if not.

    matplotlib and Pillow bring their own FreeType and zlib, and pinned versions of them write the
    same bytes; other builds compress and shade otherwise, other processors round otherwise.
    """
    if one.read_bytes() == other.read_bytes():
        return "byte for byte"
    if one.suffix == ".png":
        return "pixel by pixel" if _same_picture(one.read_bytes(), other.read_bytes()) else None
    texts = [path.read_text() for path in (one, other)]
    pictures = zip(*(map(base64.b64decode, PICTURE.findall(text)) for text in texts), strict=False)
    same = _same_text(*(PICTURE.sub("", text) for text in texts))
    return "to rounding" if same and all(_same_picture(*pair) for pair in pictures) else None


def _same_text(one: str, other: str) -> bool:
    parts, others = NUMBER.split(one), NUMBER.split(other)
    if parts[::2] != others[::2]:
        return False
    numbers, new = (np.array(words[1::2], dtype=float) for words in (parts, others))
    return bool(np.allclose(numbers, new, rtol=ROUNDING, atol=ROUNDING))


def _same_picture(one: bytes, other: bytes) -> bool:
    kept, new = (np.asarray(Image.open(io.BytesIO(png)), dtype=float) for png in (one, other))
    return kept.shape == new.shape and float(np.sqrt(np.mean((kept - new) ** 2))) <= SHADE

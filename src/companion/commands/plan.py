"""What a study would take and which commands it would run, printed; nothing is started."""

from __future__ import annotations

from companion.commands.console import show
from companion.machine.dry_run import commands
from companion.machine.memory import peaks
from companion.machine.plan import notes, plan
from companion.schema import Profile


def report(profile: Profile) -> None:
    """Print the plan, its notes, memory by its parts, and the commands."""
    table = plan(profile)
    table.insert(1, "tokens (10^6)", table.pop("tokens") / 1e6)
    table.columns = [str(name).replace("_gib", " (GiB)") for name in table]
    show(table, f"{profile.name}: {profile.about}", notes(profile))
    parts = peaks(profile).T
    parts.columns = [", ".join(names) for names in parts]
    show(parts.rename({"cache_tokens": "tokens in the cache"}), "Peak memory by its parts, in GiB")
    for name, lines in commands(profile).items():
        print(f"\n{name}:", *lines, sep="\n")

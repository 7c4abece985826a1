"""Whether this machine has what a profile needs, printed."""

from __future__ import annotations

from companion.commands.console import show
from companion.machine.doctor import examine
from companion.schema import Profile


def report(profile: Profile) -> bool:
    """Print every check, and the remedy of what is not ok; returns whether all is."""
    table = examine(profile).set_index("check")
    wrong = table[~table["ok"]]
    show(
        table[["found", "needed"]].assign(ok=table["ok"].map({True: "yes", False: "NO"})),
        f"{profile.name} on this machine",
        [f"{name}: {why}" for name, why in wrong["cost"].items()],
    )
    return wrong.empty

"""A profile: every setting of the study at one scale, read from `params/<profile>.yaml`.

A profile may say `extends: <other>` and then only names what differs. Unknown, missing or
impossible values are refused with one sentence that names the field, the value and the remedy.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from companion.schema import Profile

_CLONE = Path(__file__).resolve().parents[2]
_INSTALLED = not (_CLONE / "params").is_dir()
ROOT = Path.cwd() if _INSTALLED else _CLONE
"""The repository: `params/`, `results/` and `runs/` are found beside `src/`. Without one, as a wheel is
installed, the folder that it is called in."""
PROFILES = (
    Path(sys.prefix, "share", "ts-opsd-companion", "params") if _INSTALLED else ROOT / "params"
)


def place(path: str) -> Path:
    """Where a path of a profile or of the environment leads, in whatever folder a process runs.

    ~ is the user's home; what is relative lies below the repository.
    """
    return ROOT / Path(path).expanduser()


def profiles() -> list[str]:
    """Names of the profiles that exist."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load(
    profile: str = "laptop",
    overrides: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | str | None = None,
) -> Profile:
    """The profile `params/<profile>.yaml`, with other values in some of its fields.

    Args:
        overrides: by dotted field, such as `{"reheat.tau": 1.1}`. None keeps the profile's own
            value, so a notebook can pass its parameters on unchanged.
        changes: likewise, but None is a value; also as YAML, which a command line can give:
            `"reheat.tau: 1.1"`. An override of the same field wins.

    Raises:
        ValueError: in one sentence, for an unknown profile or field and for an impossible value.
    """
    asked = {field: value for field, value in (overrides or {}).items() if value is not None}
    return _validated({"name": profile, **_read(profile)}, _parsed(changes) | asked)


def change(profile: Profile, changes: Mapping[str, Any]) -> Profile:
    """The profile with dotted `changes`, None among their values; ValueError as `load`."""
    return _validated(profile.model_dump(), changes)


def variant(profile: Profile) -> str:
    """ "" for a profile as its file has it (whatever its seed), else "-" and a hash of its values.

    For the names of what would otherwise be overwritten by a run with other settings.
    """
    if profile == load(profile.name, {"seed": profile.seed}):
        return ""
    values = json.dumps(profile.model_dump(), sort_keys=True)
    return "-" + hashlib.sha256(values.encode()).hexdigest()[:8]


def _parsed(changes: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """`changes` by dotted field."""
    try:
        values = yaml.safe_load(changes) if isinstance(changes, str) else changes
    except yaml.YAMLError:
        values = False
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ValueError(
            f"changes is {changes!r} and must give fields of the profile their values, for "
            "example 'reheat.tau: 1.3' or '{reheat.tau: 1.3, rl.continued_steps: 20}'"
        )
    return dict(values)


def _validated(values: dict[str, Any], changes: Mapping[str, Any]) -> Profile:
    for dotted, value in changes.items():
        *path, last = dotted.split(".")
        section = values
        for part in path:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise ValueError(f"'{dotted}' is no field of a profile; '{part}' has no parts")
        section[last] = value
    try:
        return Profile(**values)
    except ValidationError as error:
        raise ValueError(f"profile '{values['name']}': {_sentence(error)}") from None


def _read(profile: str) -> dict[str, Any]:
    if profile not in profiles():
        raise ValueError(
            f"profile is '{profile}', which does not exist; use one of {', '.join(profiles())}"
        )
    try:
        values = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text())
        if not isinstance(values, dict):
            raise ValueError("no fields")
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f"'params/{profile}.yaml' cannot be read ({str(error).splitlines()[0]}); restore it"
        ) from None
    parent = values.pop("extends", None)
    return _merge(_read(parent), values) if parent else values


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _sentence(error: ValidationError) -> str:
    """The first complaint of pydantic as one sentence: field, value, remedy."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section: Any = Profile
        for part in first["loc"][:-1]:
            section = section.model_fields[part].annotation
        known = list(section.model_fields)
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known fields: {', '.join(known)}"
        return f"'{field}' is no field of a profile; {hint}"
    if first["type"] == "missing":
        return f"'{field}' is missing; add it to the profile"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        if message.startswith("is "):
            return f"{field} {message}"
        return f"{field}: {message}" if field else message
    return f"{field} is {first['input']!r}: {message[0].lower()}{message[1:]}"

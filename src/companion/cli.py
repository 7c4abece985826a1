"""The `companion` command, which the Makefile calls: `companion doctor --profile laptop`."""

from __future__ import annotations

import argparse
import importlib
import sys

from companion import params

COMMANDS = {
    "doctor": "companion.doctor",
    "plan": "companion.dry_run",
    "reproduce": "companion.reproduce",
    "publish": "companion.publish",
    "figures": "companion.redraw",
    "export": "companion.export",
}
"""Modules with a `main`, which reads the command line."""


def profile(name: str) -> params.Profile:
    """A --profile, for argparse: one that cannot be loaded ends the command with one sentence."""
    try:
        return params.load(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        sys.exit(f"companion: '{name}' is no command; use one of {', '.join(COMMANDS)}")
    sys.argv[:2] = [f"companion {name}"]
    importlib.import_module(COMMANDS[name]).main()

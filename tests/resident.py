"""Resident memory of this process in bytes, now and at its highest (Linux)."""

import ctypes
import gc
from pathlib import Path


def now():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back first
    return _status("VmRSS")


def forget_highest():
    Path("/proc/self/clear_refs").write_text("5")


def highest():
    """Since it was last forgotten."""
    return _status("VmHWM")


def _status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(field)]
    return int(line.split()[1]) * 1024

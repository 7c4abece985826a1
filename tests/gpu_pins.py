"""Runs what needs no GPU under the pins for GPUs, and writes docs/gpu-pins.log: `make test-gpu-pins`.

The tests are those that touch a framework whose version differs from the CPU's. What starts vLLM is
left out: its build for CUDA answers on no CPU.
"""

import hashlib
import re
import subprocess
import sys
from datetime import UTC, datetime

from companion.params import ROOT

LOG = ROOT / "docs" / "gpu-pins.log"
PINS = ROOT / "requirements" / "gpu.txt"
TESTS = [
    "test_environment.py",  # first: that these are the pins
    "test_makefile.py",
    "test_adapters_verl.py",  # verl's own worker: log-probs, packing by sdpa, weight sync
    "test_scaling.py",
    "test_merge.py",
    "test_distillation.py",
    "test_ranks.py::test_ms_swift_sharded_on_two_ranks",  # FSDP2 over gloo: trains, saves, resumes
]

OF_THE_LOG = "test_environment.py::test_gpu_pins_were_tried_since_they_changed"


def pins() -> str:
    """SHA-256 of the list that is installed on GPUs."""
    return hashlib.sha256(PINS.read_bytes()).hexdigest()


def main() -> int:
    words = ["-m", "pytest", "-v", "-o", "addopts=", "-p", "no:cacheprovider", "--no-header"]
    words += [
        "--disable-warnings",
        f"--deselect=tests/{OF_THE_LOG}",
        *(f"tests/{name}" for name in TESTS),
    ]
    begun = datetime.now(UTC)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    kept = [
        re.sub(r"\s+\[ *\d+%\]$", "", line)
        for line in done.stdout.splitlines()
        if re.search(r" (PASSED|FAILED|ERROR|SKIPPED)\b|^=+ .*(passed|failed)", line)
    ]
    head = [f"date: {begun:%Y-%m-%d %H:%M} UTC", f"requirements/gpu.txt: {pins()}", ""]
    LOG.write_text("\n".join([*head, *kept]) + "\n")
    print("\n".join(kept) if not done.returncode else done.stdout[-5000:])
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

"""`swift rlhf` (ms-swift 4.6.0) in one process, without what that has no use for.

    python -m companion.adapters.swift_here ARGUMENTS ...

What takes a third of its start, and a reheating of few steps is mostly start:

- `swift rlhf` itself (cli/main.py), which imports torch to start cli/rlhf.py in another process;
- vLLM (rlhf_trainers/utils.py:61) and Ray, wherever they are installed; Weights & Biases
  (rlhf_trainers/utils.py:37), unless it is reported to;
- scipy's optimisers, for object detection (transformers/loss, 5.10).
"""

import runpy
import sys

import transformers.utils

UNUSED = ["ray", "vllm"]

if __name__ == "__main__":
    for name in UNUSED if "wandb" in " ".join(sys.argv) else [*UNUSED, "wandb"]:
        sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed
    transformers.utils.is_scipy_available = lambda: False
    runpy.run_module("swift.cli.rlhf", run_name="__main__")

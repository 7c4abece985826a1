"""What is shown of a framework's log when it fails."""

from companion.stages.log_end import LINES, log_end

ENGINE = "(EngineCore pid=1524) "
VLLM = "\n".join(
    [
        "WARNING 11-27 09:08:15 [cuda.py:45] Failed to import: ModuleNotFoundError('No module …')",
        f"{ENGINE}ERROR 11-27 09:08:37 [core.py:1231] Traceback (most recent call last):",
        f"{ENGINE}ERROR 11-27 09:08:37 [core.py:1231]     from flashinfer import (",
        f"{ENGINE}ERROR 11-27 09:08:37 [core.py:1231] ModuleNotFoundError: No module named 'flashinfer'",
        f"{ENGINE}Traceback (most recent call last):",
        f"{ENGINE}ModuleNotFoundError: No module named 'flashinfer'",
        "Traceback (most recent call last):",
        *(f"  line {i}" for i in range(2 * LINES)),
        "RuntimeError: Engine core initialization failed. See root cause above.",
    ]
)
"""Of vLLM 0.24 on a GPU (docs/gpu-h200.log), shortened."""


def test_the_cause_stands_before_the_end_of_a_log_that_only_points_to_it():
    cause, *end = log_end(VLLM).splitlines()
    assert cause == "ModuleNotFoundError: No module named 'flashinfer'"
    assert end == VLLM.splitlines()[-LINES:]


def test_the_cause_outlives_the_process_that_asked():
    asked = f"Traceback (most recent call last):\n  …\nRuntimeError: vLLM failed:\n{log_end(VLLM)}"
    assert log_end(asked).splitlines()[:2] == [
        "RuntimeError: vLLM failed:",
        "ModuleNotFoundError: No module named 'flashinfer'",
    ]


def test_a_short_log_is_shown_as_it_is():
    assert log_end("starts\nValueError: too hot\n") == "starts\nValueError: too hot"
    assert log_end("") == ""

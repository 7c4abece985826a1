"""An evaluation in the format of lm-evaluation-harness, for the tools that read its results.

Written after lm_eval/loggers/evaluation_tracker.py (0.4): results_<date>.json with averages and
their standard errors, and samples_<task>_<date>.jsonl with a line a problem.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from companion import runs
from companion.runs import Run


def export(run: Run, folder: Path) -> Path:
    """Write an evaluation's results and samples into `folder`; returns the results file.

    Every suite is a task. Its metrics are avg@k and pass@k over k samples a problem, in [0, 1],
    with the standard error over problems.

    Raises:
        ValueError: the run is no finished evaluation.
    """
    samples = run.folder / "samples.parquet"
    if run.identity["stage"] != "evaluate" or not samples.exists():
        raise ValueError(f"run {run.name} is no finished evaluation; name one: runs/…/evaluate-…")
    settings, record = run.identity["settings"], run.record
    date = record["ended"].replace(":", "-")
    folder.mkdir(parents=True, exist_ok=True)
    tasks = {
        suite: _lines(rows, settings)
        for suite, rows in pd.read_parquet(samples).groupby("suite", sort=False)
    }
    names = {suite: runs.slug(suite).replace("-", "_") for suite in tasks}
    for suite, lines in tasks.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"samples_{names[suite]}_{date}.jsonl").write_text(text)
    results = {
        "results": {names[suite]: _averages(suite, lines) for suite, lines in tasks.items()},
        "configs": {
            names[suite]: {
                "task": names[suite],
                "repeats": settings["samples"],
                "generation_kwargs": _generation(settings),
            }
            for suite in tasks
        },
        "versions": dict.fromkeys(names.values(), 1),
        "n-shot": dict.fromkeys(names.values(), 0),
        "n-samples": {
            names[suite]: {"original": len(lines), "effective": len(lines)}
            for suite, lines in tasks.items()
        },
        "config": {
            "model": settings["engine"],
            "model_args": f"pretrained={settings['label']}",
            "random_seed": settings["seed"],
        },
        "git_hash": record["git"]["revision"],
        "date": record["ended"],
        "model_source": settings["engine"],
        "model_name": settings["label"],
        "model_name_sanitized": runs.slug(settings["label"]),
        "total_evaluation_time_seconds": str(record["seconds"]),
        "task_hashes": {
            names[suite]: _hash(
                "".join(
                    line["doc_hash"] + line["prompt_hash"] + line["target_hash"] for line in lines
                )
            )
            for suite, lines in tasks.items()
        },
    }
    path = folder / f"results_{date}.json"
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    return path


def _lines(rows: pd.DataFrame, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """A line a problem, with all its answers."""
    stated = "stated" if "stated" in rows else "answer"
    lines = []
    for number, (problem, answers) in enumerate(rows.groupby("problem", sort=False)):
        first = answers.iloc[0]
        prompt, gold = first["prompt"], str(first.get("gold", first["prompt"]))
        doc = {"id": problem, "prompt": prompt, "answer": gold}
        lines.append(
            {
                "doc_id": number,
                "doc": doc,
                "target": gold,
                "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": _generation(settings)}},
                "resps": [answers["answer"].tolist()],
                "filtered_resps": answers[stated].fillna("").tolist(),
                "filter": "none",
                "metrics": ["avg_at_k", "pass_at_k"],
                "avg_at_k": float(answers["correct"].mean()),
                "pass_at_k": float(answers["correct"].any()),
                "doc_hash": _hash(json.dumps(doc, ensure_ascii=False)),
                "prompt_hash": _hash(prompt),
                "target_hash": _hash(gold),
            }
        )
    return lines


def _averages(suite: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    frame = pd.DataFrame(lines)
    found: dict[str, Any] = {"alias": suite}
    for metric in ("avg_at_k", "pass_at_k"):
        found[f"{metric},none"] = float(frame[metric].mean())
        found[f"{metric}_stderr,none"] = float(frame[metric].sem()) if len(frame) > 1 else "N/A"
    return found


def _generation(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "do_sample": True,
        "temperature": settings["temperature"],
        "top_p": settings["top_p"],
        "max_gen_toks": settings["max_new_tokens"],
        "until": [],
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

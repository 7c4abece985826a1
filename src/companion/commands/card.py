"""The card of a policy that was reheated: what changed, what exact scaling would have done, and how.

Markdown with the front matter of the Hub's model cards, and the same as a page.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mistune
import yaml

from companion import params, policies, tasks
from companion.analysis import accuracy, collect, distribution, measure
from companion.runs import Run
from companion.schema import Profile
from companion.stages import evaluate, scaling
from companion.stages.engines import opened
from companion.stages.entropy import token_entropy

EXAMPLES = 3
LONGEST = 600
"""Characters of an answer that the card shows."""


def write(profile: Profile, start: Path, made: Run, folder: Path) -> None:
    """card.md and card.html in `folder`, from the policy before and the run that reheated it."""
    compared = {"before": start, "after": made.policy}
    if scaled := _scaled(profile, start, made):
        compared["scaled"] = scaled
    text = "\n\n".join(
        [
            _front(start, made),
            f"# {start.name}, reheated",
            _summary(profile, made),
            _table(profile, compared),
            _how(profile, made),
            _answers(profile, start, made.policy),
        ]
    )
    (folder / "card.md").write_text(text + "\n")
    _, _, body = text.split("---\n", 2)
    page = mistune.create_markdown(plugins=["table"])(body)
    (folder / "card.html").write_text(PAGE.format(title=html.escape(start.name), body=page))


def _scaled(profile: Profile, start: Path, made: Run) -> Path | None:
    """The policy divided to the same entropy, where its family can be and a temperature gives it."""
    if not scaling.scalable(start):
        return None
    try:
        tau = scaling.matching_tau(profile, start, made.result["token_entropy"])
    except ValueError:  # none between 1/4 and 4; a policy that was reheated is not lost for that
        return None
    return scaling.scale(profile, start, tau).policy


def _front(start: Path, made: Run) -> str:
    """The Hub's metadata: the licence of the policy's own card where it has one."""
    own: dict[str, Any] = {}
    if (card := start / "README.md").exists() and card.read_text().startswith("---\n"):
        try:
            own = yaml.safe_load(card.read_text().split("---\n", 2)[1]) or {}
        except (IndexError, yaml.YAMLError):
            own = {}
    fields = {
        "license": own.get("license", "unknown"),
        "base_model": own.get("base_model") or made.record["inputs_from"]["policy"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["ts-opsd", "reheated"],
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---"


def _summary(profile: Profile, made: Run) -> str:
    heat, result = profile.reheat, made.result
    short = "" if result["recovered"] else " **It ended short of what was asked for.**"
    return (
        f"Mean token entropy went from {result['start_entropy']:.4f} to "
        f"{result['token_entropy']:.4f} nats in {result['step']} updates of {heat.batch_size} answers, "
        f"by on-policy distillation towards its own distribution at temperature {heat.tau:g} (TS-OPSD, "
        f"arXiv 2606.00755; {heat.teacher} teacher, {made.identity['settings']['direction']} KL). No "
        f"labels were used.{short}"
    )


def _table(profile: Profile, compared: Mapping[str, Path]) -> str:
    """A row a measure, a column a policy: before, after, and exactly scaled to the same entropy."""
    entropies = {name: token_entropy(policy, profile) for name, policy in compared.items()}
    rows = [("mean token entropy, T = 1 (nats)", {n: f"{e:.4f}" for n, e in entropies.items()})]
    changed = {
        n: _change(profile, compared["before"], compared[n]) for n in compared if n != "before"
    }
    rows.append(("token KL from before (nats)", {n: f"{kl:.4f}" for n, (kl, _) in changed.items()}))
    rows.append(
        (
            f"of the {distribution.CANDIDATES} likeliest tokens shared with before",
            {n: f"{overlap:.1%}" for n, (_, overlap) in changed.items()},
        )
    )
    if all(question.gold for question in tasks.held_out(profile, "test")):
        rows += _accuracies(profile, compared)
    titles = {"before": "before", "after": "after", "scaled": "scaled exactly, same entropy"}
    lines = [["", *(titles[n] for n in compared)], ["---"] * (1 + len(compared))]
    lines += [[name, *(cells.get(n, "") for n in compared)] for name, cells in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _change(profile: Profile, before: Path, after: Path) -> tuple[float, float]:
    """Mean over the tokens that the first samples: KL(before || after), and shared candidates."""
    tokens = measure.table(distribution.change(profile, before, after))
    return float(tokens["kl"].mean()), float(tokens["overlap"].mean())


def _accuracies(profile: Profile, compared: Mapping[str, Path]) -> list[tuple[str, dict[str, str]]]:
    """avg@k and pass@k in percent, on the prompts that have golds."""
    asked = params.change(
        profile, {"task.test_problems": min(100, profile.task.test_problems or 100)}
    )
    made = evaluate.evaluate_each(asked, compared)
    table = accuracy.table(
        collect.samples(made.values()), tasks.suites(asked), asked.evaluation.bootstrap
    )
    return [
        (f"{metric} (%)", {str(n): f"{cell:.1f}" for n, cell in table["Avg"][metric].items()})
        for metric in table["Avg"]
    ]


def _how(profile: Profile, made: Run) -> str:
    """What made it: enough to make it again."""
    record, settings = made.record, made.identity["settings"]
    told = ", ".join(
        f"{name} {settings[name]}"
        for name in ("tau", "teacher", "learning_rate", "batch_size", "max_steps", "seed")
    )
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"## How\n\nRun `{made.name}` of the TS-OPSD companion, whose `run.json` lies beside this file: "
        f"{told}; prompts {json.dumps(record['data'])}; {record['seconds']:.0f} s. Versions: {versions}."
    )


def _answers(profile: Profile, before: Path, after: Path) -> str:
    """The same prompts answered by both, at T = 1 with the same random numbers."""
    asked = tasks.mixed(profile, "test", EXAMPLES)
    said: dict[str, list[str]] = {}
    for name, policy in (("before", before), ("after", after)):
        with opened(policy, profile) as sampler:
            said[name] = sampler(
                [question.prompt for question in asked],
                max_new_tokens=profile.evaluation.max_new_tokens,
                temperature=1.0,
                top_p=1.0,
                seed=0,
            ).texts
    parts = [f"## {len(asked)} answers before and after, at T = 1"]
    for row, question in enumerate(asked):
        parts.append(f"Prompt:\n\n{_quoted(policies.as_text(question.prompt))}")
        parts += [f"{name}:\n\n{_quoted(texts[row])}" for name, texts in said.items()]
    return "\n\n".join(parts)


def _quoted(text: str) -> str:
    """As a block of code: nothing in it is Markdown."""
    shown = text if len(text) <= LONGEST else text[:LONGEST] + " …"
    return "\n".join(f"    {line}" for line in shown.splitlines() or [""])


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}, reheated</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse }}
td, th {{ padding: .3rem .6rem; border-bottom: 1px solid #ccc; text-align: left }}
pre {{ background: #f4f4f4; padding: .6rem; white-space: pre-wrap }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #111; color: #eee }} pre {{ background: #222 }}
}}
</style>
{body}
</html>
"""

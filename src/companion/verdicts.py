"""One sentence an exhibit for the report: what was measured, beside what the paper reports.

Every sentence is written from the measurements each time, so that it cannot outlive them. Whether
they agree is decided by the interval: a difference counts if its 95% interval leaves out 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from companion import paper, study
from companion.analysis.statistics import Estimate, macro_average, ratio_of_sums

HEADLINE = "+DAPO w/ PR-FKL"


def side(gain: Estimate) -> str:
    """What an interval says about a difference that the paper reports as positive."""
    if gain.low > 0:
        return "agrees with"
    return "contradicts" if gain.high < 0 else "neither confirms nor contradicts"


def table1(gains: pd.DataFrame, by_seed: pd.DataFrame) -> str:
    """Args: `tables.gains`, and the differences of `tables.avg_by_seed`, to continued DAPO."""
    avg, passed = gains.loc[HEADLINE]
    others = ", ".join(
        f"{arm.removeprefix('+DAPO w/ ')} {row.iloc[0]:+.1f}"
        for arm, row in gains.iterrows()
        if arm.startswith("+DAPO w/ ") and arm != HEADLINE
    )
    return (
        f"After equal RL steps PR-FKL stands {avg:+.1f} points avg@8 and {passed:+.1f} pass@8 from "
        f"continued DAPO, which {side(avg)} the paper's {_reported('avg@8')} and {side(passed)} its "
        f"{_reported('pass@8')}.{_seeds(by_seed.loc[HEADLINE])} The other arms' avg@8: {others}."
    )


def _seeds(by_seed: pd.Series) -> str:
    """The values of single seeds, where there are several."""
    if len(by_seed) == 1:
        return ""
    return f" By seed, avg@8: {', '.join(f'{value:+.1f}' for value in by_seed)}."


def _reported(metric: str) -> str:
    average = paper.table1_average().xs(metric, axis=1, level=1)
    gain = average.loc[HEADLINE] - average.loc[study.DAPO]
    return " and ".join(f"{value:+.2f} ({model[6:8]})" for model, value in gain.items())


def fig02(dynamics: pd.DataFrame, last: int = 20) -> str:
    before = dynamics[dynamics["arm"] == "Collapsed"].dropna(subset=["token_entropy"])
    ends = before.sort_values("step").groupby("seed")["token_entropy"].agg(["first", "last"]).mean()
    measured = dynamics.dropna(subset=["token_entropy"]).sort_values("step")
    final = measured.groupby(["arm", "seed"])["token_entropy"].last().groupby("arm").mean()
    gap = _reward_gap(dynamics, last)
    return (
        f"DAPO takes entropy from {ends['first']:.3f} to {ends['last']:.3f} nats; after the same "
        f"further steps plain DAPO ends at {final[study.DAPO]:.3f} and PR-FKL at "
        f"{final[HEADLINE]:.3f}. Over the last {last} steps PR-FKL's reward minus plain DAPO's is "
        f"{gap:+.3f} (seeds and steps resampled), which {side(gap)} the higher reward that the paper shows."
    )


def _reward_gap(dynamics: pd.DataFrame, last: int) -> Estimate:
    """PR-FKL's reward minus DAPO's on the same prompts, resampling seeds and the last steps."""
    wide = dynamics.pivot_table(index=["seed", "step"], columns="arm", values="reward")
    gap = (wide[HEADLINE] - wide[study.DAPO]).dropna().groupby("seed").tail(last)
    percent = macro_average(
        {"": gap.to_numpy().reshape(wide.index.get_level_values(0).nunique(), -1)}
    )
    return Estimate(percent.value / 100, percent.low / 100, percent.high / 100)


def reheating(cost: pd.DataFrame) -> str:
    """Args: `tables.gains` of each reheated policy against the collapsed one."""
    distilled, scaled = cost.loc["PR-FKL"].iloc[0], cost.loc["PR-scale*"].iloc[0]
    verb = "contradicts" if distilled.high < 0 else "agrees with"
    return (
        f"Before any further RL PR-FKL costs {distilled:+.1f} points avg@8, which {verb} the paper's "
        f"finding of no systematic loss; scaling the logits to the same entropy costs {scaled:+.1f}."
    )


def ood(table: pd.DataFrame, gains: pd.DataFrame, collapsed_by_seed: pd.Series) -> str:
    """Args: `tables.ood` and `tables.gains` of the suite; the collapsed policy's avg by seed."""
    base, collapsed = (table.loc[row].iloc[0] for row in ("Base", "Collapsed"))
    each = ", ".join(f"{value:.1f}" for value in collapsed_by_seed)
    return (
        f"On problems of a kind never trained on the base policy gets {base:.1f}% of its samples "
        f"right and the collapsed one {collapsed:.1f}% (by seed: {each}). PR-FKL then stands "
        f"{gains.loc[HEADLINE].iloc[0]:+.1f} points from continued DAPO; the paper evaluates GPQA for "
        "its reheating checkpoints only (Fig. 4)."
    )


def fig03(cka: pd.DataFrame) -> str:
    diagonal = cka[(cka["before"] == cka["after"]) & (cka["estimator"] == "unbiased")]
    whole = diagonal[diagonal["fold"] == "all"].set_index("before")["cka"]
    layer = whole.idxmin()
    parts = diagonal[(diagonal["fold"] != "all") & (diagonal["before"] == layer)]["cka"]
    verb = "agrees with" if whole.min() > 0.999 else "falls below"
    return (
        f"The layer least like itself after reheating is layer {layer} with an unbiased CKA of "
        f"{whole.min():.4f} ({parts.min():.4f} to {parts.max():.4f} over five parts of the "
        f"prompts), which {verb} the paper's bound of 0.999."
    )


def fig04(along: pd.DataFrame, changes: Mapping[str, Estimate]) -> str:
    """Args: `tables.along_path` and `tables.change_along_path`."""
    avg = along[along["metric"].str.startswith("avg")].sort_values("step")
    start = avg.groupby("suites")["value"].first()
    lost = any(change.high < 0 for change in changes.values())
    verb = "contradicts" if lost else "agrees with"
    said = " and ".join(
        f"{suites} by {change:+.1f} points, from {start[suites]:.1f}%"
        for suites, change in changes.items()
    )
    return (
        f"From the collapsed to the reheated checkpoint avg@8 changes {said}, which {verb} the "
        "paper's finding of no systematic loss."
    )


def fig05(tokens: pd.DataFrame) -> str:
    per_prompt = tokens.groupby("prompt").agg(
        kl=("kl", "sum"), change=("entropy_change", "sum"), tokens=("kl", "size")
    )
    kl = ratio_of_sums(per_prompt["kl"].to_numpy(), per_prompt["tokens"].to_numpy())
    change = ratio_of_sums(per_prompt["change"].to_numpy(), per_prompt["tokens"].to_numpy())
    overlap, mass = tokens["overlap"].mean(), tokens["mass"].mean()
    near = (
        "near 1 as in the paper" if min(overlap, mass) > 0.95 else "not both near 1 as in the paper"
    )
    return (
        f"The mean token KL is {kl:.4f} nats (the paper: about 0.002), the median "
        f"{max(tokens['kl'].median(), 0):.1g}; entropy changes by {change:+.4f} nats a token, and the "
        f"ten likeliest tokens share {overlap:.3f} of their candidates and {mass:.4f} of their "
        f"probability, {near}."
    )


def table2(summary: pd.DataFrame) -> str:
    first, last = summary.iloc[0], summary.iloc[-1]
    fork = "fork position (tokens)"
    earlier = last[fork].high < first[fork].low
    return (
        f"Sampled answers that leave the greedy one do so at token {first[fork]:.1f} before and "
        f"{last[fork]:.1f} after reheating, "
        f"{'earlier as in' if earlier else 'not earlier beyond the intervals, unlike'} the paper "
        f"(61.7 to 49.7); edit distance goes from {first['edit distance']:.3f} to "
        f"{last['edit distance']:.3f} (the paper: 0.581 to 0.605), and minus the log-probability "
        f"from {first['- log-prob (nats)']:.3f} to {last['- log-prob (nats)']:.3f} nats (0.055 to "
        "0.077)."
    )


def fig06(positions: pd.DataFrame, jump: pd.DataFrame) -> str:
    ends = positions["checkpoint"].min(), positions["checkpoint"].max()
    wide = positions.pivot(index="position", columns="checkpoint", values=["low", "high"])
    apart = wide["high", ends[1]] < wide["low", ends[0]]
    where = f"at {apart.sum()} of {len(apart)} positions"
    if apart.any():
        where += f", first at {apart.idxmax()}"
    found = "no path long enough to test for a jump"
    if len(jump):
        row = jump.iloc[0]
        does = "entropy jumps" if row["p-value"] < 0.05 else "no jump of entropy is detected"
        found = f"{does} within a step (oddest at step {row['step']:.0f}, p = {row['p-value']:.2g})"
    return (
        f"The last checkpoint's log-probabilities lie below the collapsed policy's, beyond both "
        f"intervals, {where}, and {found}; the paper sees a jump, and lines that part near token 50."
    )


def fig07(paths: pd.DataFrame, recovery: float | None) -> str:
    """Args: `collect.paths` of the four runs, and the entropy (nats) at which AdamW's stop."""
    runs = {name: rows.set_index("step") for name, rows in paths.groupby("run")}
    gradient = {name: rows["grad_norm"].median() for name, rows in runs.items()}
    rise = {
        name: rows["token_entropy"].dropna().iloc[-1] - rows["token_entropy"].iloc[0]
        for name, rows in runs.items()
    }
    steps = {name: rows.index.max() for name, rows in runs.items()}
    ratio = gradient["FKL, AdamW"] / gradient["RKL, AdamW"]
    end = min(runs[f"{way}, AdamW"]["token_entropy"].dropna().iloc[-1] for way in ("FKL", "RKL"))
    both = "both recover" if recovery and end >= recovery else "not both recover"
    return (
        f"Under AdamW {both} ({steps['FKL, AdamW']} steps forward, {steps['RKL, AdamW']} "
        f"reverse) and forward KL's gradient norm is {ratio:.1f} times reverse KL's (medians); the "
        f"paper says it is larger throughout, {'as' if ratio > 1 else 'unlike'} here. Under plain "
        f"SGD, where size counts, forward KL raises entropy by {rise['FKL, SGD']:+.3f} nats and "
        f"reverse KL by {rise['RKL, SGD']:+.3f} in equal steps."
    )


def fig08(paths: pd.DataFrame, gradients: pd.DataFrame) -> str:
    wide = paths.pivot(index="step", columns="run", values="token_entropy").dropna()
    spread = (wide.max(axis=1) - wide.min(axis=1)).max()
    same = gradients.query("direction_1 == 'forward' and direction_2 == 'forward'")
    return (
        f"Over the {len(wide) - 1} steps that all τ ran, entropy differs by at most {spread:.3f} nats "
        f"between them (the paper: within 0.01); the forward gradients' cosine is at least "
        f"{same['cosine'].min():.3f} while their norms differ up to "
        f"{np.exp(np.abs(np.log(same['norm_ratio']))).max():.1f} times, which AdamW hides."
    )


def fig09(paths: pd.DataFrame) -> str:
    base = paths[paths["run"] == "base"].sort_values("step")
    entropy, norm = base["token_entropy"].dropna(), base["grad_norm"].dropna()
    grown = " and ".join(
        name
        for name, values in (("entropy", entropy), ("gradient", norm))
        if values.iloc[-1] > 2 * values.iloc[0]
    )
    found = f"{grown} more than doubled" if grown else "neither doubled"
    return (
        f"Forced upon the base policy, {base['step'].max()} steps take entropy from "
        f"{entropy.iloc[0]:.3f} to {entropy.iloc[-1]:.3f} nats and the gradient norm from "
        f"{norm.iloc[0]:.3f} to {norm.iloc[-1]:.3f}. The paper sees entropy grow without bound and "
        f"the gradient sharply from step 9 on; here {found}."
    )


def fig10(path: pd.DataFrame, recovery: float | None) -> str:
    entropy = path.dropna(subset=["token_entropy"])
    crossed = entropy.loc[entropy["token_entropy"] >= (recovery or np.inf), "step"].min()
    passes = "Entropy does not reach the recovery value"
    if np.isfinite(crossed):
        steps = entropy["token_entropy"].diff()
        after = steps[entropy["step"] > crossed].mean() / steps[entropy["step"] <= crossed].mean()
        passes = f"Entropy passes the recovery value at step {crossed:.0f}"
        if np.isfinite(after):
            passes += f", grows {after:.1f} times as fast after it as before"
    return (
        f"{passes}, and is {entropy['token_entropy'].iloc[-1]:.2f} nats at step "
        f"{entropy['step'].iloc[-1]}; the paper sees a change of regime near step 16, from at most "
        "0.15 nats to about 2.5 by step 31."
    )


def fig11(paths: pd.DataFrame) -> str:
    cooled = paths[paths["run"] == "cooled"].dropna(subset=["token_entropy"])
    first, last = cooled.iloc[0], cooled.iloc[-1]
    falls = last["entropy_high"] < first["entropy_low"]
    sharpest = -cooled["token_entropy"].diff().min()
    return (
        f"Low-temperature reverse KL takes entropy from {first['token_entropy']:.3f} to "
        f"{last['token_entropy']:.3f} nats ([{last['entropy_low']:.3f}, {last['entropy_high']:.3f}]) "
        f"in {last['step']:.0f} steps, {'a fall as' if falls else 'no fall as'} in the paper; it sees "
        f"one sharp drop on the way, and here no step takes more than {max(sharpest, 0):.4f} nats."
    )


def fig12(moved: pd.DataFrame) -> str:
    whole = moved[moved["layer"] == "all"].set_index("weights")
    row, rounded = whole.loc["as saved"], whole.loc["bfloat16"]
    verb = "agrees with" if row["cosine"] < -0.5 else "does not reach"
    return (
        f"Over all weights the cosine is {row['cosine']:.2f}, the projection {row['projection']:.2f}, "
        f"the norm ratio {row['norm_ratio']:.2f} and the residual {row['residual_ratio']:.2f}; that "
        f"{verb} the paper's strong anti-alignment (projection 0.89 and residual 0.5, which imply a "
        f"cosine of −0.88). Rounding the weights to bfloat16 first would make the cosine "
        f"{rounded['cosine']:.2f}."
    )


def fig13(dynamics: pd.DataFrame, last: int = 10) -> str:
    end = dynamics.groupby("arm").tail(last).groupby("arm").mean(numeric_only=True)
    plain, hot = end.loc["+DAPO"], end.loc[HEADLINE]
    arms = dict(dynamics.groupby("arm"))
    norm = arms["+DAPO"]["grad_norm"]
    silent = {arm: (rows["grad_norm"] == 0).mean() for arm, rows in arms.items()}
    reward = arms["+DAPO"]["reward"].rolling(last).mean()
    falls = reward.iloc[-1] < reward.max() - 0.05
    return (
        f"On the few prompts plain RL ends at {plain['rollout_entropy']:.3f} nats and a reward of "
        f"{plain['reward']:.3f}, the reheated arm at {hot['rollout_entropy']:.3f} and "
        f"{hot['reward']:.3f} (means of {last} steps, one seed: no interval). Plain RL's gradient "
        f"norm peaks at {norm.max() / norm[norm > 0].median():.1f} times its median and its reward "
        f"{'falls' if falls else 'does not fall'}; the paper sees spikes and a falling reward. In "
        f"{silent['+DAPO']:.0%} of plain RL's steps, and {silent[HEADLINE]:.0%} of the reheated "
        "arm's, all groups agree and nothing is learned."
    )


def settings(table: pd.DataFrame) -> str:
    odd = list(table.index[table["differs"] == "≠"])
    same = int((table["paper"] != "").sum()) - len(odd)
    return f"{same} settings are the paper's; different are: {', '.join(odd).lower() or 'none'}."


def table6(cost: pd.DataFrame) -> str:
    share = cost.loc["OPSD", "share of RL (%)"]
    answers = cost["s per 1,000 answers"]
    return (
        f"Reheating's steps take {share:.0f}% of the time of RL's here (the paper: 15 to 17%), and "
        f"{answers['OPSD']:.1f} s per 1,000 answers beside RL's {answers['RL']:.1f}; the paper's own "
        "comparison divides answers by prompts (see the audit in notebook 10)."
    )

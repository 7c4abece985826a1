"""Each experiment changes what its figure is about, and nothing else."""

from pathlib import Path

import pytest

from companion import params
from companion.study import experiments

SMOKE = params.load("smoke")


def changed(profile):
    """The settings in which `profile` differs from smoke, dotted."""

    def flat(values, prefix=""):
        for key, value in values.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    return dict(
        set(map(str_pair, flat(profile.model_dump())))
        - set(map(str_pair, flat(SMOKE.model_dump())))
    )


def str_pair(pair):
    return pair[0], str(pair[1])


class Made:
    """Stands in for a finished run."""

    def __init__(self, name, entropy=0.2, step=7):
        self.policy = Path(name)
        self.result = {"token_entropy": entropy, "step": step}


@pytest.fixture
def asked(monkeypatch):
    """What the frameworks would be asked for: (what, changed settings, start, options)."""
    calls = []

    def reheat(profile, start, **options):
        calls.append(("reheat", changed(profile), str(start), options))
        return Made("reheated")

    def resume(profile, start, *, arm, **options):
        given = {name: value for name, value in options.items() if value}
        calls.append(("resume", changed(profile), str(start), {"arm": arm} | given))
        return Made(arm)

    def collapse(profile):
        calls.append(("collapse", changed(profile), "base", {}))
        return Made("few")

    monkeypatch.setattr(experiments.reheat, "reheat", reheat)
    monkeypatch.setattr(experiments.rl, "resume", resume)
    monkeypatch.setattr(experiments.rl, "collapse", collapse)
    monkeypatch.setattr(experiments.arms, "collapsed", lambda profile: Path("collapsed"))
    monkeypatch.setattr(experiments.policies, "base", lambda profile: Path("base"))
    hot = {"PR-FKL": Made("fkl"), "PR-RKL": Made("rkl")}
    monkeypatch.setattr(experiments.arms, "heated", lambda profile, name: hot[name])
    return calls


ENDLESS = {"reheat.recovery_entropy": "None", "reheat.ceiling_entropy": "None"}
LEAN = {"reheat.keep_checkpoints": "False"}


def test_sgd_takes_the_steps_of_adamw_and_differs_in_optimizer_and_rate_alone(asked):
    runs = experiments.objectives(SMOKE)
    assert list(runs) == ["FKL, AdamW", "RKL, AdamW", "FKL, SGD", "RKL, SGD"]
    plain = (
        ENDLESS
        | LEAN
        | {
            "reheat.optimizer": "sgd",
            "reheat.max_steps": "7",
            "reheat.learning_rate": str(SMOKE.analysis.sgd_learning_rate),
        }
    )
    assert asked == [
        ("reheat", plain, "collapsed", {"direction": direction})
        for direction in ("forward", "reverse")
    ]


def test_temperatures_reuse_the_studys_own(asked):
    runs = experiments.temperatures(SMOKE)
    assert runs[SMOKE.reheat.tau].policy == Path("fkl")
    assert asked == [("reheat", LEAN, "collapsed", {"tau": 1.5})]


def test_the_gate_is_forced_on_the_base_and_nowhere_past_the_stop(asked):
    experiments.on_base(SMOKE)
    experiments.long_horizon(SMOKE)
    (_, base, start, options), (_, long, collapsed, unforced) = asked
    assert (start, options, collapsed, unforced) == ("base", {"force": True}, "collapsed", {})
    assert base == ENDLESS | LEAN  # smoke's base_steps are its max_steps
    assert long == ENDLESS | LEAN | {"reheat.batch_size": "32", "reheat.max_steps": "9"}


def test_cooling_starts_from_the_rkl_policy(asked):
    there, _ = experiments.cooled(SMOKE)
    assert there.policy == Path("rkl")
    cold = {"direction": "reverse", "tau": SMOKE.analysis.cooling_tau, "force": True}
    assert asked == [("reheat", LEAN, "rkl", cold)]


def test_the_reheating_beside_which_cooling_is_read_differs_by_its_seed_alone(asked):
    experiments.again(SMOKE)
    other = LEAN | {"seed": str(SMOKE.seed + 1000)}
    assert asked == [("reheat", other, "collapsed", {"direction": "reverse"})]


def test_scarce_arms_part_from_one_policy_and_share_their_prompts(asked):
    experiments.scarce(SMOKE)
    (_, collapse, *_), (_, heat, start, options), (_, plain, one, _), (_, hot, other, _) = asked
    assert start == one == "few" and other == "reheated" and options == {"force": True}
    assert collapse == plain == hot and collapse["task.train_problems"] == "16"
    recovery = SMOKE.reheat.recovery_entropy / SMOKE.rl.collapse.entropy * 0.2
    assert float(heat["reheat.recovery_entropy"]) == pytest.approx(recovery)


def test_the_path_is_evenly_spaced_from_the_collapsed_to_the_kept_policy(asked, monkeypatch):
    saved = {step: Path(f"step-{step}") for step in range(1, 10)}  # two beyond the kept one
    monkeypatch.setattr(experiments.reheat, "checkpoints", lambda run: saved)
    path = experiments.path(params.change(SMOKE, {"analysis.checkpoints": 4}))
    assert list(path) == [0, 2, 5, 7] and path[0] == Path("collapsed")
    assert list(experiments.path(params.change(SMOKE, {"analysis.checkpoints": 99}))) == list(
        range(8)
    )
    monkeypatch.setattr(
        experiments.reheat, "checkpoints", lambda run: {}
    )  # keep_checkpoints: false
    assert experiments.path(SMOKE) == {0: Path("collapsed"), 7: Path("fkl")}


def test_the_frontier_evaluates_exactly_the_policies_it_names(asked, monkeypatch):
    """Base and collapsed, and some way along scaling, both reheatings and merging; each kept once."""
    made, calls = {}, []

    def evaluate_each(profile, by_label, *, words):
        assert not words  # of 64 answers a problem nobody reads one
        calls.append(changed(profile))
        made.update({label: str(policy) for label, policy in by_label.items()})
        return by_label

    paths = {"fkl": range(1, 9), "still": range(2, 8, 2)}  # one kept beyond the last, one shorter
    hot = {"PR-FKL": Made("fkl", step=7), "PR-FKL frozen": Made("still", step=6)}
    monkeypatch.setattr(experiments.arms, "heated", lambda profile, name: hot[name])
    monkeypatch.setattr(
        experiments.reheat,
        "checkpoints",
        lambda run: {n: Path(f"{run.policy}-{n}") for n in paths[str(run.policy)]},
    )
    for stage in (experiments.scaling.scale, experiments.merge.merge):
        monkeypatch.setattr(
            f"{stage.__module__}.{stage.__name__}",
            lambda profile, start, x, name=stage.__name__: Made(f"{name} {start} {x}"),
        )
    monkeypatch.setattr(experiments.evaluate, "evaluate_each", evaluate_each)
    runs = experiments.frontier(params.change(SMOKE, {"analysis.frontier_checkpoints": 3}))
    assert made == {
        "Base": "base",
        "Collapsed": "collapsed",
        "scaling 1.2": "scale collapsed 1.2",
        "scaling 1.5": "scale collapsed 1.5",
        "frozen step 2": "still-2",
        "frozen step 4": "still-4",
        "frozen step 6": "still",
        "live step 2": "fkl-2",
        "live step 5": "fkl-5",
        "live step 7": "fkl",
        "merge 0.2": "merge collapsed 0.2",
        "merge 0.5": "merge collapsed 0.5",
    }
    assert list(runs) == list(made)
    assert calls == [{"analysis.frontier_checkpoints": "3", "evaluation.samples": "4"}]
    experiments.frontier(params.change(SMOKE, {"analysis.frontier_problems": 7}))
    assert calls[1]["task.test_problems"] == "7"


def test_scarce_needs_a_recovery_entropy(asked):
    with pytest.raises(ValueError, match="reheat.recovery_entropy is null"):
        experiments.scarce(params.change(SMOKE, {"reheat.recovery_entropy": None}))
    assert not asked


def test_rivals_are_further_arms_and_a_bonus_for_as_many_steps_in_all(asked, monkeypatch):
    wider = params.change(
        SMOKE, {"analysis.rivals": ["+DAPO w/ merge*"], "analysis.entropy_bonuses": [0.01]}
    )

    heated = []
    monkeypatch.setattr(
        experiments.arms, "heated", lambda _, name: heated.append(name) or Made(name)
    )
    monkeypatch.setattr(experiments.policies, "base", lambda profile: "base")
    assert list(experiments.rivals(wider)) == ["+DAPO w/ merge*", "DAPO, entropy bonus 0.01"]
    assert heated == ["merge*"]  # no arm of the study's is trained for it
    assert asked[0][::2] == ("resume", "merge*") and asked[0][3] == {"arm": "+DAPO w/ merge*"}
    what, settings, start, options = asked[-1]
    assert (what, start, options) == ("resume", "base", {"arm": "DAPO, entropy bonus 0.01"})
    assert settings["rl.entropy_coeff"] == "0.01"
    assert settings["rl.continued_steps"] == str(7 + SMOKE.rl.continued_steps)
    asked.clear()
    assert experiments.rivals(SMOKE) == {} and asked == []  # not even a run to collapse


def test_a_rival_is_no_arm_of_the_study():
    with pytest.raises(
        ValueError, match=r"analysis.rivals holds '\+DAPO w/ PR-FKL'.*name it in one"
    ):
        params.change(SMOKE, {"analysis.rivals": ["+DAPO w/ PR-FKL"]})

"""The study's arms and the measure they share."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest

from companion import params, runs
from companion.analysis import collect, positions
from companion.exhibits import softened, style
from companion.stages import entropy, evaluate
from companion.statistics import Estimate
from companion.study import arms
from companion.tasks import countdown

SMOKE = params.load("smoke")


def lengths(*tokens, policy=""):
    """A run of steps with answers of these mean lengths."""
    steps = pd.DataFrame({"response_length": [None, *tokens]})
    return type("R", (), {"metrics": steps, "policy": policy, "result": {"token_entropy": 0.2}})


def test_every_arm_of_table_1_is_trained_from_what_its_name_says(monkeypatch):
    started, prolonged = {}, []
    hot = {name: lengths(10.0, 14.0, policy=name) for name in arms.REHEATED}
    monkeypatch.setattr(arms, "collapsed", lambda profile: "collapsed")
    monkeypatch.setattr(arms, "reheated", lambda profile: hot)
    monkeypatch.setattr(arms, "heated", lambda profile, name: hot[name])

    def resume(profile, start, *, arm, temperature=None, keep_optimizer=False, goes_on=False):
        started[arm] = (start, temperature, keep_optimizer, goes_on)
        return lengths(*([30.0, 32.0] if arm == "+DAPO w/ PR-FKL" else [20.0, 20.0]))

    def prolong(profile, run, steps, *, arm):
        prolonged.append((list(run.metrics["response_length"][1:]), steps, arm))

    monkeypatch.setattr(arms.rl, "resume", resume)
    monkeypatch.setattr(arms.rl, "prolong", prolong)
    assert list(arms.continued(params.load("smoke", {"rl.arms": arms.ARMS}))) == arms.ARMS
    assert started["+DAPO"] == ("collapsed", None, False, True)
    assert started["+DAPO w/ RR"] == ("collapsed", SMOKE.rl.rr_temperature, False, False)
    assert started["+DAPO, optimizer kept"] == ("collapsed", None, True, False)
    for name in arms.REHEATED:
        assert started[f"+DAPO w/ {name}"] == (name, None, False, False)
    assert {*started, arms.EQUAL} == set(arms.ARMS) <= set(style.COLOURS)
    assert arms.ROWS[2:] == arms.ARMS
    # Reheating: 24 tokens of 64 answers; after it 22 tokens more of 32 answers; by the 20 tokens of
    # 32 answers that a plain step draws: 3.5 steps, 4 in whole intervals of two.
    assert prolonged == [([20.0, 20.0], 4, arms.EQUAL)]


class Calls(list):
    """What the stages are asked for; each call gives a run of its own entropy."""

    def of(self, stage):
        def call(profile, start, *rest, **options):
            self.profile = profile
            self.append((stage, start, *rest, *options.values(), profile.reheat.teacher))
            return type("R", (), {"result": {"token_entropy": 0.2}, "policy": stage})

        return call


@pytest.fixture
def stages(monkeypatch):
    calls = Calls()
    monkeypatch.setattr(arms, "collapsed", lambda profile: "collapsed")
    monkeypatch.setattr(arms.reheat, "reheat", calls.of("reheat"))
    monkeypatch.setattr(arms.scaling, "scale", calls.of("scale"))
    monkeypatch.setattr(arms.merge, "merge", calls.of("merge"))
    monkeypatch.setattr(arms.scaling, "matching_tau", lambda *asked: ("tau of", asked[2]))
    monkeypatch.setattr(arms.merge, "matching_strength", lambda *asked: ("strength of", asked[2]))
    return calls


def test_a_rival_is_made_for_the_arm_that_asks_for_it(stages):
    """Four are compared always; beyond them what an arm starts from, and nothing else."""
    assert set(arms._HEATED) == set(arms.REHEATED) > set(arms.ALWAYS)
    assert list(arms.reheated(SMOKE)) == arms.ALWAYS
    forward, merged = ("reheat", "collapsed", "forward", "live"), [call[0] for call in stages]
    assert stages.count(forward) == 2 and "merge" not in merged  # its own, and PR-scale*'s entropy
    stages.clear()
    more = params.load("smoke", {"rl.arms": ["+DAPO", "+DAPO w/ PR-FKL", "+DAPO w/ merge"]})
    assert list(arms.reheated(more)) == [*arms.ALWAYS, "merge"]
    assert stages[-1] == ("merge", "collapsed", 0.4, "live")


def test_each_reheating_is_what_its_name_says(stages):
    for name, expected in {
        "PR-RKL": ("reheat", "collapsed", "reverse", "live"),
        "PR-scale": ("scale", "collapsed", SMOKE.reheat.tau, "live"),
        "PR-scale*": ("scale", "collapsed", ("tau of", 0.2), "live"),
        "PR-FKL frozen": ("reheat", "collapsed", "forward", "frozen"),
        "merge": ("merge", "collapsed", SMOKE.merge.strength, "live"),
        "merge*": ("merge", "collapsed", ("strength of", 0.2), "live"),
    }.items():
        stages.clear()
        arms.heated(SMOKE, name)
        assert stages[-1] == expected
    heat = params.load("laptop")
    arms.heated(heat, "PR-FKL frozen")
    still = stages.profile.reheat
    assert (still.tau, still.learning_rate) == (heat.frozen.tau, heat.frozen.learning_rate)
    arms.heated(params.change(heat, {"frozen.learning_rate": None}), "PR-FKL frozen")
    assert stages.profile.reheat.learning_rate == heat.reheat.learning_rate


def test_entropy_prompts_are_fixed_validation_prompts_of_every_suite():
    prompts = entropy.entropy_prompts(SMOKE)
    assert prompts == entropy.entropy_prompts(params.load("smoke", {"seed": 9}))
    problems = [countdown.parse_prompt(prompt) for prompt in prompts]
    assert {countdown.split_of(problem) for problem in problems} == {"validation"}
    assert {countdown.suite_of(problem) for problem in problems} == set(countdown.SUITES)


def test_token_entropy_weighs_tokens_and_repeats_exactly():
    from companion.stages.engines import opened

    measured = entropy.token_entropy(arms.base(SMOKE), SMOKE)
    assert measured == entropy.token_entropy(arms.base(SMOKE), SMOKE)
    with opened(arms.base(SMOKE), SMOKE) as sampler:
        answers = sampler(
            entropy.entropy_prompts(SMOKE),
            temperature=1.0,
            top_p=1.0,
            max_new_tokens=SMOKE.rl.max_response_tokens,
            seed=entropy.ENTROPY_SEED,
        )
    assert measured.value == pytest.approx(np.mean(np.concatenate(answers.entropies)), abs=1e-6)
    assert measured.low < measured.value < measured.high


def test_a_process_of_its_own_measures_the_same_entropy():
    """As on GPUs."""
    words = [
        sys.executable,
        "-m",
        "companion.stages.entropy",
        arms.base(SMOKE),
        SMOKE.model_dump_json(),
        str(os.getpid()),
    ]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert Estimate(**json.loads(out.splitlines()[-1])) == entropy.token_entropy(
        arms.base(SMOKE), SMOKE
    )


@pytest.mark.fault("an evaluation fails midway")
def test_an_evaluation_that_fails_goes_on_where_it_was(tmp_path, monkeypatch):
    """Answers are kept a suite at a time, whatever fails after them; the result is as without."""
    monkeypatch.setattr(evaluate.runs, "ROOT", tmp_path / "once")
    few = params.load("smoke", {"task.validation_problems": 2, "evaluation.samples": 2})
    whole_samples = collect.samples(
        [evaluate.evaluate(few, arms.base(SMOKE), "Base", "validation")]
    )

    monkeypatch.setattr(evaluate.runs, "ROOT", tmp_path / "again")
    monkeypatch.setattr(evaluate, "ROWS", 1)  # small suites would be asked together
    real, judged = evaluate._judged, []

    def third_fails(asked, *rest):
        if len(judged) == 2:
            judged.append("fault")
            raise OSError("disk full")
        judged.append(asked["suite"].iloc[0])
        return real(asked, *rest)

    monkeypatch.setattr(evaluate, "_judged", third_fails)
    with monkeypatch.context() as patch:
        patch.setattr(
            evaluate, "token_entropy", lambda *_: (_ for _ in ()).throw(OSError("no engine"))
        )
        with pytest.raises(OSError, match="no engine"):
            evaluate.evaluate(few, arms.base(SMOKE), "Base", "validation")
    with pytest.raises(OSError, match="disk full"):
        evaluate.evaluate(few, arms.base(SMOKE), "Base", "validation")
    run = evaluate.evaluate(few, arms.base(SMOKE), "Base", "validation")
    suites = list(whole_samples["suite"].unique())
    assert judged == [*suites[:2], "fault", *suites[2:]]
    assert [path.name for path in run.folder.glob("samples*")] == ["samples.parquet"]
    assert collect.samples([run]).equals(whole_samples)
    assert 0 < run.result["cut"] == 1 - whole_samples["ended"].mean() < 1


def test_answers_do_not_depend_on_which_suites_are_asked_together(tmp_path, monkeypatch):
    few = params.change(SMOKE, {"task.validation_problems": 2, "evaluation.samples": 2})
    rows = evaluate._questions(few, "validation")
    found = []
    for at_a_time in (1, 10, 256):  # a suite, two, all six
        monkeypatch.setattr(evaluate, "ROWS", at_a_time)
        folder = tmp_path / str(at_a_time)
        folder.mkdir()
        run = cast(runs.Run, SimpleNamespace(folder=folder))
        found.append(evaluate._sample(run, rows, few, arms.base(few), "transformers"))
        assert [len(asked) for asked in evaluate._together(suites(rows))] == {
            1: [4] * 6,
            10: [8] * 3,
            256: [24],
        }[at_a_time]
    assert found[0].equals(found[1]) and found[0].equals(found[2])
    left = suites(rows)[:2] + suites(rows)[3:]  # the third was answered before
    assert [len(asked) for asked in evaluate._together(left)] == [8, 12]


def suites(rows: pd.DataFrame) -> list[pd.DataFrame]:
    return [asked for _, asked in rows.groupby("suite", sort=False)]


def test_an_evaluation_is_known_by_its_problems_and_policy(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.runs, "ROOT", tmp_path)
    base = arms.base(SMOKE)
    few = params.load("smoke", {"task.validation_problems": 2, "evaluation.samples": 2})
    more = params.load("smoke", {"task.validation_problems": 3, "evaluation.samples": 2})
    run = evaluate.evaluate(few, base, "Base", "validation")
    started = run.record["started"]
    assert evaluate.evaluate(few, base, "Base", "validation").record["started"] == started
    assert evaluate.evaluate(more, base, "Base", "validation").folder != run.folder
    samples = collect.samples([run])
    assert len(samples) == 6 * 2 * 2 and set(samples["suite"]) == set(
        countdown.suites(params.load("smoke").task, "test")
    )
    again = [
        countdown.verify(countdown.parse_prompt(row.prompt), row.answer)
        for row in samples.itertuples()
    ]
    assert again == samples["correct"].tolist()
    # Without words it is another run, with the same verdicts in a fraction of the room.
    short = evaluate.evaluate(few, base, "Base", "validation", words=False)
    assert short.folder != run.folder and short.result["cut"] == run.result["cut"]
    kept = pd.read_parquet(short.folder / "samples.parquet")
    pd.testing.assert_frame_equal(kept, samples[kept.columns])
    assert not set(kept) & set(evaluate.WORDS) and {"tokens", "ended", "correct"} < set(kept)


def test_the_positions_are_what_they_are_called(place):
    found = positions.of(positions.find(SMOKE, arms.shipped(SMOKE)))
    assert list(found) == ["sharp", "middling", "hesitant"]
    probabilities = {}
    for name, position in found.items():
        assert position.logits.shape == (len(position.tokens),)
        assert position.prompt in entropy.entropy_prompts(SMOKE)
        probabilities[name] = np.exp(position.logits - np.logaddexp.reduce(position.logits))
    assert abs(probabilities["sharp"].max() - 0.99) < 0.005
    assert abs(probabilities["middling"].max() - 0.9) < 0.03
    p = probabilities["hesitant"]
    assert -(p * np.log(p)).sum() > 0.5


@pytest.mark.parametrize("tau", [0.5, 1.2, 3.0])
def test_softened_draws_student_and_teacher(tau):
    figure = softened.draw(np.array([3.0, 1.0, 0.0, -1.0]), tau, list("abcd"), shown=3)
    student, teacher = figure.axes[0].containers
    heights = [bar.get_height() for bar in teacher]
    z = np.array([3.0, 1.0, 0.0, -1.0]) / tau
    np.testing.assert_allclose(heights, (np.exp(z) / np.exp(z).sum())[:3], rtol=1e-6)
    assert (heights[0] < student[0].get_height()) == (tau > 1)

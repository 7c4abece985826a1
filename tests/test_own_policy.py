"""A policy and prompts of one's own: measured, scaled, merged and reheated from the command line."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from companion import params, policies, runs
from companion.commands import app, card, entropy, own, reheat, weights
from companion.stages import scaling
from companion.stages.entropy import token_entropy

CHECKPOINTS = params.ROOT / "results" / "checkpoints"
COLLAPSED, BASE = (str(CHECKPOINTS / f"countdown-{name}") for name in ("collapsed", "base"))
EXAMPLE = params.ROOT / "examples" / "own-task"


@pytest.fixture
def prompts(tmp_path):
    """Forty of the example's, with golds."""
    path = tmp_path / "prompts.jsonl"
    rows = (EXAMPLE / "problems.jsonl").read_text().splitlines()
    path.write_text("\n".join(row for row in rows[:60] if '"three' in row))
    return str(path)


def refused(capsys, *words):
    """What the command line says of these words; nothing else has happened."""
    app.sys.argv = ["companion", *map(str, words)]
    with pytest.raises(SystemExit) as error:
        app.main()
    said = capsys.readouterr().err
    assert error.value.code == 2 and said.count("\n") == 1
    return said


# --- The one measure ------------------------------------------------------------------------


def test_entropy_is_the_one_measure_on_these_prompts(prompts, capsys):
    settings = own.profile(COLLAPSED, prompts, max_tokens=64)
    found = entropy.measure(COLLAPSED, prompts, max_tokens=64)
    assert found == token_entropy(CHECKPOINTS / "countdown-collapsed", settings)
    assert 0.03 < found.low < found.value < found.high < 0.12
    entropy.report(COLLAPSED, prompts, None, BASE, max_tokens=64)
    said = capsys.readouterr().out
    assert f"mean token entropy {found:.4f} nats at T = 1 (" in said
    assert "\ncollapsed: below 0.0" in said  # a third of the base's
    entropy.report(BASE, prompts, 0.05, None, max_tokens=64)
    assert capsys.readouterr().out.endswith("\nnot collapsed: not below 0.0500 nats\n")


def test_all_prompts_are_everything_and_limits_are_measured(prompts):
    settings = own.profile(COLLAPSED, prompts, max_tokens=48, changes={"reheat.max_steps": 3})
    rows = len(own.own.read(prompts))
    assert settings.task.train_problems == settings.entropy.prompts == rows
    assert settings.task.max_prompt_tokens == 13  # three numbers and the chat template
    assert settings.rl.max_response_tokens == settings.reheat.max_completion_tokens == 48
    assert settings.reheat.max_steps == 3 and settings.task.held_out == 0
    # Not the example task's few: a policy of one's own is reheated until it is hot enough.
    assert own.profile(COLLAPSED, prompts, max_tokens=48).reheat.max_steps == 60


@pytest.mark.parametrize(
    ("parameters", "frozen", "live"),
    [(802_688, 2e-4, 2e-5), (6e8, 3.3e-6, 1.9e-6), (4e9, 1e-6, 1e-6)],
)
def test_the_learning_rate_follows_the_size(parameters, frozen, live):
    assert own.learning_rate(parameters, "frozen") == frozen
    assert own.learning_rate(parameters, "live") == live


def test_parameters_are_counted_in_the_files():
    model, _ = policies.load_policy(CHECKPOINTS / "countdown-base")
    assert own.parameters(CHECKPOINTS / "countdown-base") == sum(
        p.numel() for p in model.parameters()
    )


# --- Scaled and merged ----------------------------------------------------------------------


def logits(folder):
    model, tokenizer = policies.load_policy(folder, dtype=torch.float64)
    [asked] = policies.encode_prompts(tokenizer, ["3 5 7 -> 36"])
    with torch.inference_mode():
        return model(torch.tensor([asked])).logits


def test_scale_divides_every_logit(tmp_path):
    made = weights.scale(COLLAPSED, 1.3, tmp_path / "scaled")
    torch.testing.assert_close(logits(made), logits(Path(COLLAPSED)) / 1.3, rtol=0, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["scaled"]


def test_merge_takes_a_share_of_the_base(tmp_path):
    (tmp_path / "merged").mkdir()  # empty: it may be written to
    made = weights.merge(COLLAPSED, BASE, 0.4, tmp_path / "merged")
    ours, one, other = (policies.load_policy(Path(p))[0] for p in (made, COLLAPSED, BASE))
    for name, weight in ours.named_parameters():
        expected = 0.6 * one.get_parameter(name) + 0.4 * other.get_parameter(name)
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6)


# --- What cannot be -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"--policy": "nowhere"}, "'nowhere' is no folder here, and no name of a hub's model; give a"),
        ({"--policy": "owner/name"}, "the policy is 'owner/name', which is no folder here and"),
        ({"--prompts": "owner/name"}, "the prompts are 'owner/name', which is no file here and cannot"),
        ({"--prompts": "none.jsonl"}, "cannot be read (No such file or directory); give a file of"),
        ({"--prompts": "{empty}"}, "has no rows; give at least one prompt"),
        ({"--prompts": "{twice}"}, "asks the same in rows 1 and 2; remove one"),
        ({"--prompts": "{columns}"}, "row 1 of '.*columns.jsonl' has the columns question and must"),
        ({"--max-tokens": 250}, "does not fit into the policy's context of 256; lower --max-tokens"),
        ({"--platform": "tpu"}, "--platform is 'tpu' and must be cpu or gpu"),
        ({"--tau": 1}, "tau is 1.*use tau > 1 to reheat"),
        ({"--tau": 0}, "tau is 0.*must be a positive number"),
        ({"--tau": 1.2, "--until": "3x"}, "and a frozen teacher at --tau 1.2 ends at 0.*; raise --tau"),
        ({"--until": "warm"}, "--until is 'warm' and must be nats such as 0.1, or a factor such"),
        ({"--until": 0.001}, "--until is 0.001 nats and the policy has 0.0.* already; give more"),
        ({"--until": "1x"}, "already; give more"),
        ({"--teacher": "live"}, "--teacher live needs --threshold in nats, or --reference with a"),
        ({"--teacher": "dead"}, "--teacher is 'dead' and must be frozen or live"),
        ({"--teacher": "live", "--threshold": 0.01}, "above rl.collapse.entropy (0.01): reheating"),
        ({"--direction": "sideways"}, "direction is 'sideways' and must be 'forward' or 'reverse'"),
        ({"--out": "{full}"}, "--out is '.*', where something is already; name another folder"),
        ({"--policy": "{adapter}"}, "it is an adapter, which is to be merged into its model first"),
        ({"--policy": "{quantized}"}, "its weights are quantized, and it cannot be trained as it is"),
        ({"--policy": "{bare}"}, "its tokenizer has no chat template"),
        ({"--set": "reheat.tua=1.2"}, "'reheat.tua' is no field of a profile; did you mean 'tau'?"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_reheated_is_one_sentence_and_nothing_is_trained(
    tmp_path, prompts, capsys, monkeypatch, changes, sentence
):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.setattr(
        reheat.stage, "launch", lambda *_, **__: pytest.fail("something was trained")
    )
    monkeypatch.setattr(app.sys, "argv", [])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    files = {
        "empty": "",
        "twice": '{"prompt": "a"}\n{"prompt": "a"}',
        "columns": '{"question": "a"}',
    }
    for name, text in files.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    for name in ("adapter", "quantized", "bare", "full"):
        shutil.copytree(COLLAPSED, tmp_path / name)
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    config = tmp_path / "quantized" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {}}))
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    places = {name: tmp_path / f"{name}.jsonl" for name in files}
    places |= {name: tmp_path / name for name in ("adapter", "quantized", "bare", "full")}
    asked = {
        "--policy": COLLAPSED,
        "--prompts": prompts,
        "--out": tmp_path / "out",
        "--max-tokens": 64,
    }
    words = [str(w).format(**places) for pair in (asked | changes).items() for w in pair]
    said = refused(capsys, "reheat", *words)
    assert re.search(re.escape(sentence).replace(r"\.\*", ".*"), said), said
    assert not (tmp_path / "out").exists()


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"this needs swift and mistune, of the extra 'frameworks'"
    ):
        app.needs("swift", "mistune")


# --- From end to end ------------------------------------------------------------------------


def test_a_card_does_without_a_temperature_that_none_gives(monkeypatch):
    """Beyond 4, say: the reheating is done by then, and must not be lost for a column."""

    def refused(*_):
        raise ValueError("entropy is 9.000 nats, which no tau between 1/4 and 4 gives this policy")

    monkeypatch.setattr(scaling, "matching_tau", refused)
    made = SimpleNamespace(result={"token_entropy": 9.0})
    assert card._scaled(params.load("smoke"), Path(COLLAPSED), made) is None


def test_a_policy_is_reheated_and_its_card_says_so(tmp_path, prompts, monkeypatch, capsys):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    few = {
        "reheat.batch_size": 32,
        "reheat.micro_batch_size": 16,
        "reheat.max_steps": 4,
        "analysis.problems": 8,
        "evaluation.samples": 2,
        "evaluation.bootstrap": 50,
    }
    out = reheat.run(COLLAPSED, prompts, tmp_path / "out", until="1.02x", learning_rate=3e-4,
                     max_tokens=48, reward=f"{EXAMPLE / 'grader.py'}:grade", changes=few)  # fmt: skip
    assert "reheat-forward-frozen-tau1.5" in capsys.readouterr().out
    record = json.loads((out / "run.json").read_text())
    assert record["result"]["token_entropy"] > record["result"]["start_entropy"]
    policies.load_policy(out)  # whole, by transformers
    text = (out / "card.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["pipeline_tag"] == "text-generation"
    assert front["base_model"] == "countdown-base"  # as the policy's own card has it
    assert text.count("\n| avg@2 (%) |") == text.count("\n| pass@2 (%) |") == 1
    assert "| before | after | scaled exactly, same entropy |" in text
    assert f"{record['result']['token_entropy']:.4f} nats in" in text and "frozen teacher" in text
    assert text.count("before:\n\n    ") == 3 == text.count("after:\n\n    ")
    page = (out / "card.html").read_text()
    assert "<table>" in page and "<pre><code>" in page and "http" not in page.split("<body>")[0]
    assert not (tmp_path / "out.partial").exists()


def test_an_unscalable_family_is_reheated_without_that_column(monkeypatch):
    monkeypatch.setitem(scaling.LINEAR, "qwen3", ("model.other.weight",))
    assert not scaling.scalable(CHECKPOINTS / "countdown-base")
    reheat.reachable(params.load("own"), CHECKPOINTS / "countdown-base", 9.9)  # cannot be known

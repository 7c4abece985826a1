"""The laptop task: its verifier, its text in and out of the tokenizer, its splits."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.policies import check_policy
from companion.tasks import base, countdown
from companion.tasks.countdown import Problem, prompt, verify

SUITES = (*countdown.SUITES, countdown.OOD)
TOKENIZER = countdown.tokenizer()
PROBLEM = Problem((3, 5, 7), 36)
SOLVED = "5 + 7 = 12 : 3 12 \n 12 * 3 = 36 yes"

counts = st.sampled_from([3, 4])
seeds = st.integers(0, 2**32)


@pytest.mark.parametrize(
    "answer",
    [
        SOLVED,
        "5 + 7 = 12 : 12 3\n3 * 12 = 36 yes",
        f"3 + 5 = 8 : 7 8 \n 8 - 7 = 1 no \n {SOLVED}",
        f"3 + 5 = 9 : 8 no \n {SOLVED}",
        f"5 + 7 = 12 : 3 12 \n 12 * 3 = 36 no \n {SOLVED}",
        f"3 + 5 = 8 : 7 8 \n 8 - 7 = 1 yes \n {SOLVED}",
    ],
    ids=[
        "one attempt",
        "stated in another order",
        "retracted attempt before",
        "wrong arithmetic retracted",
        "right one retracted first",
        "wrongly closed before",
    ],
)
def test_accepts(answer: str) -> None:
    assert verify(PROBLEM, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "yes",
        "36 yes",
        "5 + 7 = 12 : 3 12 \n 12 * 3 = 36 no",
        "5 + 7 = 12 : 3 12 \n 12 * 3 = 36",
        "5 + 7 = 12 : 3 12",
        "5 + 7 = 12 : 3 12 \n 12 * 3 = 37 yes",
        "5 + 7 = 12 : 3 11 \n 12 * 3 = 36 yes",
        "5 + 7 = 12 : 12 \n 12 * 3 = 36 yes",
        "12 * 3 = 36 yes",
        "5 + 7 = 12 : 3 12 yes \n 12 * 3 = 36 yes",
        "6 * 6 = 36 : 36 \n 36 yes",
        "5 * 7 = 35 : 3 35 \n 35 + 1 = 36 yes",
        "5 * 7 = 35 : 3 35 \n 35 + 3 = 38 yes",
        "5 * 7 = 35 : 3 35 \n 35 + 3 = 36 yes",
        "5 + 7 = 12 : 3 12 \n 12 ** 3 = 36 yes",
        "5 +- 7 = 12 : 3 12 \n 12 * 3 = 36 yes",
        f"{SOLVED} \n 3 + 5 = 8",
        f"{SOLVED} \n",
        "5 + 7 = ١٢ : 3 12 \n 12 * 3 = 36 yes",
        "5 + 7 = +12 : 3 12 \n 12 * 3 = 36 yes",
        "5 + 7 = 12 : 3 12 \n no \n 12 * 3 = 36 yes",
    ],
)
def test_rejects(answer: str) -> None:
    assert not verify(PROBLEM, answer)


@pytest.mark.parametrize(
    ("left", "operator", "right", "result"),
    [
        (3, "-", 5, None),
        (7, "/", 2, None),
        (7, "/", 0, None),
        (6, "/", 3, 2),
        (0, "/", 3, 0),
        (50, "*", 2, 100),
        (50, "+", 51, None),
        (4, "-", 4, 0),
    ],
)
def test_apply(left: int, operator: str, right: int, result: int | None) -> None:
    assert countdown.apply(left, operator, right) == result


@given(counts, seeds)
def test_a_random_attempt_verifies_if_and_only_if_it_ends_on_the_target(count, seed) -> None:
    rng = random.Random(seed)
    problem, solution = countdown.random_problem(count, rng)
    attempt = countdown.random_attempt(problem.numbers, rng)
    assert verify(problem, " \n ".join(solution) + " yes")
    reaches = countdown.reached(attempt) == problem.target
    assert verify(problem, " \n ".join(attempt) + " yes") == reaches
    assert not verify(problem, " \n ".join(attempt) + " no")


@given(counts, seeds, st.data())
def test_a_solution_with_one_changed_number_fails(count, seed, data) -> None:
    problem, solution = countdown.random_problem(count, random.Random(seed))
    words = (" \n ".join(solution) + " yes").split(" ")
    place = data.draw(st.sampled_from([i for i, word in enumerate(words) if word.isdigit()]))
    other = data.draw(st.integers(0, countdown.LARGEST).filter(lambda n: n != int(words[place])))
    words[place] = str(other)
    assert not verify(problem, " ".join(words))


@given(counts, seeds, st.data())
def test_a_solution_with_one_word_less_fails(count, seed, data) -> None:
    problem, solution = countdown.random_problem(count, random.Random(seed))
    words = (" \n ".join(solution) + " yes").split(" ")
    del words[data.draw(st.integers(0, len(words) - 1))]
    assert not verify(problem, " ".join(words))


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    assert not verify(PROBLEM, text)


@given(counts, seeds, st.sampled_from(base.PHASES))
def test_searches_survive_the_tokenizer(count, seed, phase) -> None:
    rng = random.Random(seed)
    problem, solution = countdown.random_problem(count, rng)
    search = base.search(problem, solution, phase, rng)
    tokens = TOKENIZER(search)["input_ids"]
    assert len(tokens) == len(search.split(" "))
    assert TOKENIZER.pad_token_id not in tokens  # what an unknown word would become
    end = [TOKENIZER.eos_token_id, TOKENIZER.pad_token_id]
    assert TOKENIZER.decode(tokens + end, skip_special_tokens=True) == search
    assert verify(problem, search) == search.endswith(" yes")
    assert search.endswith(" yes") or len(tokens) > base.ANSWER_TOKENS  # never given up


def test_chat_template_is_qwens() -> None:
    chat = [{"role": "user", "content": prompt(PROBLEM)}]
    text = TOKENIZER.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    expected = "<|im_start|>user\n3 5 7 -> 36<|im_end|>\n<|im_start|>assistant\n"
    assert text == expected
    tokens = TOKENIZER.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert TOKENIZER.convert_ids_to_tokens(tokens) == [
        "<|im_start|>",
        "user",
        "\n",
        "3",
        "5",
        "7",
        "->",
        "36",
        "<|im_end|>",
        "\n",
        "<|im_start|>",
        "assistant",
        "\n",
    ]
    assert len({TOKENIZER.eos_token_id, TOKENIZER.pad_token_id}) == 2


@given(counts, seeds)
def test_prompts_are_read_back(count, seed) -> None:
    problem, _ = countdown.random_problem(count, random.Random(seed))
    assert countdown.parse_prompt(prompt(problem)) == problem


@pytest.mark.parametrize("text", ["", "3 5 7", "3 5 7 ->", " -> 36", "3 x -> 36", "3 5 -> 3.6"])
def test_other_prompts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must read like"):
        countdown.parse_prompt(text)


def test_splits_are_disjoint_whatever_the_order_of_the_numbers() -> None:
    keys = {
        split: {p.key for suite in SUITES for p in countdown.problems(split, suite, 100)}
        for split in countdown.SPLITS
    }
    assert all(len(found) == 100 * len(SUITES) for found in keys.values())
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["validation"]
    assert not keys["validation"] & keys["test"]
    assert Problem((7, 3, 5), 36).key == PROBLEM.key


@pytest.mark.parametrize("suite", SUITES)
def test_problems_are_fixed_and_in_their_suite(suite: str) -> None:
    few, many = countdown.problems("test", suite, 20), countdown.problems("test", suite, 60)
    assert many[:20] == few
    assert {len(p.numbers) for p in many} == {4 if suite == countdown.OOD else 3}
    assert suite == countdown.OOD or all(countdown.suite_of(p) == suite for p in many)


def test_chance_is_the_share_of_random_attempts_that_hit() -> None:
    # 1 1 1 -> 3: of 1+1, 1-1, 1*1, 1/1 only 1+1 helps; it leaves 2 and 1, and of 2+1, 2-1, 2*1,
    # 2/1 one reaches 3.
    assert countdown.chance(Problem((1, 1, 1), 3)) == pytest.approx(1 / 4 * 1 / 4)
    rng = random.Random(0)
    hits = [countdown.reached(countdown.random_attempt((3, 5, 7), rng)) == 36 for _ in range(20000)]
    assert countdown.chance(PROBLEM) == pytest.approx(sum(hits) / len(hits), abs=0.005)


def test_base_rows_come_from_the_train_split() -> None:
    rng = random.Random(0)
    for _ in range(100):
        tokens, answer = base.example(TOKENIZER, base.PHASES[-1], rng)
        content = TOKENIZER.decode(tokens[3:-5])
        assert countdown.split_of(countdown.parse_prompt(content)) == "train"
        assert len(answer) <= base.ANSWER_TOKENS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dev", "middle", 1), "split is 'dev'"),
        (("test", "six", 1), "suite is 'six'"),
        (("validation", "very hard", 300), "count is 300"),
    ],
)
def test_bad_requests_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        countdown.problems(*arguments)


def test_base_is_made_with_its_provenance(tmp_path, monkeypatch) -> None:
    tiny = (base.Phase(2, 0.8), base.Phase(1, 0.1))
    monkeypatch.setattr(base, "PHASES", tiny)
    monkeypatch.setattr(base, "BATCH", 16)
    monkeypatch.setattr(base, "MICRO_BATCH", 8)
    base.make(tmp_path, seed=3)
    made = json.loads((tmp_path / "run.json").read_text())
    assert made["command"][-1] == "3" and len(made["phases"]) == 2 and "torch" in made["versions"]
    assert check_policy(tmp_path) == tmp_path

"""Near-duplicates are found in disguise, and nothing else is."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.tasks import Question, benchmarks, questions
from companion.tasks.contamination import LENGTH, near_duplicates, ngrams

SPACES = [" ", "  ", "\n", r"\, ", r"\quad ", "$ ", r" \left. ", r" {} ", "~"]
words = st.lists(st.text("abcdefghij0123456789", min_size=1, max_size=8), min_size=8, max_size=60)
other_words = st.lists(st.text("klmnopqrstuvwxyz", min_size=1, max_size=8), min_size=5)


def problems(*texts: str, benchmark: str = "AIME24", wrap: bool = True) -> list[Question]:
    form = questions.prompt if wrap else str
    return [Question(benchmark, str(i), form(text), "0") for i, text in enumerate(texts)]


def disguised(text: str, rng: random.Random) -> str:
    """The words of `text` in other letter case and with other spacing."""
    changed = [rng.choice([str.upper, str.lower, str.title])(word) for word in text.split()]
    return "".join(word + rng.choice(SPACES) for word in changed)


@given(words, st.lists(other_words, max_size=3), st.integers(0, 2**32), st.booleans())
def test_a_problem_in_disguise_is_found_and_no_other(found, others, seed, wrap) -> None:
    rng = random.Random(seed)
    text = " ".join(found)
    twin = f"Given: {disguised(text, rng)} State it as m/n."
    training = problems(*(" ".join(o) for o in others), twin, wrap=wrap)
    pairs = near_duplicates(training, problems(text))
    assert pairs.to_dict("records") == [
        {"suite": "AIME24", "key": "0", "training_key": str(len(others)), "similarity": 1.0}
    ]


@given(st.lists(words, min_size=1, max_size=4), st.lists(words, min_size=1, max_size=4))
def test_similarity_is_the_share_of_ngrams(ours, theirs) -> None:
    wanted, training = (problems(*(" ".join(w) for w in side)) for side in (ours, theirs))
    pairs = near_duplicates(training, wanted, threshold=1e-9)
    got = {(row.key, row.training_key): row.similarity for row in pairs.itertuples()}
    expected = {
        (a.key, b.key): len(ngrams(a.prompt) & ngrams(b.prompt)) / len(ngrams(a.prompt))
        for a in wanted
        for b in training
    }
    assert got == {pair: share for pair, share in expected.items() if share > 0}
    assert list(pairs.similarity) == sorted(pairs.similarity, reverse=True)


def test_ngrams_by_hand() -> None:
    assert LENGTH == 8
    assert ngrams(questions.prompt(r"Find $\dfrac{1}{2}\, ab$.")) == {
        "findfrac",
        "indfrac1",
        "ndfrac12",
        "dfrac12a",
        "frac12ab",
    }
    assert ngrams("1 + 1?") == {"11"}
    assert ngrams(r"$\left(x\right)\rightarrow\bigl[y\bigr]$") == {
        "xrightar",
        "rightarr",
        "ightarro",
        "ghtarrow",
        "htarrowy",
    }
    assert ngrams("求所有正整数 $n$") == {"求所有正整数n"}


def test_a_changed_number_is_near_and_the_threshold_decides() -> None:
    text = "How many positive integers less than {} are multiples of neither 3 nor 7?"
    training = problems(text.format(1000), "Compute the area of a circle of radius 9.")
    wanted = problems(text.format(1002), benchmark="MATH-500")
    pairs = near_duplicates(training, wanted)
    assert list(pairs.training_key) == ["0"] and list(pairs.suite) == ["MATH-500"]
    assert 0.8 < pairs.similarity[0] < 1
    assert near_duplicates(training, wanted, threshold=1).empty


def test_nothing_to_compare() -> None:
    some = problems("What is 1 + 1, and why is it so?")
    for training, wanted in (([], some), (some, []), ([], [])):
        pairs = near_duplicates(training, wanted)
        assert pairs.empty
        assert list(pairs.columns) == ["suite", "key", "training_key", "similarity"]


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1, float("nan")])
def test_impossible_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold is .* must be above 0 and at most 1"):
        near_duplicates([], [], threshold)


def test_the_papers_scale_takes_seconds() -> None:
    rng = random.Random(0)
    vocabulary = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 9))) for _ in range(500)]
    texts = [" ".join(rng.choices(vocabulary, k=40)) for _ in range(17_200)]
    training, wanted = problems(*texts), problems(*texts[:1200:2], *texts[-200:])
    started = time.process_time()
    pairs = near_duplicates(training, wanted)
    assert time.process_time() - started < 60
    assert list(pairs.similarity) == [1.0] * 800
    assert set(pairs.training_key) == {
        *map(str, range(0, 1200, 2)),
        *map(str, range(17_000, 17_200)),
    }


def test_real_problems_are_told_apart_and_found_in_disguise(tmp_path, real) -> None:
    problems = [
        problem
        for name in ("MATH-500", "AIME24", "AIME25", "OlymMATH")
        for problem in benchmarks.load(name, real, tmp_path)[0]
    ]
    rng = random.Random(0)
    training = [
        Question("train", p.key, disguised(questions.question(p.prompt), rng), p.gold)
        for p in problems
    ]
    pairs = near_duplicates(training, problems)
    same = pairs[pairs.key == pairs.training_key]
    assert len(same) == 760 and (same.similarity == 1).all()
    # Six words: most of so short a text is phrasing that others share.
    others = pairs[pairs.key != pairs.training_key]
    assert set(others.key) == {"test/number_theory/686.json"} and len(others) == 2

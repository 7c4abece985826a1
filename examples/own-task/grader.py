"""A grader of one's own: a function of an answer's text and the row's gold that says True or False."""

import re
from collections import Counter

RESULT = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__truediv__}


def grade(answer: str, gold: str) -> bool:
    """Whether the last attempt makes the target of every given number, each taken once.

    The gold is the question, such as "3 5 7 -> 36": many answers are right.
    """
    numbers, target = gold.split("->")
    left = Counter(map(int, numbers.split()))
    attempt = re.split(r"\bno\b", answer)[-1]
    for a, sign, b, result in re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", attempt):
        used = Counter([int(a), int(b)])
        if (
            not used <= left
            or (sign, int(b)) == ("/", 0)
            or RESULT[sign](int(a), int(b)) != int(result)
        ):
            return False
        left = left - used + Counter([int(result)])
    return left == Counter([int(target)]) and attempt.split()[-1:] == ["yes"]

r"""Multiple choice: the letter is the answer, whatever stands beside it: B, (B) 12 cm, option B."""

import re

from companion.tasks.grading.notation import plain

_ALONE = re.compile(r"[(\[]?([A-J])[)\]]?")
_CHOICE = re.compile(
    r"(?:(?i:(?:the\s+)?(?:correct\s+)?(?:options?|choices?|answers?)(?:\s+is\b)?)\s*:?\s*)?"
    r"(?:[(\[]([A-Ja-j])[)\]]|([A-J])(?:\s*[).:]|(?=\s*(?:$|,|\())|\s+-(?=\s)))\s*(.*)"
)
_ANOTHER = re.compile(r"[,;/&]\s*(?:option\s+|choice\s+)?\(?[A-J]\b|\([A-J]\)")


def same_choice(gold: str, answer: str) -> bool | None:
    """Whether `answer` names the letter that `gold` is; None if `gold` is no lone letter."""
    letter = _ALONE.fullmatch(_bare(gold))
    if letter is None:
        return None
    chosen = _CHOICE.fullmatch(_bare(answer))
    if chosen is None or _ANOTHER.match(chosen[3]):
        return _bare(answer).casefold() == letter[1].casefold()
    return (chosen[1] or chosen[2]).upper() == letter[1]


def _bare(text: str) -> str:
    return re.sub(r"[{}]", "", plain(text)).strip()

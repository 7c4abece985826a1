r"""Multiple choice: the letter is the answer, whatever stands beside it: B, (B) 12 cm, option B."""

import re

from companion.tasks.grading.notation import plain

_ALONE = re.compile(r"[(\[]?([A-J])[)\]]?")
_LED = r"(?i:(?:the|it|is|i|we|choose|pick|correct|options?|choices?|answers?|letter)\b[\s:]*)*"
_CHOICE = re.compile(
    _LED + r"(?:[(\[]([A-Ja-j])[)\]]|([A-Ja-j])\s*\)"
    r"|([A-J])(?:\s*[.:]|(?=\s*(?:$|[,(]|\s[0-9\\]))|\s+-(?=\s)))\s*(.*)"
)
_ANOTHER = re.compile(r"[,;/&]\s*(?:option\s+|choice\s+)?\(?[A-J]\b|\([A-J]\)")


def same_choice(gold: str, answer: str) -> bool | None:
    """Whether `answer` names the letter that `gold` is; None if `gold` is no lone letter."""
    letter = _ALONE.fullmatch(_bare(gold))
    if letter is None:
        return None
    answer = _bare(answer)
    if (chosen := _CHOICE.fullmatch(answer)) and not _ANOTHER.match(chosen[4]):
        return (chosen[1] or chosen[2] or chosen[3]).upper() == letter[1]
    return answer.upper() == letter[1] and len(gold) > 1  # E is not e


def _bare(text: str) -> str:
    return re.sub(r"[{}]", "", plain(text)).strip()

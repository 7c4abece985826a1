"""Which part of a model's text is its answer."""

import re

LENGTH = 1000
"""Longer answers are none, in characters (the longest gold of MATH-500 has 53)."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(\{|[^\s{}$]*)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_NO_VERDICT = r"(?!\s*(?:in|not\s+)?(?:correct|right|wrong)\b)"
_LINE = re.compile(
    rf"^(?:[^\w\n]|_)*(?:final |correct )?answers?[*_` ]*(?:[:：]|(?:is|are)\b:?{_NO_VERDICT}|$)",
    re.IGNORECASE | re.MULTILINE,
)
_PROSE = re.compile(rf"answers?[*_]*\s*(?::|\b(?:is|are)\b:?){_NO_VERDICT}", re.IGNORECASE)
_FORMULA = re.compile(r"(?<!\\)\$+(.+?)(?<!\\)\$+|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_WORDS = r"(?:\\text\w*\s*\{\s*)?"
_CONDITION = r"(?!(?:if|when|for|unless|except|or|and|not|mod|base)\b)"
_REMARK = re.compile(
    rf"""[\s,;:]*[(\[]?{_WORDS}[(\[]?\b(?:because|since)\b
    | (?:\s*[,;]\s*|(?<=[0-9$)\]}}])\s+){_WORDS}
      (?:as|so|where|which|hence|thus|therefore|namely|i\.e\.|that\s+is)\s
    | (?<=[0-9)\]}}])\$?\s+is\s(?!not\b|.*[0-9$\\])
    | \s+[(\[]{_WORDS}{_CONDITION}(?:[A-Za-z]{{2,}}\s+[A-Za-z]|an?\s+[A-Za-z]{{2,}})
    | (?<=[0-9$)\]}}])\s+[(\[]{_WORDS}{_CONDITION}[A-Za-z]{{3,}}[)\]}}]
    | (?:\s+(?:--+|–|—)|(?:(?<=[0-9$)\]}}])|(?<![A-Za-z][A-J])(?<=[A-J]))\s+-)\s+
      {_WORDS}{_CONDITION}[A-Za-z]{{2,}}\s+[A-Za-z]{{2,}}\b""",
    re.IGNORECASE | re.VERBOSE,
)
_CHOICE = re.compile(r"\(?[A-J][).:]|(?:option|choice)\b", re.IGNORECASE)
_SAYS = re.compile(r"^.*[A-Za-z$]\s+(?:is|are|equals?)\s+(?=.*[0-9$\\])")


def extract(answer: str) -> str | None:
    r"""The last \boxed{...} or line "Answer: ...", else what "the answer is", else a single line.

    The later of the two counts; without either, prose does, and a text of one line as it stands.
    None where there is no answer, or a longer one than LENGTH.
    """
    box = max(answer.rfind(r"\boxed"), answer.rfind(r"\fbox"))
    line = max((match.end() for match in _LINE.finditer(answer)), default=-1)
    if box >= line and box >= 0:
        stated = _boxed(answer[box : box + LENGTH + 20])
    elif line >= 0 or (marks := list(_PROSE.finditer(answer))):
        stated = _sentence(answer[line if line >= 0 else marks[-1].end() :][: 2 * LENGTH])
    else:
        stated = "" if "\n" in answer.strip() else answer.strip()
    return stated if 0 < len(stated) <= LENGTH else None


def readings(stated: str) -> list[str]:
    """A stated answer as it is and, if it is shorter, without what is said around it.

    7 for "7, because 6 is even" and "7 (as we saw)", 34 for "The largest n is 34.".
    """
    remark = _REMARK.search(stated, 1)
    short = _SAYS.sub("", stated[: remark.start()] if remark else stated).strip()
    return list(dict.fromkeys([stated, short]))


def _boxed(text: str) -> str:
    r"""The content of the \boxed{...} that begins `text`; "" where it is not closed."""
    start = _BOX.match(text)
    if start is None or start[1] != "{":
        return start[1] if start else ""
    depth = 1
    for brace in _BRACE.finditer(text, start.end()):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start.end() : brace.start()].strip()
    return ""


def _sentence(text: str) -> str:
    """What follows "Answer:": the first sentence of the first line that says something.

    The formula alone where it is the only one and all numbers stand in it, unless it belongs to a
    choice or a remark.
    """
    line = next((line for line in text.splitlines() if re.search(r"[\w{]", line)), "")
    line = line[max((mark.end() for mark in _PROSE.finditer(line)), default=0) :]
    line = re.split(r"\.\s+(?=[A-Z])", line.lstrip(" *_"))[0].strip()
    formulas = list(_FORMULA.finditer(line))
    numbered = re.search(r"[0-9]", _FORMULA.sub("", line))
    if len(formulas) == 1 and not (numbered or _CHOICE.match(line) or _REMARK.search(line, 1)):
        return str(next(filter(None, formulas[0].groups()))).strip()
    return line

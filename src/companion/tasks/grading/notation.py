r"""One notation for what LaTeX, plain text and unicode write in many ways, and back to LaTeX.

Relations, operators, set braces and the dollar of money become one character each, so that the
rules can look for them: the keys of _SIGNS, ° and ＄. Wrappers that only change the looks go.
"""

import re
from collections.abc import Callable

from companion.tasks.grading.brackets import end, peel
from companion.tasks.grading.characters import spelled_out
from companion.tasks.grading.words import multiplied_out

_SIGNS = {
    "≤": "le leq leqslant leqq",
    "≥": "ge geq geqslant geqq",
    "≠": "ne neq",
    "≈": "approx simeq",
    "∈": "in",
    "∪": "cup",
    "±": "pm",
    "∓": "mp",
    "∞": "infty",
    "∅": "emptyset varnothing",
    "⦃": "{ lbrace",
    "⦄": "} rbrace",
}
_COMMANDS = {" ": " "} | {
    command: replacement
    for replacement, commands in {
        **_SIGNS,
        "<": "lt",
        ">": "gt",
        "(": "langle lparen",
        ")": "rangle rparen",
        "[": "lbrack",
        "]": "rbrack",
        "|": "vert lvert rvert mid",
        ":": "colon",
        "%": "%",
        "＄": "$",
        "°": "degree degrees textdegree",
        r"\frac": "dfrac tfrac cfrac",
        r"\binom": "dbinom tbinom",
        r"\setminus": "smallsetminus backslash",
        " ": ", ; : > quad qquad thinspace medspace thickspace",
        "": "( ) [ ] ! boxed fbox displaystyle textstyle scriptstyle limits left right middle"
        " big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bf rm it sf tt"
        " mathbf mathit mathsf mathtt mathnormal bm boldsymbol pmb underline ensuremath",
    }.items()
    for command in commands.split()
}
_INVISIBLE = re.compile(
    r"\\(?:(?:text)?color(?:box)?|[hv]?phantom|[hv]space\*?|label|tag\*?)"
    r"\s*(?:\[[^\[\]]*\])?\s*\{[^{}]*\}"
)
_FUNCTIONS = "sqrt|pi|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|log|ln|exp"
_NAMED_OPERATORS = re.compile(
    rf"{_FUNCTIONS}|(?:ar|arc)?(?:sinh|cosh|tanh)|gcd|lcm|max|det|floor|ceil"
)
_Replacement = str | Callable[[re.Match[str]], str]
_REWRITES: list[tuple[re.Pattern[str], _Replacement]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:text[a-z]*|[mh]box|mathrm|emph|operatorname\*?)\s*(?=\{)", r"\\text"),
        (r"(\\[A-Za-z]+)\s+(?=\{)", r"\1"),
        (r"^\\text\{([^{}]*[0-9][^{}]*)\}$", r"\1"),
        (r"\s*(?:\\text\{\s*)?\(?base\s*\}?\s*([0-9]+)\s*\)?\}?$", r"_\1"),
        (r"\\text\{([\s,]*(?:and|or)\s*)\}", r"\1"),
        (r"[\s,]*(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])\s*", ", "),
        (r"\{[0-9]{1,3}(?:,[0-9]{3})+\}", lambda match: match[0].replace(",", "")),
        (r"(?<=[0-9])\s*[xX]\s*(?=10\s*\^)", r"\\times "),
        (r"<=", "≤"),
        (r">=", "≥"),
        (r"!=", "≠"),
        (r"[:=]=", "="),
        (r"\+-|\+/-", "±"),
        (r"(?<=[\w)}])\s*\*\*\s*(?=[\w({\\+-])", "^"),
        (r"\*\*", ""),  # markdown
        (r"\^\s*\{?\s*(?:\\circ(?![A-Za-z])|°)\s*\}?", "°"),
        (
            r"\\text\{\s*(?:percent(?:age)?|pct)\s*\}"
            r"|(?<=[0-9}\s])(?:percent(?:age)?|pct)(?![A-Za-z])",
            "%",
        ),
        (r"\^\s*\{?\s*\\text\{\s*(?:st|nd|rd|th)\s*\}\s*\}?", ""),
        (r"(?<![\\A-Za-z])(?:infinity|infty|inf|oo)(?![A-Za-z])", "∞"),
        (r"\(\s*-\s*∞\s*,\s*\+?\s*∞\s*\)", r"\\mathbb{R}"),
        (r"⦃\s*⦄", "∅"),
        (rf"(?<![\\A-Za-z])(?=(?:{_FUNCTIONS})(?![A-Za-z]))", r"\\"),
    )
]
_ONE_TOKEN = re.compile(r"(?<![A-Za-z}\]^_])\{\s*(\\?[A-Za-z]+|[0-9.]+)\s*\}")


def clean(text: str) -> str:
    """`text` in one notation, spaces collapsed, without dollars, markdown and a final stop."""
    text = spelled_out(text)
    if r"\begin" not in text:
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)  # LaTeX escaped twice
    # 10,\!080 and 10{,}080 and 10\,080 are one number, even inside a tuple
    text = re.sub(r"(?<=[0-9])\s*(?:,\\!|\{,\s*\}|\\[,;: ])\s*(?=[0-9]{3}(?![0-9]))", "", text)
    text = _INVISIBLE.sub("", text)
    text = re.sub(r"\\([A-Za-z]+|.)", lambda match: _COMMANDS.get(match[1], match[0]), text)
    text = re.sub(r"^\s*\$(?=[0-9][0-9,]*(?:\.[0-9]+)?\s*$)", "＄", text)  # a price, not TeX
    text = " ".join(text.replace("~", " ").replace("$", "").split())
    text = text.lstrip(' *`":,;').rstrip(' *`".:,;\\')
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _outward(_infix(_formulas_in_text(multiplied_out(text))))
    return _ONE_TOKEN.sub(r"\1", _signed_powers(_braced(text))).strip(" ,")


def _formulas_in_text(text: str) -> str:
    r"""\text{...} around words only: \operatorname{lcm} is \lcm, \text{x = 5} is {x = 5}."""
    for start in reversed([match.start() for match in re.finditer(r"\\text\{", text)]):
        stop = end(text, start + 5)
        inside = text[start + 6 : stop - 1]
        if _NAMED_OPERATORS.fullmatch(inside.strip()):
            text = f"{text[:start]}\\{inside.strip()} {text[stop:].lstrip()}"
        elif re.search(r"[\\=]|(?<![\^{])[0-9]", inside):
            text = f"{text[:start]}{{{inside}}}{text[stop:]}"
    return text


_INFIX = re.compile(r"\\(over|choose)(?![A-Za-z])")


def _infix(text: str) -> str:
    r"""{10 \choose 3} as \binom{10}{3}, {1 \over 2} as \frac{1}{2}."""
    while match := _INFIX.search(text):
        start = _enclosing(text, match.start())
        stop = len(text) if start < 0 else end(text, start) - 1
        above, below = text[start + 1 : match.start()].strip(), text[match.end() : stop].strip()
        command = r"\binom" if match[1] == "choose" else r"\frac"
        text = f"{text[: max(start, 0)]}{command}{{{above}}}{{{below}}}{text[stop + 1 :]}"
    return text


def _enclosing(text: str, position: int) -> int:
    """The index of the brace that is open at `position`; -1 without one."""
    depth = 0
    for i in range(position - 1, -1, -1):
        depth += (text[i] == "}") - (text[i] == "{")
        if depth < 0:
            return i
    return -1


_INTERVAL = re.compile(r"(\[|(?<![^\s∪∈=,;(⦃])\])([^\[\]]*[,;][^\[\]]*)(\]|\[(?![^\s∪,;)⦄]))")


def _outward(text: str) -> str:
    """]0, 1[ as (0, 1): brackets that open outwards leave the end of an interval out."""
    if "]" not in text and text.count("[") < 2:
        return text
    return _INTERVAL.sub(
        lambda match: match[1].replace("]", "(") + match[2] + match[3].replace("[", ")"), text
    )


_OPERATOR = re.compile(r"(\\frac|\\binom|\\sqrt|\^(?=\s*\())(?![A-Za-z])\s*(\[[^\[\]]*\])?")
_ARGUMENT = re.compile(r"\s*(\\[A-Za-z]+|[0-9A-Za-z({])")
_RADICAND = re.compile(r"\s*(-?[0-9]+|\\[A-Za-z]+|[A-Za-z({])")


def _braced(text: str) -> str:
    r"""\frac12, \sqrt 10, sqrt(2) and 2^(n+1) with the braces that are left out there."""
    for operator in reversed(list(_OPERATOR.finditer(text))):  # the inner ones first
        head, position = operator[1] + (operator[2] or ""), operator.end()
        pattern = _RADICAND if operator[1] == r"\sqrt" else _ARGUMENT
        for _ in range(1 if operator[1] in (r"\sqrt", "^") else 2):
            if argument := pattern.match(text, position):
                start, stop = argument.span(1)
                if argument[1] in "({":
                    stop = end(text, start)
                brackets, inside = peel(text[start:stop])
                if brackets in ("()", "{}") or argument[1] not in "({":  # and not unclosed
                    head, position = head + "{" + inside + "}", stop
        text = text[: operator.start()] + head + text[position:]
    return text


_SIGNED = re.compile(r"\^\s*([+-]\s*(?:[0-9.]+|[A-Za-z]|(\\[A-Za-z]+)?))")


def _signed_powers(text: str) -> str:
    """2^-1 as 2^{-1}."""
    for power in reversed(list(_SIGNED.finditer(text))):
        start, stop = power.span(1)
        while (power[2] or stop == start + 1) and text[stop : stop + 1] in ("(", "{"):
            stop = end(text, stop)
        text = f"{text[: power.start()]}^{{{text[start:stop]}}}{text[stop:]}"
    return text


def key(text: str) -> str:
    """`text` without the spaces that separate no digits."""
    return re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", text)


def plain(text: str) -> str:
    r"""`text` with what stands in \text{...} only."""
    return re.sub(r"\\text\{([^{}]*)\}", r"\1", text)


_BACK = str.maketrans({sign: rf"\{names.split()[0]} " for sign, names in _SIGNS.items()})


def latex(text: str) -> str:
    r"""Clean `text` for math-verify: degrees as radians, products of names made explicit.

    latex2sympy would read x(x+1) as a function x, and n(n+1)/2 as a function n.
    """
    text = plain(text.removesuffix("%"))
    text = re.sub(r"([0-9.]+)\s*°", r"(\1\\cdot\\frac{\\pi}{180})", text)
    text = text.replace("°", r"\cdot\frac{\pi}{180}")
    text = re.sub(r"(?<![A-Za-z\\])([a-eh-zA-Z]|\\(?:pi|alpha|theta))\s*(?=\()", r"\1\\cdot ", text)
    return text.translate(_BACK)

r"""One notation for what LaTeX, plain text and unicode write in many ways, and back to LaTeX.

Relations, operators and set braces become one character each, so that the rules can look for
them: the keys of _SIGNS and °.
"""

import re

from companion.tasks.grading.brackets import end, peel

_SIGNS = {
    "≤": "le leq leqslant",
    "≥": "ge geq geqslant",
    "≠": "ne neq",
    "≈": "approx",
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
        "(": "langle",
        ")": "rangle",
        "[": "lbrack",
        "]": "rbrack",
        "%": "%",
        "°": "degree degrees",
        r"\frac": "dfrac tfrac cfrac",
        " ": ", ; : > quad qquad thinspace medspace thickspace",
        "": "( ) [ ] $ ! boxed fbox displaystyle textstyle scriptstyle limits left right"
        " big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr",
    }.items()
    for command in commands.split()
}
_UNICODE = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": r"\times ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "÷": "/",
        "⁄": "/",
        "π": r"\pi ",
        "θ": r"\theta ",
        "√": r"\sqrt ",
        "²": "^2",
        "³": "^3",
        "½": r"\frac12",
        "¼": r"\frac14",
        "¾": r"\frac34",
        "ℝ": r"\mathbb{R}",
        "，": ",",
        "（": "(",
        "）": ")",
        "：": ":",
        "％": "%",
        "⟨": "(",
        "⟩": ")",
        "~": " ",
        "$": "",
        "€": "",
        "£": "",
    }
)
_FUNCTIONS = "sqrt|pi|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|log|ln|exp"
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\\(?:text[a-z]*|[mh]box|math(?:rm|bf|it|sf|tt|normal))\s*(?=\{)", r"\\text"),
        (r"^\\text\{([^{}]*[0-9][^{}]*)\}$", r"\1"),
        (r"\s*(?:\\text\{\s*)?\(?base\s*\}?\s*([0-9]+)\s*\)?\}?$", r"_\1"),
        (r"\\text\{([\s,]*(?:and|or)\s*)\}", r"\1"),
        (r"[\s,]*(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])\s*", ", "),
        (r"\{[0-9]{1,3}(?:,[0-9]{3})+\}", lambda match: match[0].replace(",", "")),
        (r"<=", "≤"),
        (r">=", "≥"),
        (r"!=", "≠"),
        (r"\+-|\+/-", "±"),
        (r"(?<=[\w)}])\s*\*\*\s*(?=[\w({\\+-])", "^"),
        (r"\*\*", ""),  # markdown
        (r"\^\s*\{?\s*(?:\\circ(?![A-Za-z])|°)\s*\}?", "°"),
        (r"\\text\{\s*percent\s*\}|(?<=[0-9}\s])percent(?![A-Za-z])", "%"),
        (r"\^\s*\{?\s*\\text\{\s*(?:st|nd|rd|th)\s*\}\s*\}?", ""),
        (r"(?<![\\A-Za-z])(?:infinity|infty|inf|oo)(?![A-Za-z])", "∞"),
        (r"\(\s*-\s*∞\s*,\s*\+?\s*∞\s*\)", r"\\mathbb{R}"),
        (r"⦃\s*⦄", "∅"),
        (rf"(?<![\\A-Za-z])(?=(?:{_FUNCTIONS})(?![A-Za-z]))", r"\\"),
    ]
]


def clean(text: str) -> str:
    """`text` in one notation, spaces collapsed, without dollars, markdown and a final stop."""
    if r"\begin" not in text:
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)  # LaTeX escaped twice
    # 10,\!080 and 10{,}080 and 10\,080 are one number, even inside a tuple
    text = re.sub(r"(?<=[0-9])\s*(?:,\\!|\{,\}|\\[,;: ])\s*(?=[0-9]{3}(?![0-9]))", "", text)
    text = re.sub(r"\\([A-Za-z]+|.)", lambda match: _COMMANDS.get(match[1], match[0]), text)
    text = " ".join(text.translate(_UNICODE).split())
    text = text.lstrip(' *`":,;').rstrip(' *`".:,;\\')
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return _braced(text).strip(" ,")


_OPERATOR = re.compile(r"(\\frac|\\sqrt|\^(?=\s*\())(?![A-Za-z])\s*(\[[^\[\]]*\])?")
_ARGUMENT = re.compile(r"\s*(\\[A-Za-z]+|[0-9A-Za-z({])")


def _braced(text: str) -> str:
    r"""\frac12, sqrt(2) and 2^(n+1) with the braces that TeX and plain text may leave out."""
    for operator in reversed(list(_OPERATOR.finditer(text))):  # the inner ones first
        head, position = operator[1] + (operator[2] or ""), operator.end()
        for _ in range(2 if operator[1] == r"\frac" else 1):
            if argument := _ARGUMENT.match(text, position):
                start, stop = argument.span(1)
                if argument[1] in "({":
                    stop = end(text, start)
                brackets, inside = peel(text[start:stop])
                if brackets in ("()", "{}") or argument[1] not in "({":  # and not unclosed
                    head, position = head + "{" + inside + "}", stop
        text = text[: operator.start()] + head + text[position:]
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
    text = re.sub(r"([0-9.]+)\s*°", r"(\1\\cdot\\frac{\\pi}{180})", text).replace("°", "")
    text = re.sub(r"(?<![A-Za-z\\])([a-eh-zA-Z]|\\(?:pi|alpha|theta))\s*(?=\()", r"\1\\cdot ", text)
    return text.translate(_BACK)

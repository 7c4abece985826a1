r"""Unicode characters as the LaTeX, or plain character, that says the same: 10⁵ is 10^{5}.

Unicode itself knows most of it: its compatibility forms (NFKC) say that ⅓ is 1 over 3, ⁵ a raised
5 and ５ a 5. The rest is in _TABLE.
"""

import re
import unicodedata

_GREEK = {
    letter: rf"\{unicodedata.name(letter).split()[-1].lower().replace('lamda', 'lambda')} "
    for letter in "αβγδεζηθικλμνξπρστυφχψω"
}
_TABLE = str.maketrans(
    _GREEK
    | dict.fromkeys("‐‑‒–—―−﹣", "-")
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\ufeff", "")
    | {
        "×": r"\times ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "∙": r"\cdot ",
        "∗": "*",
        "÷": "/",
        "⁄": "/",
        "∕": "/",
        "√": r"\sqrt ",
        "∛": r"\sqrt[3] ",
        "∜": r"\sqrt[4] ",
        "∖": r"\setminus ",
        "∣": "|",
        "∶": ":",
        "′": "'",
        "º": "°",
        "⟨": "(",
        "⟩": ")",
        "⩽": "≤",
        "⩾": "≥",
    }
    | {letter: rf"\mathbb{{{unicodedata.normalize('NFKC', letter)}}}" for letter in "ℕℤℚℝℂ"}
)
_RAISED, _LOWERED, _FRACTIONS = (
    "".join(
        character
        for character in map(chr, range(0x80, 0x2190))
        if unicodedata.decomposition(character).startswith(kind) and character != "º"
    )
    for kind in ("<super>", "<sub>", "<fraction>")
)
_FORMS = re.compile(
    f"(?P<raised>[{_RAISED}]+)|(?P<lowered>[{_LOWERED}]+)"
    f"|(?P<fraction>[{_FRACTIONS.replace('⅟', '')}])"
)


def spelled_out(text: str) -> str:
    """`text` with all characters that LaTeX writes as commands written so."""
    if text.isascii():
        return text
    text = _FORMS.sub(_form, text).translate(_TABLE)
    return unicodedata.normalize("NFKC", text).translate(_TABLE)


def _form(match: re.Match[str]) -> str:
    plain = unicodedata.normalize("NFKC", match[0])
    if match["fraction"]:
        return rf"\frac{{{plain.replace('⁄', '}{')}}}"
    return f"{'^' if match['raised'] else '_'}{{{plain}}}"

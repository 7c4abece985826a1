"""Words after a number that say how much it is, and not of what: 5 million, 3 halves, 5 squared."""

import re

_PARTS = {
    2: "half halve",
    3: "third",
    4: "quarter fourth",
    5: "fifth",
    6: "sixth",
    7: "seventh",
    8: "eighth",
    9: "ninth",
    10: "tenth",
    100: "hundredth",
    1000: "thousandth",
}
_FACTORS = {
    "dozen": "12",
    "hundred": "100",
    "thousand": "1000",
    "million": "10^{6}",
    "billion": "10^{9}",
    "trillion": "10^{12}",
    "quadrillion": "10^{15}",
    "lakh": "10^{5}",
    "crore": "10^{7}",
    **{word: rf"\frac{{1}}{{{n}}}" for n, words in _PARTS.items() for word in words.split()},
}
_WORD = rf"({'|'.join(_FACTORS)})s?"
_FACTOR = re.compile(rf"(?<=[0-9}}])\s+{_WORD}(?![A-Za-z])|\\text\{{\s*{_WORD}(?:\s*\}}|(\s))")
_AMOUNT = re.compile(
    r"\b(?:plus|minus|times\s|over|divided|multiplied|choose|mod|modulo|remainder|squared|cubed"
    r"|factorial|root|inverse|negative|repeating|recurring|per ?mille|score|gross|than|least|most"
    r"|approximately|about|roughly|not|zero|one|two|three|four|five|six|seven|eight|nine|ten"
    r"|eleven|twelve|[a-z]+teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty"
    rf"|(?:{'|'.join(_FACTORS)})s?)\b"
)


def multiplied_out(text: str) -> str:
    r"""5 million as 5 \cdot 10^{6}."""
    return _FACTOR.sub(
        lambda match: rf"\cdot {_FACTORS[match[1] or match[2]]}" + (r"\text{" if match[3] else ""),
        text,
    )


def says_how_much(words: str) -> bool:
    """Whether words after a number change what it is, as in 7 minus two."""
    return _AMOUNT.search(words) is not None

"""Units of measurement and money, and whatever else an answer counts: 5 cm, $5, 5 apples."""

import re

from companion.tasks.grading.words import says_how_much

_UNITS = {
    spelling: name
    for name, spellings in {
        "mm": "millimeter millimetre",
        "cm": "centimeter centimetre",
        "m": "meter metre",
        "km": "kilometer kilometre",
        "in": "inch inche",
        "ft": "foot feet",
        "yd": "yard",
        "mi": "mile",
        "g": "gram gramme",
        "kg": "kilogram",
        "lb": "pound",
        "oz": "ounce",
        "ml": "milliliter millilitre",
        "l": "liter litre",
        "gal": "gallon",
        "s": "second sec",
        "min": "minute",
        "h": "hour hr",
        "day": "",
        "week": "",
        "month": "",
        "year": "yr",
        "cent": "¢",
        "dollar": "＄ usd",
        "euro": "€ eur",
        "yen": "¥",
        "°": "degree deg",
        "rad": "radian",
        "am": "",
        "pm": "",
    }.items()
    for spelling in (name, *spellings.split())
}
_POWER = r"\s*(?:\^\s*\{?\s*[23]\s*\}?)?"
_MONEY = "＄€£¥¢"
_MEASURES = [
    re.compile(pattern + _POWER)
    for pattern in (
        r"(.*[^\s_^{(,])\s*\\text\{\s*([^{}]{2,}|[mgslhLNJWVAKCF])\s*\}",
        r"(.*[0-9)}])\s*((?:[mcdk]m|[mk]g|ml|in|ft|lbs?|oz|hrs?|min|sec|mph|[ap]\.?m)(?:(?:/|\s+per\s+)[a-z]+)?)",
        r"(.*[0-9)}])\s+([A-Za-z]{3,}(?:[ /-]+[A-Za-z]+)*)",
        rf"(.*[^\s(])\s*(°[CF]?|[{_MONEY}])",
    )
]
_PRICE = re.compile(rf"([+-]?)\s*([{_MONEY}])\s*(.+)")


def measured(text: str) -> tuple[str, str | None]:
    r"""`text` without its unit, and the unit: (5, cm) for 5 \text{ square cm}; None if unknown."""
    unit = None
    while match := next(filter(None, (each.fullmatch(text) for each in _MEASURES)), None):
        said = match[2].casefold().replace(".", "")
        if says_how_much(said) or (said == "°" and _TRIGONOMETRY.search(text)):
            break
        words = re.findall(rf"[a-z]+|[°{_MONEY}]", said)
        words = [word for word in words if word not in ("square", "sq", "cubic", "cu", "per")]
        first = words[0] if words else ""
        unit = _UNITS.get(first) or _UNITS.get(first.rstrip("s")) or unit
        text = match[1].strip()
    if price := _PRICE.fullmatch(text):
        return price[1] + price[3], _UNITS.get(price[2], unit)
    return text, unit


_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")

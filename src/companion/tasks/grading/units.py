"""Units of measurement after an answer."""

import re

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
        "cent": "",
        "dollar": "",
        "°": "degree deg",
        "rad": "radian",
        "am": "",
        "pm": "",
    }.items()
    for spelling in (name, *spellings.split())
}
_POWER = r"\s*(?:\^\s*\{?\s*[23]\s*\}?)?"
_MEASURES = [
    re.compile(pattern + _POWER)
    for pattern in (
        r"(.*[^\s_^{(,])\s*\\text\{\s*([^{}]{2,}|[mgslhLNJWVAKCF])\s*\}",
        r"(.*[0-9)}])\s*((?:[mcdk]m|[mk]g|ml|in|ft|lbs?|oz|hrs?|min|sec|mph|[ap]\.?m)(?:/[a-z]+)?)",
        r"(.*[0-9)}])\s+([A-Za-z]{3,}(?:[ /-]+[A-Za-z]+)*)",
        r"(.*[^\s(])\s*(°)",
    )
]


def measured(text: str) -> tuple[str, str | None]:
    r"""`text` without its unit, and the unit: (5, cm) for 5 \text{ square cm}; None if unknown."""
    unit = None
    while match := next(filter(None, (each.fullmatch(text) for each in _MEASURES)), None):
        if match[2] == "°" and re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
            break
        words = re.findall("[a-z]+|°", match[2].casefold().replace(".", ""))
        words = [word for word in words if word not in ("square", "sq", "cubic", "cu", "per")]
        first = words[0] if words else ""
        unit = _UNITS.get(first) or _UNITS.get(first.rstrip("s")) or unit
        text = match[1].strip()
    return text, unit

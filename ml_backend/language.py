"""In which language the REST API speaks: English, or Chinese where `Accept-Language` prefers it (RFC 9110, 12.5.4).

Sentences are made, stored and sent between processes in English: the gate's stand in the registry, a job's error in
Redis. So what is put into Chinese is the finished sentence, by the template of chinese.py that it fits. One that fits
none stays as it is.
"""

import re
from functools import cache
from typing import Annotated, Literal

from fastapi import Depends, Header
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from ml_backend.chinese import CHINESE

Language = Literal["en", "zh"]

VALUE = "{}"
NEXT = "; "  # between the parts of a sentence
_ANYTHING, _WITHIN_A_PART = "(.*?)", "((?:(?!; ).)*?)"


def language_of(accept_language: Annotated[str, Header()] = "") -> Language:
    """Return the language that a request's `Accept-Language` prefers, English where it names neither."""
    best = parse_accept_header(accept_language, LanguageAccept).best_match(["en", "zh"], default="en")
    return "zh" if best == "zh" else "en"


AskedLanguage = Annotated[Language, Depends(language_of)]


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Return a pattern for each template, the most telling first: those with the most letters of their own."""
    return [
        (
            re.compile((_ANYTHING if NEXT in english else _WITHIN_A_PART).join(map(re.escape, english.split(VALUE)))),
            chinese,
        )
        for english, chinese in sorted(CHINESE.items(), key=lambda item: -len(item[0].replace(VALUE, "")))
    ]


def said(sentence: str, language: Language) -> str:
    """Return an English sentence in a language; parts that no template fits stay English."""
    return sentence if language == "en" else _chinese(sentence)


def _chinese(sentence: str) -> str:
    whole = _translated(sentence)
    if whole is not None:
        return whole
    *before, last = sentence.split(NEXT)
    parts = [(part, _translated(part)) for part in before]
    said = "".join(part + NEXT if chinese is None else f"{chinese}\uff1b" for part, chinese in parts)
    chinese = _translated(last)
    return said + (last if chinese is None else chinese)


def _translated(text: str) -> str | None:
    """Return a text in Chinese where it fits a template as a whole; None where none fits."""
    if not text:
        return ""
    for pattern, chinese in _patterns():
        if found := pattern.fullmatch(text):
            return chinese.format(*map(_value, found.groups()))
    return None


def _value(value: str) -> str:
    """Return a template's value in Chinese where it is a sentence or a list of them; a name stays as it is."""
    if " " not in value:
        return value
    items = [_translated(item) for item in value.split(", ")]
    return _chinese(value) if None in items else "\uff0c".join(filter(None, items))

"""In which language the REST API speaks: English, or Chinese where `Accept-Language` prefers it (RFC 9110, 12.5.4).

Sentences are made, stored and sent between processes in English: the gate's stand in the registry, a job's error in
Redis. So what is put into Chinese is the finished sentence, by the template of chinese.py that it fits. One that fits
none stays as it is.
"""

from functools import cache
from typing import Annotated, Literal

from fastapi import Depends, Header
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from ml_backend.chinese import CHINESE

Language = Literal["en", "zh"]

VALUE = "{}"
NEXT = "; "  # between the parts of a sentence
LONGEST = 4000  # characters of a sentence of ours; what is longer repeats what somebody has sent
DEEPEST = 4  # sentences within sentences


def language_of(accept_language: Annotated[str, Header()] = "") -> Language:
    """Return the language that a request's `Accept-Language` prefers, English where it names neither."""
    best = parse_accept_header(accept_language, LanguageAccept).best_match(["en", "zh"], default="en")
    return "zh" if best == "zh" else "en"


AskedLanguage = Annotated[Language, Depends(language_of)]


@cache
def _templates() -> list[tuple[list[str], str]]:
    """Return what stands between the values of each template, the most telling first: those with the most letters."""
    telling = sorted(CHINESE.items(), key=lambda item: -len(item[0].replace(VALUE, "")))
    return [(english.split(VALUE), chinese) for english, chinese in telling]


def said(sentence: str, language: Language) -> str:
    """Return an English sentence in a language; parts that no template fits stay English."""
    return sentence if language == "en" or len(sentence) > LONGEST else _chinese(sentence, DEEPEST)


def _chinese(sentence: str, depth: int) -> str:
    whole = _translated(sentence, depth)
    if whole is not None:
        return whole
    *before, last = sentence.split(NEXT)
    parts = [(part, _translated(part, depth)) for part in before]
    said = "".join(part + NEXT if chinese is None else f"{chinese}\uff1b" for part, chinese in parts)
    chinese = _translated(last, depth)
    return said + (last if chinese is None else chinese)


def _translated(text: str, depth: int) -> str | None:
    """Return a text in Chinese where it fits a template as a whole; None where none fits."""
    if not text:
        return ""
    for fixed, chinese in _templates():
        values = _values(text, fixed)
        if values is not None:
            return chinese.format(*(_value(value, depth - 1) for value in values))
    return None


def _values(text: str, fixed: list[str]) -> list[str] | None:
    """Return the values between the fixed parts of a template, each as short as can be; None where it does not fit.

    A template of one part of a sentence fits no sentence of several. No regular expressions: they would take for ever
    over a text that somebody has made to match in many ways.
    """
    if len(fixed) == 1:
        return [] if text == fixed[0] else None
    first, *middle, last = fixed
    if not (text.startswith(first) and text.endswith(last)) or len(text) < len(first) + len(last):
        return None
    if NEXT in text and not any(NEXT in part for part in fixed):
        return None
    values, start, end = [], len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, start, end)
        if found < 0:
            return None
        values.append(text[start:found])
        start = found + len(part)
    return [*values, text[start:end]]


def _value(value: str, depth: int) -> str:
    """Return a template's value in Chinese where it is a sentence or a list of them; a name stays as it is."""
    if " " not in value or not depth:
        return value
    items = [_translated(item, depth) for item in value.split(", ")]
    return _chinese(value, depth) if None in items else "\uff0c".join(filter(None, items))

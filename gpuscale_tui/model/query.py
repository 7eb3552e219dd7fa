"""The small language of filters: words to look for, `field:value`, comparisons, `!` for not, commas for or.

`status:failed,cancelled gpu:4090 cost>1 !name~lr "two words"`: everything that is typed must hold. A query is parsed
against the fields that a list has, and answered by SQLite (`store.filtering`) or, for lists in memory, by `matches`.
Both find a text in any case; beyond ASCII a text is tried as typed, in small letters, in capitals and as a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from gpuscale_tui.model.durations import parse_duration
from gpuscale_tui.model.errors import FieldError, GpuscaleError, nearest
from gpuscale_tui.model.money import parse_usd

__all__ = [
    "AGE", "DURATION", "MONEY", "NUMBER", "PERCENT", "SIZE", "TEXT", "FieldKind", "Query", "QueryError", "Term",
    "contains", "equals", "label", "parse_query", "spellings", "words",
]  # fmt: skip

Operator = Literal["has", "=", "<", "<=", ">", ">="]
Value = str | int | float | None
Kind = Literal["text", "word", "label", "number", "percent", "money", "duration", "age", "size"]

LONGEST = 500
"""Characters of a query; a longer one was pasted by mistake."""
LARGEST = 2**62
"""Numbers beyond this do not fit what they are compared with."""
EXAMPLES = {
    "number": "2", "percent": "50", "money": "1.50", "duration": "90m", "age": "2h", "size": "10MB", "label": "17",
}  # fmt: skip
SIZES = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}

_FIELD = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)(>=|<=|!=|:|=|<|>|~)")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([bkmgt]?)(i?)b?")
_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,9})?")


class QueryError(GpuscaleError, ValueError):
    """A query that cannot be read: `word` is the part of it, `reason` says why and what would be right."""

    def __init__(self, word: str, reason: str) -> None:
        super().__init__(f"{word}: {reason}" if word else reason)
        self.word = word
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FieldKind:
    """What may be asked of a field.

    `words` are all the values of a kind `word`; with `bare` they may be typed alone. `prefix` stands before the number
    of a label (`j17`). `of` is the field that this one is another name of. `help` says what it is, for the list of
    fields and for completion.
    """

    kind: Kind
    words: tuple[str, ...] = ()
    bare: bool = False
    prefix: str = ""
    of: str = ""
    help: str = ""

    def named(self, of: str) -> FieldKind:
        """The same field under another name."""
        return FieldKind(self.kind, self.words, self.bare, self.prefix, of, self.help)

    def told(self, help: str) -> FieldKind:  # noqa: A002 - what it is called everywhere
        """The same kind with words that say what the field is."""
        return FieldKind(self.kind, self.words, self.bare, self.prefix, self.of, help)


TEXT = FieldKind("text")
NUMBER = FieldKind("number")
PERCENT = FieldKind("percent")
"""A part of 1, typed in hundredths."""
MONEY = FieldKind("money")
"""Micro-dollars, typed in dollars."""
DURATION = FieldKind("duration")
"""Milliseconds, typed as `90m`."""
AGE = FieldKind("age")
"""Milliseconds since something, typed as `90m`; whoever answers subtracts from the present time."""
SIZE = FieldKind("size")
"""Bytes, typed as `10MB`."""


def words(*allowed: str, bare: bool = False, help: str = "") -> FieldKind:  # noqa: A002 - as in FieldKind
    """A field with a few values, such as a state."""
    return FieldKind("word", tuple(allowed), bare, help=help)


def label(prefix: str, help: str = "") -> FieldKind:  # noqa: A002 - as in FieldKind
    """A number that is shown with a letter before it: `j17`."""
    return FieldKind("label", prefix=prefix, help=help)


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: the field (empty: the row's whole text) has, is or compares to one of the values.

    None among the values is a field without any. `negated` turns it round; what has no value is then let through.
    """

    field: str
    operator: Operator
    values: tuple[Value, ...]
    negated: bool = False

    def holds(self, value: object) -> bool:
        """Whether it holds for a field's value."""
        found = any(_compare(self.operator, value, wanted) for wanted in self.values)
        return found is not self.negated


@dataclass(frozen=True, slots=True)
class Query:
    """Conditions that must all hold. False when there are none."""

    terms: tuple[Term, ...] = ()
    text: str = field(default="", compare=False)
    """As it was typed."""

    def __bool__(self) -> bool:
        return bool(self.terms)

    def matches(self, get: Callable[[str], object], text: str) -> bool:
        """Whether a row is let through: `get` gives a field's value (None: unknown), `text` is what words search."""
        return all(term.holds(get(term.field) if term.field else text) for term in self.terms)


def _compare(operator: Operator, value: object, wanted: Value) -> bool:
    if value is None or wanted is None:
        return value is None and wanted is None
    if isinstance(wanted, str):
        text = str(value)
        return contains(text, wanted) if operator == "has" else equals(text, wanted)
    if not isinstance(value, int | float):
        return False
    match operator:
        case "<":
            return value < wanted
        case "<=":
            return value <= wanted
        case ">":
            return value > wanted
        case ">=":
            return value >= wanted
        case _:
            return value == wanted


def spellings(text: str) -> tuple[str, ...]:
    """The ways in which a text is looked for; ASCII letters are folded by whoever looks."""
    if text.isascii():
        return (text,)
    return tuple(sorted({text, text.lower(), text.upper(), text.capitalize()}))


_FOLDED = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _fold(text: str) -> str:
    return text.translate(_FOLDED) if not text.isascii() else text.lower()


def contains(text: str, wanted: str) -> bool:
    """Whether a text has another in it, in any case."""
    folded = _fold(text)
    return any(_fold(spelling) in folded for spelling in spellings(wanted))


def equals(text: str, wanted: str) -> bool:
    """Whether a text is another, in any case."""
    folded = _fold(text)
    return any(_fold(spelling) == folded for spelling in spellings(wanted))


def parse_query(text: str, fields: Mapping[str, FieldKind]) -> Query:
    """The query that a line says. Raises QueryError, which names the word, the reason and what is allowed."""
    if len(text) > LONGEST:
        raise QueryError("", f"a filter has {LONGEST} characters at most")
    terms: list[Term] = []
    states: dict[str, list[Value]] = {}
    for word in split_words(text):
        bare = _bare_state(word, fields)
        if bare is None:
            terms.append(_term(word, fields))
        else:
            states.setdefault(bare, []).append(word.text)
    chosen = [Term(name, "=", tuple(values)) for name, values in states.items()]
    return Query((*chosen, *terms), text)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a line, its quotes taken away. `raw` is as typed; `cuts` are the places of commas that mean or."""

    raw: str
    text: str
    quoted: tuple[bool, ...]
    """For each character of `text`, whether it stood in quotes."""


def split_words(line: str) -> Iterator[Word]:
    """The words of a line: blanks part them, but not in quotes; a quote that is not closed goes to the end."""
    raw: list[str] = []
    letters: list[tuple[str, bool]] = []
    inside = False
    for character in line + " ":
        if character == '"':
            inside = not inside
        elif character.isspace() and not inside:
            if raw:
                yield _word(raw, letters)
            raw, letters = [], []
            continue
        else:
            letters.append((character, inside))
        raw.append(character)
    if inside:  # the blank that was put at the end stood in the quotes
        yield _word(raw[:-1], letters[:-1])


def _word(raw: list[str], letters: list[tuple[str, bool]]) -> Word:
    return Word("".join(raw), "".join(letter for letter, _ in letters), tuple(inside for _, inside in letters))


def _bare_state(word: Word, fields: Mapping[str, FieldKind]) -> str | None:
    """The field that this word alone is a value of."""
    if any(word.quoted):
        return None
    found = (name for name, kind in fields.items() if kind.bare and not kind.of and word.text in kind.words)
    return next(found, None)


def _term(word: Word, fields: Mapping[str, FieldKind]) -> Term:
    negated = word.text.startswith("!") and word.quoted[:1] != (True,)
    text, quoted = (word.text[1:], word.quoted[1:]) if negated else (word.text, word.quoted)
    found = _FIELD.match(text)
    if found is None or any(quoted[: found.end()]):
        return _text_term(word, text, quoted, negated, fields)
    name, sign = found[1].lower(), found[2]
    kind = fields.get(name)
    if kind is None:
        return _unknown(word, found[1], sign, text, negated, fields)
    if sign == "!=":
        negated, sign = not negated, "="
    parts = [text[found.end() :]] if sign in {"<", ">", "<=", ">="} else _parts(text, quoted, found.end())
    if not any(parts) and '"' not in word.raw:
        raise QueryError(word.raw, _missing(kind))
    operator, values = _read(kind, sign, parts, word)
    return Term(kind.of or name, operator, values, negated)


def _text_term(word: Word, text: str, quoted: tuple[bool, ...], negated: bool, fields: Mapping[str, FieldKind]) -> Term:
    if not text and '"' not in word.raw:
        raise QueryError(word.raw, "what should not be there? such as !failed or !name:lr")
    for name, kind in fields.items():
        if negated and kind.bare and not kind.of and text in kind.words and not any(quoted):
            return Term(name, "=", (text,), True)
    return Term("", "has", (text,), negated)


def _unknown(  # noqa: PLR0917 - a word, taken apart
    word: Word, name: str, sign: str, text: str, negated: bool, fields: Mapping[str, FieldKind]
) -> Term:
    """`lr=1e-3` is how a sweep names its jobs: a text, unless a field's name was nearly hit."""
    near = nearest(name.lower(), fields)
    if sign == "=" and not near:
        return Term("", "has", (text,), negated)
    own = [each for each, kind in fields.items() if not kind.of]
    allowed = near if near else f"; fields are {', '.join(own)}"
    raise QueryError(word.raw, f"there is no field {name!r}{allowed}")


def _parts(text: str, quoted: tuple[bool, ...], start: int) -> list[str]:
    """What stands between commas; a comma in quotes is a comma."""
    parts, current = [], ""
    for place in range(start, len(text)):
        if text[place] == "," and not quoted[place]:
            parts.append(current)
            current = ""
        else:
            current += text[place]
    parts.append(current)
    return [part for part in parts if part] or parts[:1]


def _missing(kind: FieldKind) -> str:
    if kind.kind == "word":
        return f"one of {', '.join(kind.words)}"
    return "a text is missing" if kind.kind == "text" else f"a value is missing, such as {_example(kind)}"


def _example(kind: FieldKind) -> str:
    return kind.prefix + EXAMPLES.get(kind.kind, "")


def _read(kind: FieldKind, sign: str, parts: Iterable[str], word: Word) -> tuple[Operator, tuple[Value, ...]]:
    """The operator that is meant and the values, in the units of the field."""
    comparing = sign in {"<", ">", "<=", ">="}
    if kind.kind in {"text", "word"}:
        if comparing:
            raise QueryError(word.raw, f"{_name(word)} cannot be compared: write {_name(word)}:value")
        if kind.kind == "word":
            return "=", tuple(value for part in parts for value in _words(kind, sign, part, word))
        exact = sign == "="
        values = tuple(None if exact and part.lower() == "none" else part for part in parts)
        return ("=" if exact else "has"), values
    if sign == "~":
        raise QueryError(word.raw, f"{_name(word)} is no text: use = < or >, such as {_name(word)}>{_example(kind)}")
    if kind.kind in {"duration", "age"} and not comparing and list(parts) != ["none"]:
        raise QueryError(word.raw, f"compare it: {_name(word)}<{_example(kind)} or {_name(word)}>{_example(kind)}")
    if not comparing:
        return "=", tuple(None if part.lower() == "none" else _amount(kind, part, word) for part in parts)
    (part,) = parts
    operators: dict[str, Operator] = {"<": "<", ">": ">", "<=": "<=", ">=": ">="}
    return operators[sign], (_amount(kind, part, word),)


def _name(word: Word) -> str:
    found = _FIELD.match(word.text.removeprefix("!"))
    return found[1] if found else word.text


def _words(kind: FieldKind, sign: str, part: str, word: Word) -> tuple[str, ...]:
    """The values that a text means: itself; after a colon also those that begin with it, so that it can be typed."""
    wanted = part.lower().replace("-", "_")
    spelled = {value.replace("-", "_"): value for value in kind.words}
    if wanted in spelled:
        return (spelled[wanted],)
    begun = tuple(value for key, value in spelled.items() if sign != "=" and key.startswith(wanted))
    if not begun:
        near = nearest(wanted, kind.words)
        raise QueryError(word.raw, f"no such {_name(word)}{near or '; it is one of ' + ', '.join(kind.words)}")
    return begun


def _amount(kind: FieldKind, part: str, word: Word) -> int | float:
    try:
        value = _READERS[kind.kind](part, kind)
    except (ValueError, ArithmeticError):
        raise QueryError(word.raw, f"{part!r} is no {_NOUNS[kind.kind]}, such as {_example(kind)}") from None
    if abs(value) > LARGEST:
        raise QueryError(word.raw, f"{part!r} is too large")
    return value


def _number(part: str, _kind: FieldKind) -> int | float:
    if not _NUMBER.fullmatch(part):
        raise ValueError(part)
    return float(part) if "." in part else int(part)


def _percent(part: str, kind: FieldKind) -> float:
    return float(Decimal(str(_number(part.removesuffix("%"), kind))) / 100)


def _label(part: str, kind: FieldKind) -> int:
    number = part.lower().removeprefix(kind.prefix)
    if not number.isascii() or not number.isdigit() or len(number) > 15:
        raise ValueError(part)
    return int(number)


def _money(part: str, _kind: FieldKind) -> int:
    return parse_usd(part.removesuffix("/h"))


def _duration(part: str, _kind: FieldKind) -> int:
    try:
        return 0 if part == "0" else parse_duration(part) * 1000
    except FieldError as error:
        raise ValueError(part) from error


def _size(part: str, _kind: FieldKind) -> int:
    found = _SIZE.fullmatch(part.lower())
    if found is None:
        raise ValueError(part)
    number, unit, binary = found.groups()
    power = "bkmgt".index(unit or "b")
    return int(Decimal(number) * (1024**power if binary else SIZES[unit]))


_READERS: Mapping[str, Callable[[str, FieldKind], int | float]] = {
    "number": _number, "percent": _percent, "label": _label, "money": _money, "duration": _duration,
    "age": _duration, "size": _size,
}  # fmt: skip
_NOUNS = {
    "number": "number", "percent": "percentage", "label": "id", "money": "amount of dollars",
    "duration": "length of time", "age": "length of time", "size": "size",
}  # fmt: skip

"""Structured field values, RFC 8941: enough to read and write signature and digest fields.

Reads dictionaries (section 4.2.2) whose members are items or inner lists with
parameters, and writes members back in the one canonical form (section 4.1), which is
what a signature base is made of.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from decimal import Decimal


class Unparsable(ValueError):
    """The text isn't a structured field of the kind asked for."""


class Token(str):
    """A bare word, told apart from a quoted string."""


@dataclass(frozen=True)
class Item:
    value: object
    params: dict = field(default_factory=dict)


@dataclass(frozen=True)
class InnerList:
    items: list
    params: dict = field(default_factory=dict)


KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?")
TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
BYTES = re.compile(r":([A-Za-z0-9+/=]*):")
STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
MAX_INTEGER_DIGITS = 15


class _Reader:
    def __init__(self, text: str):
        self.text = text
        self.at = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, pattern: re.Pattern) -> re.Match:
        found = pattern.match(self.text, self.at)
        if not found:
            raise Unparsable(f"unexpected text at {self.at}: {self.text[self.at:self.at + 20]!r}")
        self.at = found.end()
        return found

    def skip(self, characters: str) -> None:
        while self.peek() and self.peek() in characters:
            self.at += 1

    def take_char(self, wanted: str) -> None:
        if self.peek() != wanted:
            raise Unparsable(f"expected {wanted!r} at {self.at}")
        self.at += 1

    def dictionary(self) -> dict:
        members = {}
        self.skip(" ")
        while self.at < len(self.text):
            key = self.take(KEY).group()
            members.pop(key, None)
            members[key] = self.member()
            self.skip(" \t")
            if self.at == len(self.text):
                break
            self.take_char(",")
            self.skip(" \t")
            if self.at == len(self.text):
                raise Unparsable("trailing comma")
        return members

    def member(self):
        if self.peek() != "=":
            return Item(True, self.params())
        self.at += 1
        return self.inner_list() if self.peek() == "(" else self.item()

    def inner_list(self) -> InnerList:
        self.take_char("(")
        items = []
        while True:
            self.skip(" ")
            if self.peek() == ")":
                self.at += 1
                return InnerList(items, self.params())
            items.append(self.item())
            if self.peek() not in (" ", ")"):
                raise Unparsable(f"inner list broken at {self.at}")

    def item(self) -> Item:
        return Item(self.bare(), self.params())

    def params(self) -> dict:
        found = {}
        while self.peek() == ";":
            self.at += 1
            self.skip(" ")
            key = self.take(KEY).group()
            value = True
            if self.peek() == "=":
                self.at += 1
                value = self.bare()
            found.pop(key, None)
            found[key] = value
        return found

    def bare(self):
        first = self.peek()
        if first == '"':
            return re.sub(r'\\(["\\])', r"\1", self.take(STRING).group(1))
        if first == ":":
            return decode_bytes(self.take(BYTES).group(1))
        if first == "?":
            return self.take(re.compile(r"\?([01])")).group(1) == "1"
        if first and first in "-0123456789":
            return number(self.take(NUMBER))
        return Token(self.take(TOKEN).group())


def decode_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise Unparsable(f"byte sequence: {error}") from error


def number(found: re.Match):
    digits = found.group().lstrip("-")
    if "." not in digits:
        if len(digits) > MAX_INTEGER_DIGITS:
            raise Unparsable("integer of more than 15 digits")
        return int(found.group())
    whole, fraction = digits.split(".")
    if len(whole) > 12 or not 1 <= len(fraction) <= 3:
        raise Unparsable("decimal out of range")
    return Decimal(found.group())


def parse_dictionary(text: str) -> dict:
    return _Reader(text.strip(" ")).dictionary()


def write_bare(value) -> str:
    if isinstance(value, bool):
        return "?1" if value else "?0"
    if isinstance(value, bytes):
        return ":" + base64.b64encode(value).decode() + ":"
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def write_params(params: dict) -> str:
    return "".join(f";{key}" if value is True else f";{key}={write_bare(value)}" for key, value in params.items())


def write_member(member) -> str:
    if isinstance(member, InnerList):
        return "(" + " ".join(write_member(item) for item in member.items) + ")" + write_params(member.params)
    return write_bare(member.value) + write_params(member.params)

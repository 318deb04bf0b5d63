"""``where`` predicates: what is refused or rewritten before Lance evaluates them.

The dialect is Lance's (DataFusion SQL expressions over the metadata columns). Lance takes a
double-quoted name for a string, silently; here it names a column, as in SQL.
"""

from __future__ import annotations

import re

from oscillink_store.errors import QueryError

__all__ = ["predicate"]

_PIECES = re.compile(
    r"""(?P<literal>'(?:[^']|'')*')      # a string
      | "(?P<name>(?:[^"]|"")*)"         # a quoted name
      | (?P<tick>`[^`]*`)                # a name quoted Lance's way
      | (?P<open>['"`])                  # a quotation that never ends
      | (?P<end>;|--|/\*)                # the end of the expression
      | (?P<gap>[?$])                    # a place for a value that nobody fills
      | \b(?P<volatile>(?:random|rand|uuid|now|today)(?=\s*\()
          |current_date|current_time|current_timestamp)\b""",
    re.VERBOSE | re.IGNORECASE,
)


def predicate(where: str) -> str:
    """The predicate in Lance's spelling.

    Raises:
        QueryError: not text, empty, more than one expression, an unfinished quotation, a
            parameter, or a function whose value changes from call to call (a receipt could not
            be replayed).
    """
    if not isinstance(where, str) or not where.strip():
        raise QueryError(
            f"where is {where!r}: pass a SQL predicate such as \"lang = 'en'\", or None for all"
        )

    def rewrite(piece: re.Match[str]) -> str:
        if piece["open"]:
            raise QueryError(
                f"where: {where!r} has a quotation that does not end: "
                "close it, and write a quote inside a string twice ('it''s')"
            )
        if piece["end"]:
            raise QueryError(
                f"where: {where!r} holds {piece['end']!r}: pass one expression, without comments"
            )
        if piece["gap"]:
            raise QueryError(
                f"where: {where!r} holds {piece['gap']!r} outside of quotes: write the value "
                "itself, there are no parameters"
            )
        if piece["volatile"]:
            raise QueryError(
                f"where: {where!r} uses {piece['volatile']}, whose value changes from call to "
                "call: write the value itself, or quote the name if it is a column"
            )
        if piece["name"] is not None:
            return f"`{piece['name'].replace(chr(34) * 2, chr(34))}`"
        return piece[0]

    return _PIECES.sub(rewrite, where)

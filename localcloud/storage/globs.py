"""The glob patterns of `matchGlob` (https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob)."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\*\*|\*|\?|\[!?\]?[^\]]*\]|[{},]|\\?.", re.DOTALL)


def literal_prefix(glob: str) -> str:
    """What every name that matches begins with."""
    return re.split(r"[*?\[{\\]", glob, maxsplit=1)[0]


def compile_glob(glob: str) -> re.Pattern[str]:
    """`*` and `?` stop at a slash, `**` does not; `[a-z]`, `[!a-z]`, `{a,b}`. Raises ValueError for an unclosed group."""
    pattern, depth = "", 0
    for token in _TOKEN.findall(glob):
        if token == "{":
            pattern, depth = f"{pattern}(?:", depth + 1
        elif token == "}" and depth:
            pattern, depth = f"{pattern})", depth - 1
        elif token == "," and depth:
            pattern += "|"
        elif token in ("**", "*", "?"):
            pattern += {"**": ".*", "*": "[^/]*", "?": "[^/]"}[token]
        elif len(token) > 2 and token[0] == "[":
            inverted = token[1] == "!"
            inside = token[1 + inverted : -1].replace("\\", "\\\\").replace("^", r"\^").replace("[", r"\[").replace("]", r"\]")
            pattern += f"[{'^/' if inverted else ''}{inside}]"
        else:
            pattern += re.escape(token.removeprefix("\\") or token)
    try:
        if depth:
            raise re.error("a brace is not closed")
        return re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ValueError(f"Invalid glob pattern {glob!r}: {error}") from error

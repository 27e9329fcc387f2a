"""The problems of PyYAML's parsers, in clearer words where they exist."""

import yaml

from .errors import Problem

ANCHOR_RULE = "the name of an anchor must have letters, digits, '-' and '_' only"
QUOTE_IT = "; quote the text that contains it"
_PROBLEMS = {
    # Messages of PyYAML (their beginnings) that need clearer words.
    "mapping values are not allowed": f"a ':' is not allowed here{QUOTE_IT}",
    "could not find expected ':'": "there is no ':' after this key",
    "did not find expected key": "expected a key here; is the indentation right, a quote missing?",
    "expected <block end>": "expected a key here; is the indentation right, a quote missing?",
    "did not find expected '-' indicator": "expected '- ' here; is the indentation right?",
    "did not find expected <document start>": "expected the end of the document, or '---'",
    "expected '<document start>'": "expected the end of the document, or '---'",
    "found incompatible YAML document": "the version after '%YAML' must be 1, and the line must be "
    "before a document; remove it",
    "found unknown escape character": "this escape is not one of YAML's; write the backslash twice",
    "found invalid Unicode character escape code": "this escape is not a valid character; "
    "write the character itself",
    "did not find expected alphabetic or numeric character": ANCHOR_RULE,
    "expected alphabetic or numeric character": ANCHOR_RULE,
    "found character that cannot start any token": "this character cannot begin a plain text; "
    "quote it",
    "found character '": "this character cannot begin a plain text; quote it",
}


def parse_problem(error: yaml.YAMLError) -> Problem:
    """Return the problem that PyYAML reports, in clearer words where they exist."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        words = error.problem or error.context or "this is not YAML"
        message = next((text for key, text in _PROBLEMS.items() if words.startswith(key)), words)
        if error.context and error.context_mark and mark and error.context_mark.line != mark.line:
            message += f" ({error.context}, which began in line {error.context_mark.line + 1})"
        line = mark.line + 1 if mark else None
        column = mark.column + 1 if mark else None
        return Problem(code="syntax", message=message, line=line, column=column)
    return Problem(code="syntax", message=str(error).splitlines()[0])

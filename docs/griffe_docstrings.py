"""Makes the docstrings fit for Markdown; loaded by mkdocstrings.

Doctests become code blocks, roles become code, and what is said of an error may go on in a line that is not indented.
"""

import re
from typing import Any

import griffe

# an example runs to the next empty line, as doctest reads it
DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.M)
ROLE = re.compile(r":(?:class|func|meth|mod|data):`~?([^`]+)`")
RAISES = re.compile(r"^Raises:\n(?:    .*\n?)+", re.M)
GOES_ON = re.compile(r"^    (?=[^ :]+(?: |$))", re.M)


class Docstrings(griffe.Extension):
    """Rewrites the text of every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one object's docstring."""
        if obj.docstring is not None:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            text = RAISES.sub(lambda found: GOES_ON.sub("        ", found[0]), text)
            obj.docstring.value = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", text)

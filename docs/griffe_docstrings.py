"""Makes the docstrings fit for Markdown: doctests become code blocks, roles become code. Loaded by mkdocstrings."""

import re
from typing import Any

import griffe

# an example runs to the next empty line, as doctest reads it
DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.M)
ROLE = re.compile(r":(?:class|func|meth|mod|data):`~?([^`]+)`")


class Docstrings(griffe.Extension):
    """Rewrites the text of every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one object's docstring."""
        if obj.docstring is not None:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", text)

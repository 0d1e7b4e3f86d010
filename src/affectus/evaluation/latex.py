"""Text that LaTeX prints as it is: names of runs, models and corpora may hold any character."""

_LATEX = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "–": "--", "≥": r"$\geq$", "↑": r"$\uparrow$", "↓": r"$\downarrow$"},
    **{"<": "$<$", ">": "$>$", "|": "$|$"},
} | {c: f"\\{c}" for c in "&%$#_{}"}


def latex_text(text: str) -> str:
    r"""Return text as LaTeX prints it, in one line.

    >>> latex_text("78.6 ± 0.4 of mtmm_es")
    '78.6 $\\pm$ 0.4 of mtmm\\_es'
    """
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def latex_comments(*texts: str) -> list[str]:
    """Return paragraphs, some of which have several lines, as comments."""
    return [f"% {line}" for text in texts for line in text.splitlines()]

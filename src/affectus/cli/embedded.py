"""The verb ``corpus embedded``: write the generated corpus."""

from pathlib import Path
from typing import Annotated

import typer


def embedded(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The corpus folder to write.")],
    videos: Annotated[int, typer.Option(help="How many videos of 4 to 12 utterances.")] = 300,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    context: Annotated[
        float, typer.Option(help="In [0, 1]: how often an utterance's content stands in a neighbour's features only.")
    ] = 1.0,
    cross_modal: Annotated[
        float, typer.Option("--cross-modal", help="In [0, 1]: how often the words lie and other modalities tell.")
    ] = 1.0,
    cross_task: Annotated[
        float, typer.Option("--cross-task", help="In [0, 1]: how far sentiment and emotions constrain each other.")
    ] = 1.0,
    missing: Annotated[float, typer.Option(help="Share of missing modalities, in [0, 1).")] = 0.1,
    steps: Annotated[
        bool, typer.Option("--steps", help="Word-aligned sequences instead of one vector per utterance.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Write the embedded corpus: generated, seeded, with three planted effects whose sizes are yours to set.

    Nobody ever said any of it; it is there to try models on, and to test whether they find what was planted.

    Example: affectus corpus embedded --out corpora/embedded --context 0
    """
    from affectus.cli.data import show_corpus
    from affectus.corpus import save_corpus
    from affectus.corpus.embedded import make_embedded

    corpus = make_embedded(
        videos=videos,
        seed=seed,
        context=context,
        cross_modal=cross_modal,
        cross_task=cross_task,
        missing=missing,
        steps=steps,
    )
    save_corpus(corpus, out)
    show_corpus(corpus, as_json, out)


def add_to(corpus_app: typer.Typer) -> None:
    """Add the verb to the group ``corpus``."""
    corpus_app.command("embedded")(embedded)

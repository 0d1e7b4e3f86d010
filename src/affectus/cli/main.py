"""The command line: thin verbs over the Python API."""

import os
import sys
from collections.abc import Sequence

import typer
from rich.console import Console

import affectus
from affectus.cli import (
    analyzing,
    benchmarking,
    comparing,
    data,
    doctor,
    exporting,
    extracting,
    features,
    fitting,
    folding,
    modelling,
    reporting,
    reproducing,
    robustness,
    serving,
    tuning,
)
from affectus.cli.clustering import with_address
from affectus.errors import ENDED, INTERRUPTED, AffectusError
from affectus.files import valid_text

app = typer.Typer(
    name="affectus",
    help="Tell sentiment and emotion from what people say, how they say it and what their faces do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
analyzing.add_to(app)
data.add_to(app)
doctor.add_to(app)
exporting.add_to(app)
extracting.add_to(app)
features.add_to(app)
fitting.add_to(app)
modelling.add_to(app)
reporting.add_to(app)
comparing.add_to(app)
robustness.add_to(app)
reproducing.add_to(app)
folding.add_to(app)
benchmarking.add_to(app)
tuning.add_to(app)
serving.add_to(app)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"affectus {affectus.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 2 bad input (one sentence), 130 interrupted, 143 ended.

    1: nobody reads standard output any more.
    """
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        words = with_address(sys.argv[1:] if arguments is None else arguments)
        _check_words(words)
        result = app(args=words, prog_name="affectus", standalone_mode=False)
        return int(result) if isinstance(result, int) else 0
    except AffectusError as error:
        errors.print(f"error: {valid_text(str(error))}", markup=False, style="red")
        return 2
    except KeyboardInterrupt:
        errors.print(INTERRUPTED, markup=False)
        return 130
    except SystemExit as error:
        # Lightning ends a training that is told to end (SIGTERM) in this way, with no code, as if all were done
        if type(error).__name__ != "SIGTERMException":
            raise
        errors.print(ENDED, markup=False)
        return 143
    except OSError as error:
        if error.filename is None:  # not of a file: of standard output, of a defect
            raise
        path = valid_text(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else error.filename
        sentence = AffectusError("Could not read or write", where=str(path)[:500], got=error.strerror)
        errors.print(f"error: {sentence}", markup=False, style="red")
        return 2
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":
            raise
        errors.print(f"error: {_not_utf8(error.object)}", markup=False, style="red")
        return 2
    except typer.Exit as error:
        return int(error.exit_code)
    except Exception as error:
        # click's own usage errors know how to show themselves
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            return int(error.exit_code)
        raise


def _check_words(words: Sequence[str]) -> None:
    for word in words:
        if valid_text(word) != word:
            raise _not_utf8(word)


def _not_utf8(name: str) -> AffectusError:
    return AffectusError(
        "The name of a file or folder is not valid UTF-8",
        got=valid_text(name)[:200],
        remedy="Rename it, or set a UTF-8 locale such as LC_ALL=C.UTF-8",
    )


def run() -> None:
    """Run the command line and exit, as ``python -m affectus`` does."""
    from affectus.__main__ import run

    run()


if __name__ == "__main__":
    run()

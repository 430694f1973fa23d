"""The command line: puts the commands together, and turns every bad input into one clear line."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from cogdata.errors import CogError
from cogdata.system.imports import guard_processes
from cogdata.system.interrupts import answer_ctrl_c
from commands.collect import collect_command
from commands.data.derive import derive_command
from commands.data.store import data_info, data_ls, data_rebuild, data_sheet, data_verify
from commands.demo import demo_command
from commands.evaluate import eval_command, export_policy_command
from commands.finetune import finetune_command
from commands.listing import list_command
from commands.mix import mix_copy, mix_diff, mix_infer, mix_ls, mix_refresh, mix_rm, mix_show
from commands.query import query_command, show_command
from commands.report import report_command
from commands.reproduce import reproduce_command
from commands.runs import runs_compare, runs_copy, runs_ls, runs_rm, runs_show
from commands.shared import INTERRUPTED, note, say
from commands.train import train_command

app = typer.Typer(
    name="cog",
    help="Robot-learning data made usable: collect, query, mix, train, evaluate; all of it in reach of SQL.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("collect")(collect_command)
app.command("list")(list_command)
app.command("query")(query_command)
app.command("show")(show_command)
app.command("derive")(derive_command)
app.command("train")(train_command)
app.command("finetune")(finetune_command)
app.command("eval")(eval_command)
app.command("export-policy")(export_policy_command)
app.command("reproduce")(reproduce_command)
app.command("report")(report_command)
app.command("demo")(demo_command)

data_app = typer.Typer(help="What the store holds, and whether it is whole.", no_args_is_help=True)
data_app.command("ls")(data_ls)
data_app.command("info")(data_info)
data_app.command("verify")(data_verify)
data_app.command("rebuild")(data_rebuild)
data_app.command("sheet")(data_sheet)
app.add_typer(data_app, name="data")

mix_app = typer.Typer(
    help="Frozen mixtures: list, show, compare, freeze again, copy, remove.", no_args_is_help=True
)
mix_app.command("ls")(mix_ls)
mix_app.command("show")(mix_show)
mix_app.command("diff")(mix_diff)
mix_app.command("refresh")(mix_refresh)
mix_app.command("infer")(mix_infer)
mix_app.command("copy")(mix_copy)
mix_app.command("rm")(mix_rm)
app.add_typer(mix_app, name="mix")

runs_app = typer.Typer(help="Training runs and their evaluations.", no_args_is_help=True)
runs_app.command("ls")(runs_ls)
runs_app.command("show")(runs_show)
runs_app.command("compare")(runs_compare)
runs_app.command("copy")(runs_copy)
runs_app.command("rm")(runs_rm)
app.add_typer(runs_app, name="runs")


def _version(asked: bool) -> None:
    if asked:
        import cogdata

        say(f"cogdata {cogdata.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """What `cog` takes before a command."""


RENAMED: Final = {
    "train": {"--steps": "--updates", "--alarm": "--guard"},
    "demo": {"--steps": "--updates"},
    "infer": {"--steps": "--updates"},
    "reproduce": {"--variations": "--ablations", "--unit": "--experiment"},
}
"""Command → option of an earlier version → its name today."""


def _mistake(error: typer.TyperException) -> str:
    """What is wrong with a command line, and what to type."""
    text, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    if context is None:
        return text
    old = getattr(error, "option_name", "")
    if new := RENAMED.get(context.command.name or "", {}).get(old):
        return f"{old} is called {new} now: type {new}, see `{context.command_path} --help`"
    if not text.startswith("Missing"):
        return f"{text}: see `{context.command_path} --help`"
    typed = [
        f"{parameter.opts[0]} {parameter.name.upper()}" if parameter.opts[0].startswith("-")
        else parameter.name.upper()
        for parameter in context.command.params
        if parameter.required
    ]  # fmt: skip
    return f"{text}: type `{' '.join([context.command_path, *typed])}`, see `{context.command_path} --help`"


def _typed(word: str) -> str:
    """SQL that begins with a comment is no option: no option's name has a space in it."""
    return f" {word}" if word.startswith("--") and len(word.partition("=")[0].split()) > 1 else word


def main() -> None:
    """Run the command line; every error of the user's is one line on stderr."""
    try:
        answer_ctrl_c()
        guard_processes()
        code = app([_typed(word) for word in sys.argv[1:]], prog_name="cog", standalone_mode=False)
    except CogError as error:
        note(f"error: {error}")
        sys.exit(1)
    except typer.TyperException as error:
        text = error.format_message()
        note(text if "Usage:" in text else f"error: {_mistake(error)}")  # a bare group prints its help
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        note("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        note(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()

"""The door: `ti-tui` and its commands. Each command's module is imported when it is called, so `--version` is quick."""

from __future__ import annotations

import importlib
import os
import sys

import click

from ti_tui import __version__
from ti_tui.errors import UserError

COMMANDS: dict[str, str] = {
    "demo": "See the whole flow on a tiny model that comes along.",
    "init": "Make a run: its folder, its pictures, its run file.",
    "caption": "Write captions, with a captioner or from file names.",
    "prepare": "Crop and resize photographs into a run; again at any time.",
    "check": "Look for every mistake before the GPU starts.",
    "plan": "Show what a run will do, and what `auto` decided and why.",
    "probe": "Try learning rates, and propose a scheme.",
    "train": "Train a run, or go on with it.",
    "watch": "Follow a run that is going or done.",
    "compare": "Put checkpoints side by side: same prompts, same seeds.",
    "report": "Write a page about a run: curves, pictures, what to do with it.",
    "stop": "Save a running training and end it.",
    "runs": "List runs with what came out, or compare some of them.",
    "embeddings": "Look into, convert and install embedding files.",
    "doctor": "Say what this machine has, what is missing and how to mend it.",
    "paths": "Say where ti_tui keeps its things.",
}
"""Each command and what it is for. It is the click command `command` in the module of its name in ti_tui.commands."""


class LazyCommands(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"ti_tui.commands.{cmd_name}").command
        command.short_help = COMMANDS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from ti_tui.run.problems import nearest

            if args and (guess := nearest(args[0], COMMANDS)):
                raise click.UsageError(f"there is no command {args[0]!r}; did you mean {guess}?", ctx) from None
            raise click.UsageError(error.message, ctx) from None


@click.group(
    cls=LazyCommands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 fine, 2 something to mend in what was given, 3 training failed (the run can be resumed).",
)
@click.version_option(__version__, prog_name="ti_tui", message="%(prog)s %(version)s")
@click.option("--no-mouse", is_flag=True, help="Leave the mouse to the terminal (its own selection works then).")
@click.pass_context
def cli(context: click.Context, no_mouse: bool) -> None:
    """Train Stable Diffusion textual-inversion embeddings on a small GPU.

    Without a command the wizard opens. In scripts: `ti-tui init RUN --images PHOTOS --model MODEL --token NAME --init
    WORD`, then `ti-tui train RUN`.
    """
    if context.invoked_subcommand is not None:
        return
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty()):
        click.echo(context.get_help())
        return
    from ti_tui.screens.app import run_app

    sys.exit(run_app(mouse=not no_mouse))


def main() -> None:
    """Run the command line; errors for people end up on stderr in a few lines."""
    try:
        # https://no-color.org; click itself looks at the terminal only.
        cli.main(standalone_mode=False, color=False if os.environ.get("NO_COLOR") else None)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.Abort:
        print("aborted", file=sys.stderr)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has gone: nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        print(f"{error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if "KeyboardInterrupt" in str(error):
            # Ctrl+C while pydantic builds a model comes out as an error of its own.
            print("aborted", file=sys.stderr)
            sys.exit(130)
        sys.exit(_unexpected(error))


def _unexpected(error: Exception) -> int:
    """A mistake of the program itself: two lines for the user, the traceback in a file for its makers."""
    from ti_tui.crash import write_crash

    print(f"ti_tui made a mistake: {type(error).__name__}: {error}", file=sys.stderr)
    if path := write_crash(error):
        print(f"The details are in {path}; please report them.", file=sys.stderr)
    else:
        import traceback

        traceback.print_exc()
    return 1

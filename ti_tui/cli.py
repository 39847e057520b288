"""The entry point: `ti-tui` and its commands. A command's module is imported only when it is called."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any

import click

from ti_tui import __version__, terminal
from ti_tui.errors import UserError

COMMANDS: dict[str, str] = {
    "demo": "Try the whole workflow on a tiny model that is included.",
    "init": "Make a run: its folder, its images, its run file.",
    "import": "Read the settings of another trainer, such as kohya.",
    "export": "Write the settings of a run for another trainer.",
    "caption": "Write captions, with a captioner or from file names.",
    "prepare": "Crop and resize photographs into a run, or update them.",
    "check": "Check a run or photographs for mistakes before training.",
    "plan": "Show what a run will do, and what `auto` decided and why.",
    "probe": "Try learning rates, and propose a scheme.",
    "train": "Train a run, or resume it.",
    "watch": "Follow a run, running or finished.",
    "compare": "Put checkpoints side by side: same prompts, same seeds.",
    "report": "Write a page about a run: curves, samples, how to use it.",
    "log": "Write a run's log for TensorBoard or Weights & Biases.",
    "stop": "Save a running training and stop it.",
    "runs": "List runs with their results, or compare some of them.",
    "embeddings": "Inspect, convert and install embedding files.",
    "doctor": "Check this machine: what it has, what is missing, how to fix it.",
    "paths": "Show where ti_tui keeps its files.",
}
"""What each command does. Its code is `command` in the module of the same name in ti_tui.commands."""


def command_module(name: str) -> str:
    """The module of a command. `import` is a keyword, so its module is called import_settings, and export's alike."""
    return f"ti_tui.commands.{f'{name}_settings' if name in ('import', 'export') else name}"


class _ReaderEnded(Exception):
    """Who read our output (head, less) has ended."""


class LazyCommands(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(command_module(cmd_name)).command
        command.short_help = COMMANDS[cmd_name]
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # click would end with 1.
            raise _ReaderEnded from None

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
    epilog="Exit status: 0 fine, 2 something in the input is wrong, 3 training failed (the run can be resumed).",
)
@click.version_option(__version__, prog_name="ti_tui", message="%(prog)s %(version)s")
@click.option("--no-mouse", is_flag=True, help="Do not capture the mouse, so that the terminal's own selection works.")
@click.pass_context
def cli(context: click.Context, no_mouse: bool) -> None:
    """Train Stable Diffusion textual-inversion embeddings on a small GPU.

    Without a command, the wizard opens. In scripts: `ti-tui init RUN --images PHOTOS --model MODEL --token NAME --init
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
    """Run the command line; errors are printed on stderr in a few lines."""
    try:
        # https://no-color.org; click itself only checks whether stdout is a terminal.
        cli.main(standalone_mode=False, color=False if os.environ.get("NO_COLOR") else None)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.Abort:
        terminal.error("aborted")
        sys.exit(130)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        terminal.error(shown.getvalue().rstrip("\n"))
        sys.exit(error.exit_code)
    except UserError as error:
        terminal.error(error)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)
    except (_ReaderEnded, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        terminal.error(f"{error.filename or 'output'}: {error.strerror or error}")
        sys.exit(2)
    except Exception as error:
        if "KeyboardInterrupt" in str(error):
            # pydantic turns Ctrl+C while it builds a model into an error of its own.
            terminal.error("aborted")
            sys.exit(130)
        sys.exit(_unexpected(error))


def _unexpected(error: Exception) -> int:
    """A bug in ti_tui: two lines for the user, the traceback in a file."""
    from ti_tui.crash import write_crash

    terminal.error(f"ti_tui has crashed: {type(error).__name__}: {error}")
    if path := write_crash(error):
        terminal.error(f"The details are in {path}; please report them.")
    else:
        import traceback

        traceback.print_exc()
    return 1

"""Writes docs/run-file.md, glossary.md and import.md from the program's own tables: `python -m tools.write_docs`."""

from __future__ import annotations

from pathlib import Path

from ti_tui.exchange.mapping import Counterpart
from ti_tui.exchange.programs import FIELDS, PROGRAMS
from ti_tui.glossary import GLOSSARY
from ti_tui.run.field_values import accepted_values
from ti_tui.run.recipe import TABLES

DOCS = Path(__file__).parents[1] / "docs"

RUN_FILE = """# The run file

`RUN/run.toml` is the complete recipe of a run: everything that is needed to repeat it. `ti-tui init` writes it with
every field explained, `ti-tui check` finds all its mistakes at once, and the trainer changes only its rates, when it is
told to. Relative paths count from the file. Its first line is `format = 1`.

This page is made from the program's own table of fields (`python -m tools.write_docs`).
"""

GLOSSARY_PAGE = """# Glossary

The program, its documentation and its code use one word for one thing. `?` in the program shows the words of the
screen that is open. What the figures mean and what to do about them is explained in [loss.md](loss.md); the reasons for
each choice are in [training.md](training.md).

This page is made from `ti_tui/glossary.py` (`python -m tools.write_docs`).
"""

IMPORT = """# Settings of other trainers

    ti-tui import FILE            # what becomes of each field, and what a run would need
    ti-tui import FILE RUN        # makes the run, as `ti-tui init` does
    ti-tui import FILE RUN --images ~/photos/anna --model ~/models/realisticVision.safetensors

FILE may be

- kohya's: the JSON of the window (kohya_ss), a config TOML, a dataset TOML, or a `.sh`, `.bat` or `.ps1` with the
  command `train_textual_inversion.py` or `sdxl_train_textual_inversion.py`;
- OneTrainer's JSON, with its concepts and samples in it or in files beside it;
- a script with the command of diffusers' `textual_inversion.py` or `textual_inversion_sdxl.py` (or a copy of another
  name: the options say what it is);
- the YAML of invoke-training, of ai-toolkit, or of the original textual inversion;
- the `settings-*.json` that A1111 writes into a log folder; EveryDream2trainer's `textual_inversion.json`.

Its content says what it is, not its name. Nothing in it is run, and files that it names are read only if they are here.
A path that is not here is said, with the option that gives another: `--images`, `--model`, `--set table.field=value`.

In the wizard, such a file is recognised where it is given as photographs or as model, and *Import settings* in the
palette (ctrl+p) picks one. It fills in the draft.

## The table

Each field that is set in FILE stands in the table once: `same`, `changed` (and how) or `left out` (and why). Fields
that are empty are listed below it, and so is what that program takes for fields that are not in the file. `--json`
prints all of it for scripts.

What is put together of several fields:

- Epochs, repeats, images and batch size become steps; rate, steps, scheduler and warm-up become a scheme. Where no
  shape of a scheme is the same, the curve is drawn in 24 segments.
- A batch on several devices becomes an accumulation with the same effective batch.
- Prompts get `[name]` for the token, and options (`--n --w --h --d --l --s`) for what the file says of all of them.
- The optimizer keeps those arguments that ours takes. Without a weight decay in the file, AdamW gets the 0.01 that
  those programs give it (ours is 0 otherwise).

## Back again

    ti-tui export RUN --to kohya            # or onetrainer, diffusers; --output FOLDER, --force

writes what that program can train the same from, into `RUN/export`: for kohya a config TOML (`--config_file`), a
dataset TOML and the prompts; for OneTrainer its settings with concepts, samples and prompts; for diffusers a shell
script. The files name the run's own images. What `auto` leaves open is written as it is decided for this device.

Each field that the program cannot be told is printed with the reason. In kohya's config these also stand in comments
(`# ti_tui: evaluation.hold_out = 2`), which `ti-tui import` reads: an exported config, imported again, gives the same
run file.

## The fields

This list is made from the program's own tables (`python -m tools.write_docs`).
"""


def pages() -> dict[Path, str]:
    """The text of each page by its path."""
    return {
        DOCS / "run-file.md": run_file_page(),
        DOCS / "glossary.md": glossary_page(),
        DOCS / "import.md": import_page(),
    }


def glossary_page() -> str:
    """Every word with its meaning, in chapters."""
    parts = [GLOSSARY_PAGE]
    for chapter, words in GLOSSARY.items():
        parts.append(f"## {chapter}\n\n| word | meaning |\n|---|---|")
        parts += [f"| {word} | {meaning} |" for word, meaning in words.items()]
        parts.append("")
    return "\n".join(parts)


def run_file_page() -> str:
    """Every table of the run file with its fields."""
    parts = [RUN_FILE]
    for name, table in TABLES.items():
        parts.append(f"## [{name}]\n\n{table.__doc__}\n")
        parts.append("| field | takes | default | meaning |\n|---|---|---|---|")
        for key, info in table.model_fields.items():
            default = "(required)" if info.is_required() else _default(info.get_default(call_default_factory=True))
            unit = info.json_schema_extra.get("unit", "") if isinstance(info.json_schema_extra, dict) else ""
            meaning = f"{info.description}{f' ({unit})' if unit else ''}".replace("|", "\\|")
            parts.append(f"| `{key}` | {accepted_values(info)} | {default} | {meaning} |")
        parts.append("")
    return "\n".join(parts)


def import_page() -> str:
    """Every field of the other programs with what it is here."""
    parts = [IMPORT]
    for program, rows in FIELDS.items():
        parts.append(f"### {PROGRAMS[program]}\n\n| field | here | how |\n|---|---|---|")
        parts += [f"| `{row.name}` | `{row.ours}` | {_how(row)} |" for row in rows if row.ours]
        parts.append("\n| left out | because |\n|---|---|")
        reasons: dict[str, list[str]] = {}
        for row in rows:
            if row.left_out:
                reasons.setdefault(row.note, []).append(f"`{row.name}`")
        parts += [f"| {', '.join(names)} | {note} |" for note, names in reasons.items()]
        parts.append("")
    return "\n".join(parts)


def _how(row: Counterpart) -> str:
    if row.note:
        return row.note
    if row.part and row.ours.startswith("scheme."):
        return "part of the scheme"
    if row.part and row.ours == "sample.prompts":
        return "part of the prompts"
    return "same" if row.convert is None or row.part else "written differently"


def _default(value: object) -> str:
    if isinstance(value, list) and value and hasattr(value[0], "learning_rate"):
        return "`" + ", ".join(f"{item.learning_rate:g}:{item.steps}" for item in value) + "`"
    return f"`{str(value).lower() if isinstance(value, bool) else value!r}`"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")

"""Mutation tests of the core logic: `python -m tools.mutation [MODULE ...] [--sample 40] [--seed 1] [--list]`.

mutmut changes one thing at a time in a module (a comparison, a number, an argument, ...) and runs the tests that get
there; a change that no test sees, a survivor, is printed as a diff. Needs the extra `mutation`. MODULE is a name from
MODULES, such as `run/scheme`; without any all are mutated. The figures hold for n mutants of each module, drawn with a
fixed seed, or for all of them with `--sample 0`. The tree stays as it is: all happens in a copy.

Not counted are changes to wording (inside a string that holds a blank, and in the arguments of an error that is
raised), to the arguments `encoding=` and `strict=`, and in functions of AT_IMPORT. mutmut does not change constants of
a module, nor functions with a decorator (properties, cached functions).
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import itertools
import os
import random
import shutil
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import tomli_w

ROOT = Path(__file__).parents[1]

MODULES: dict[str, tuple[str, ...]] = {
    "run/evaluations": ("run/test_evaluations.py", "run/test_verdicts.py"),
    "run/events": ("run/test_events.py",),
    "run/field_values": ("run/test_field_values.py", "run/test_file.py"),
    "run/file": ("run/test_file.py",),
    "run/folder": ("run/test_folder.py",),
    "run/history": ("run/test_history.py",),
    "run/memory": ("run/test_memory.py",),
    "run/memory_fit": ("run/test_memory.py", "run/test_memory_fit.py", "setup/test_plan.py"),
    "run/overhead": ("run/test_overhead.py",),
    "run/plan": ("run/test_plan.py", "setup/test_plan.py", "run/test_memory.py"),
    "run/problems": ("run/test_problems.py", "run/test_file.py"),
    "run/rate_search": ("run/test_rate_search.py",),
    "run/recipe": ("run/test_recipe.py", "run/test_file.py"),
    "run/requests": ("run/test_requests.py",),
    "run/sample_prompts": ("run/test_sample_prompts.py",),
    "run/scheme": ("run/test_scheme.py",),
    "run/smoothing": ("run/test_smoothing.py",),
    "run/toml_lines": ("run/test_toml_lines.py", "run/test_file.py"),
    "run/verdicts": ("run/test_verdicts.py",),
    "training/batches": ("training/test_batches.py",),
    "training/evaluation": ("training/test_evaluator.py",),
    "training/norms": ("training/test_norms.py",),
    "training/objective": ("training/test_objective.py",),
    "training/optimizers": ("training/test_optimizers.py",),
    "training/randomness": ("training/test_batches.py",),
}
"""Modules of ti_tui, and the files in tests/ that test them."""

AT_IMPORT = ("ti_tui.run.recipe.x__field__",)
"""Functions that are called only while their module is imported, which is before a mutant can be chosen."""
SLOW = (
    "coefficients_are_those", "read_only_run", "is_not_installed", "million_lines", "long_log", "turn_ends",
    "loads_no_large_library", "many_starters", "detached_process",
)  # fmt: skip
"""Tests that take seconds, and whose behaviour is covered by others too."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description="Mutation tests of the core logic.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as run/scheme; without any, all")
    parser.add_argument("--sample", type=int, default=40, help="mutants of each module (0: all)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--list", action="store_true", help="list the modules and end")
    asked = parser.parse_args(arguments)
    if asked.list:
        print("\n".join(MODULES))
        return 0
    if unknown := set(asked.modules) - set(MODULES):
        parser.error(f"unknown: {', '.join(sorted(unknown))} (--list shows the modules)")
    # Before numpy and torch are imported: each mutant has a process of its own.
    os.environ |= {"OMP_NUM_THREADS": "1"}
    with mutable_copy(asked.modules or list(MODULES)):
        return report(run_mutants(asked.sample, asked.seed))


@contextlib.contextmanager
def mutable_copy(modules: Sequence[str]) -> Iterator[None]:
    """A folder that shows the project with mutmut's settings for these modules, as the working directory."""
    tests = dict.fromkeys(test for module in modules for test in MODULES[module] if (ROOT / "tests" / test).exists())
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    settings["tool"]["mutmut"] = {
        "source_paths": ["ti_tui"],
        "only_mutate": [f"ti_tui/{module}.py" for module in modules],
        "also_copy": ["tests", "themes", "benchmarks", "docs", "tools", "README.md"],
        "pytest_add_cli_args": [
            "-n0",
            "-p",
            "no:cacheprovider",
            "--hypothesis-profile=mutation",
            "-k",
            " and ".join(f"not {name}" for name in SLOW),
        ],
        "pytest_add_cli_args_test_selection": [f"tests/{test}" for test in tests],
        "use_git_change_detection": False,
        "track_dependencies": False,
        "timeout_multiplier": 5.0,
        "timeout_constant": 3.0,
    }
    before, folder = Path.cwd(), Path(tempfile.mkdtemp(prefix="mutation-"))
    try:
        for name in ("ti_tui", "tests", "themes", "benchmarks", "docs", "tools", "README.md"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "pyproject.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
        os.chdir(folder)
        yield
    finally:
        os.chdir(before)
        shutil.rmtree(folder)


def run_mutants(sample: int, seed: int) -> dict[str, str]:
    """Make all mutants, run a sample of each module; what became of each, by its name."""
    # mutmut reads its settings when it is imported.
    from mutmut import __main__ as mutmut
    from mutmut.stats import status_by_exit_code

    mutmut.set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir()
    with contextlib.redirect_stdout(sys.stderr):
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.setup_source_paths()
        mutmut.create_mutants(os.cpu_count() or 1)
    mutants, _ = mutmut.collect_source_file_mutation_data(mutant_names=())
    by_path: dict[str, list[str]] = {}
    for data, name, _result in mutants:
        by_path.setdefault(str(data.path), []).append(name)
    chosen: list[str] = []
    for path, names in by_path.items():
        shuffled = random.Random(f"{seed} {path}").sample(sorted(names), len(names))
        counted = (name for name in shuffled if not name.startswith(AT_IMPORT) and not is_wording(name, path))
        chosen += itertools.islice(counted, sample or None)
    # Its progress is written there, wherever stdout is redirected to; ours is for the figures.
    before, sys.__stdout__ = sys.__stdout__, sys.stderr  # type: ignore[misc]
    mutmut._run(chosen, None)
    sys.stdout = sys.__stdout__ = before  # type: ignore[misc]
    wanted, found = set(chosen), {}
    for data, name, _result in mutmut.collect_source_file_mutation_data(mutant_names=())[0]:
        if name in wanted:
            found[name] = status_by_exit_code[data.exit_code_by_key[name]]
    return found


def report(found: dict[str, str]) -> int:
    """Print the survivors as diffs, and the counts; 0 if nothing survived."""
    from mutmut.mutation.diff_apply import find_mutant, get_diff_for_mutant

    counts: dict[str, Counter[str]] = {}
    for name, status in found.items():
        path = str(find_mutant(name).path)
        counts.setdefault(path, Counter())[status] += 1
        if status != "killed":
            print(f"\n{status}: {name}")
            print("\n".join(get_diff_for_mutant(name, path=path).splitlines()[2:]))
    total = sum(counts.values(), Counter[str]())
    print(f"\n{'module':32} {'n':>5} {'killed':>7} {'survived':>9} {'timeout':>8} {'no test':>8}   share")
    for path, count in [*counts.items(), ("total", total)]:
        n, caught = count.total(), count["killed"] + count["timeout"]
        columns = f"{count['killed']:>7} {count['survived']:>9} {count['timeout']:>8} {count['no tests']:>8}"
        print(f"{path:32} {n:>5} {columns}   {caught / max(n, 1):.0%}")
    return int(total["killed"] + total["timeout"] < total.total())


def is_wording(name: str, path: str) -> bool:
    """Whether a mutant differs from the original only by what no test is to hold: see the top of this module."""
    from mutmut.mutation.diff_apply import read_functions_from_index

    functions = read_functions_from_index(name, path)
    if functions is None:
        return False
    before, after = (ast.dump(_Wordless().visit(ast.parse(_code(function)))) for function in functions)
    return before == after


def _code(function: object) -> str:
    import libcst

    return libcst.Module([function]).code  # type: ignore[list-item]


class _Wordless(ast.NodeTransformer):
    """Removes from a function the parts that are ignored."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in ("encoding", "strict")]
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("words") if isinstance(node.value, str) and " " in node.value else node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        return self.generic_visit(node)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

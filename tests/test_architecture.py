"""The shape of the program: what may import what is said in pyproject.toml; here is what import-linter cannot say."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import ti_tui

PACKAGE = Path(ti_tui.__file__).parent
FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))
}
TYPE_NAME = re.compile(r"[A-Z]\w*[a-z]\w*")
LONGEST_FILE = 400
LARGEST_SETUP = 3500


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """The modules of ti_tui that a file imports anywhere: within functions and for type checkers too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path} imports relatively"
            names = (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
            yield from (name for name in names if name in FILES)


def public_types(path: Path) -> Iterator[str]:
    """The classes and type aliases at the top of a file; type variables are no types of their own."""
    for node in tree(path).body:
        match node:
            case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
                continue
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if TYPE_NAME.fullmatch(name):
                    yield name
            case ast.ClassDef(name=name) if not name.startswith("_"):
                yield name


def lines_of(path: Path) -> int:
    """How long a file is."""
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: set(imports(path)) - {name} for name, path in FILES.items()}
    assert sum(map(len, graph.values())) > len(FILES)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from None


def test_a_public_type_name_means_one_thing() -> None:
    owners = defaultdict(list)
    for module, path in FILES.items():
        for name in public_types(path):
            owners[name].append(module)
    assert {"RunFolder", "Draft", "Line"} <= owners.keys()
    assert {name: modules for name, modules in owners.items() if len(modules) > 1} == {}


def test_no_file_is_too_long_to_read() -> None:
    lengths = {module: lines_of(path) for module, path in FILES.items()}
    assert {module: length for module, length in lengths.items() if length > LONGEST_FILE} == {}


def test_the_wizards_room_stays_small() -> None:
    assert sum(lines_of(path) for path in (PACKAGE / "setup").glob("*.py")) <= LARGEST_SETUP


def writes_to_the_terminal(path: Path) -> Iterator[int]:
    """Lines that print without `terminal`, which makes text harmless."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                yield node.lineno
            case ast.Call(func=ast.Attribute(value=ast.Name(id="click"), attr="echo" | "secho")):
                yield node.lineno
            case ast.Attribute(value=ast.Name(id="sys"), attr="__stdout__" | "__stderr__"):
                yield node.lineno
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="stdout" | "stderr"), attr="write")):
                yield node.lineno


def test_text_reaches_the_terminal_in_one_way() -> None:
    found = {module: list(writes_to_the_terminal(path)) for module, path in FILES.items()}
    assert found.pop("ti_tui.terminal")
    # The help, which is our own text.
    assert len(found.pop("ti_tui.cli")) == 1
    # Textual's own protocol with the terminal.
    found.pop("ti_tui.widgets.graphics")
    assert {module: lines for module, lines in found.items() if lines} == {}


BARE_READS = {"json.load", "json.loads", "tomllib.load", "tomllib.loads", "torch.load", "pickle.load", "pickle.loads",
              "zipfile.ZipFile", "load_file", "numpy.load", "np.load"}  # fmt: skip
MAY_READ_BARE = {
    "ti_tui.bounded": "the bounded readers",
    "ti_tui.run.events": "one line at a time, its values checked",
    "ti_tui.run.weight_shapes": "a zip file whose pickle is looked through first",
    "ti_tui.embeddings.torch_files": "a .pt file that is looked through first",
    "ti_tui.training.weights": "a .ckpt file whose shapes were read first; weights only",
    "ti_tui.training.checkpoints": "a run's own states; weights only",
    "ti_tui.training.latents": "a run's own cache; what is damaged is made again",
    "ti_tui.jobs.runner": "answers of our own process",
    "ti_tui.jobs.comparing": "a request of our own process",
    "ti_tui.captioning.__main__": "a request of our own process",
    "ti_tui.dataset.faces": "answers of our own process",
    "ti_tui.setup.demo": "shipped with the program",
    "ti_tui.run.model": "shipped with the program",
    "ti_tui.run.memory": "shipped with the program",
}


def bare_reads(path: Path) -> Iterator[str]:
    """Calls that parse a file or a text of any size and depth."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in BARE_READS:
            yield f"{name}, line {node.lineno}"


def test_what_others_may_have_written_is_read_in_one_way() -> None:
    found = {module: list(bare_reads(path)) for module, path in FILES.items()}
    assert {module: calls for module, calls in found.items() if calls and module not in MAY_READ_BARE} == {}
    assert {module for module in MAY_READ_BARE if not found[module]} == set(), "these read so no longer"

"""The parts of the house style that a program can check."""

import ast
import importlib
import inspect
import re

import pytest
from house import modules, tree

from failwb.record.provenance import import_closure
from failwb.workbench import STAGES, load_stage

LONGEST = 45  # lines of a function; the style asks for 20, and the report names those that are longer
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "tools", "lib", "base", "core"}
SORTS = {"sort_values", "argsort"}
CLOCKS = {
    "now",
    "utcnow",
    "today",
    "time",
    "monotonic",
    "perf_counter",
    "gethostname",
    "getuser",
    "uuid1",
    "uuid4",
    "getpid",
}
CLOCK_MODULES = {"datetime", "dt", "date", "Timestamp", "pd", "time", "socket", "getpass", "uuid", "os", "platform"}
LIVE = {  # functions in a stage's closure that no stage calls: only live commands may ask for the clock
    ("failwb.vault.ledger", "append"),
    ("failwb.vault.ledger", "write_new"),
    ("failwb.record.surroundings", "pinned"),  # asks whether there is a user's name, for a Dask worker
    ("failwb.remedy.kernels", "look"),  # limits, which no result depends on
    ("failwb.remedy.kernels", "become_kernel"),  # tells its number to the runner
    ("failwb.remedy.experiment", "note"),  # the trace of openings, which is no output
}


def calls(node: ast.AST) -> list[ast.Call]:
    return [n for n in ast.walk(node) if isinstance(n, ast.Call)]


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def unstable_sorts(source: ast.AST) -> list[int]:
    "Lines that sort without kind='stable': ties would fall as the machine likes."
    stable = {
        c
        for c in calls(source)
        for k in c.keywords
        if k.arg == "kind" and isinstance(k.value, ast.Constant) and k.value.value == "stable"
    }
    return sorted(c.lineno for c in calls(source) if called(c) in SORTS and c not in stable)


def clock_reads(source: ast.AST, live: set[str]) -> list[int]:
    "Lines that ask for the clock, the host or the process, outside the functions named in `live`."
    excused = {n for f in functions(source) if f.name in live for n in ast.walk(f)}
    asked = [c for c in calls(source) if c not in excused and isinstance(c.func, ast.Attribute)]
    return sorted(
        c.lineno for c in asked if c.func.attr in CLOCKS and ast.unparse(c.func.value).split(".")[0] in CLOCK_MODULES
    )


def functions(source: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in ast.walk(source) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function: ast.FunctionDef) -> int:
    return function.end_lineno - function.lineno + 1


STAGE_CODE = sorted({m for module in STAGES.values() if module in modules() for m in import_closure(module)})


@pytest.mark.parametrize("source, lines", [
    ("t.sort_values('a')", [1]),
    ("t.sort_values(['a', 'id'], kind='stable')", []),
    ("np.argsort(x, kind='quicksort')", [1]),
    ("np.argsort(x, kind='stable')[::-1]", []),
    ("t.sort_values('a',\n  kind='stable').argsort()", [1]),
])  # fmt: skip
def test_the_rule_finds_an_unstable_sort(source, lines):
    assert unstable_sorts(ast.parse(source)) == lines


@pytest.mark.parametrize("source, lines", [
    ("dt.datetime.now()", [1]),
    ("x = 1\ntime.time()", [2]),
    ("pd.Timestamp.now('UTC')", [1]),
    ("event.time()", []),
    ("def append():\n  dt.datetime.now()", []),
])  # fmt: skip
def test_the_rule_finds_a_clock(source, lines):
    assert clock_reads(ast.parse(source), live={"append"}) == lines


@pytest.mark.parametrize("module, path", modules().items())
def test_sorts_are_stable(module, path):
    assert unstable_sorts(tree(path)) == []


@pytest.mark.parametrize("module", STAGE_CODE)
def test_a_stage_asks_for_no_clock_and_no_host(module):
    assert clock_reads(tree(modules()[module]), {name for m, name in LIVE if m == module}) == []


@pytest.mark.parametrize("module, path", modules().items())
def test_no_hidden_parallelism_and_no_global_random_state(module, path):
    one = ("1", "None")
    found = [
        c.lineno for c in calls(tree(path)) for k in c.keywords if k.arg == "n_jobs" and ast.unparse(k.value) not in one
    ]
    text = [ast.unparse(c.func) for c in calls(tree(path))]
    allowed = ("default_rng", "Generator", "SeedSequence", "PCG64")
    found += [t for t in text if re.fullmatch(r"(np|numpy)\.random\.\w+", t) and not t.endswith(allowed)]
    found += [t for t in text if re.match(r"random\.(random|randint|choice|shuffle|sample|seed)$", t)]
    assert found == []


@pytest.mark.parametrize("module, path", modules().items())
def test_functions_are_short(module, path, record_property):
    sizes = {f"{module}.{f.name}": length(f) for f in functions(tree(path))}
    for found in (item for item in sizes.items() if item[1] > 20):
        record_property("long function", found)
    assert {name: lines for name, lines in sizes.items() if lines > LONGEST} == {}


@pytest.mark.parametrize("module", modules())
def test_a_module_is_named_for_its_idea(module):
    assert set(re.split(r"[._]", module)[1:]) & VAGUE == set()


@pytest.mark.parametrize("module, path", modules().items())
def test_imports_are_named(module, path):
    stars = [n.lineno for n in ast.walk(tree(path)) if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"]
    assert stars == []


@pytest.mark.parametrize("module", modules())
def test_what_is_public_says_what_it_does(module):
    loaded = importlib.import_module(module)
    own = {
        n: v for n in getattr(loaded, "__all__", ()) if inspect.isroutine(v := getattr(loaded, n)) or inspect.isclass(v)
    }
    silent = [n for n, v in own.items() if v.__module__ == module and not v.__dict__.get("__doc__", v.__doc__)]
    untyped = [
        n
        for n, v in own.items()
        if inspect.isfunction(v) and v.__module__ == module and "return" not in v.__annotations__
    ]
    assert {"no docstring": silent, "no return type": untyped} == {"no docstring": [], "no return type": []}


@pytest.mark.parametrize("verb", STAGES)
def test_params_yaml_is_the_only_home_of_a_default(verb):
    given = inspect.signature(load_stage(verb).run).parameters.values()
    assert [p.name for p in given if p.default is not p.empty] == []
    assert {p.kind for p in given} <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("verb", STAGES)
def test_every_table_of_a_stage_has_an_argument(verb):
    stage = load_stage(verb)
    positional = [n for n, p in inspect.signature(stage.run).parameters.items() if p.kind is not p.KEYWORD_ONLY]
    assert sorted(positional) == sorted(stage.reads)

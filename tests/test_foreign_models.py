"""ONNX graphs and functions answer like what they came from, stand behind a remedy, or are one clear message."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import estimators
import numpy as np
import onnx
import pytest
from house import failwb, run, said
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from failwb.models.checkpoint import load_checkpoint, save_checkpoint
from failwb.models.foreign import refittable
from failwb.models.load import check_model_plugin, load_model
from failwb.models.train import fit
from failwb.models.wrappers import UnitFix, before
from failwb.record.contract import Contract, contract_yaml
from failwb.record.errors import FailwbError
from failwb.record.plugins import known, load
from failwb.remedy.propose import not_at_hand
from failwb.remedy.trial import example_workbench, open_trial
from failwb.workbench import Workbench

X, TARGETS = estimators.table()
X["amount"] = X["amount"].fillna(20.0).astype("float32").astype("float64")  # what single precision holds exactly
TEXT = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
FIELDS = {name: {"type": "category" if name in estimators.TEXTS else "number"} for name in X}
ABOUT = {"name": "bills", "version": "1", "owner": "a", "review_by": "2030-01-01", "target": "state", "columns": FIELDS}
CONTRACTS = {
    "binary": Contract(**ABOUT, positive="late", negative="paid"),
    "multiclass": Contract(**ABOUT, task="multiclass", classes=["low", "middle", "high"]),
    "regression": Contract(**ABOUT, task="regression", tolerance=1.0),
}
COLUMN = {"amount": FloatTensorType, "age": FloatTensorType, "region": StringTensorType, "housing": StringTensorType}
LAST = [
    ("logistic-binary", "binary", LogisticRegression()),
    ("logistic-multiclass", "multiclass", LogisticRegression()),
    ("forest-binary", "binary", RandomForestClassifier(5, random_state=0)),
    ("forest-multiclass", "multiclass", RandomForestClassifier(5, random_state=0)),
    ("network-multiclass", "multiclass", MLPClassifier(hidden_layer_sizes=(4,), max_iter=30, random_state=0)),
    ("linear-regression", "regression", LinearRegression()),
    ("boosting-regression", "regression", GradientBoostingRegressor(n_estimators=5, random_state=0)),
    ("tree-regression", "regression", DecisionTreeRegressor(max_depth=4)),
]


def exported(model, file: Path, inputs=None, **options) -> Path:
    inputs = inputs or [(name, kind([None, 1])) for name, kind in COLUMN.items()]
    file.write_bytes(to_onnx(model, initial_types=inputs, options=options or None).SerializeToString())
    return file


def trained(task: str, last, first=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # thirty rounds are not enough for a network, and enough for this
        return make_pipeline(first or estimators.columns(StandardScaler(), TEXT), last).fit(X, TARGETS[task])


def answers(model, task: str, rows=X) -> np.ndarray:
    return model.predict(rows) if task == "regression" else model.predict_proba(rows)


@pytest.mark.parametrize("zipmap", [True, False], ids=["zipmap", "tensor"])
@pytest.mark.parametrize("name, task, last", LAST, ids=[name for name, _, _ in LAST])
def test_a_graph_answers_like_what_it_came_from(tmp_path, name, task, last, zipmap):
    if task == "regression" and zipmap:
        pytest.skip("only classes come in a ZipMap")
    trees = (
        "forest" in name or "tree" in name
    )  # a scaled number may fall on the other side of a threshold in single precision
    model = trained(task, last, estimators.columns("passthrough", TEXT) if trees else None)
    file = exported(model, tmp_path / "m.onnx", **({} if task == "regression" else {"zipmap": zipmap}))
    plugin = load("model", "onnx")
    graph = plugin.load(str(file), sha256=plugin.identity(str(file), {}), options={"task": task})
    assert list(graph.feature_names_in_) == list(X)
    if task != "regression":
        assert list(graph.classes_) == list(model.classes_)
    assert np.allclose(answers(graph, task), answers(model, task), atol=1e-5, rtol=1e-5)
    assert np.array_equal(answers(graph, task), answers(graph, task))


@pytest.mark.parametrize(
    "kind, number",
    [(FloatTensorType, 4.0), (Int64TensorType, 4.0)],
)
def test_one_matrix_and_whole_numbers(tmp_path, kind, number):
    numbers = X[["age"]].assign(rooms=number)
    model = LogisticRegression().fit(numbers.to_numpy(), TARGETS["binary"])
    file = exported(model, tmp_path / "m.onnx", [("X", kind([None, 2]))], zipmap=False)
    plugin = load("model", "onnx")
    graph = plugin.load(str(file), sha256=plugin.identity(str(file), {}), options={})
    assert graph.n_features_in_ == 2 and np.allclose(
        graph.predict_proba(numbers), model.predict_proba(numbers.to_numpy()), atol=1e-6
    )


def sigmoid(file: Path) -> Path:
    "A graph as a network's export looks: one matrix, one probability."
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    outputs = [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])]
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sigmoid", ["mean"], ["p"]),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "net", inputs, outputs, [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), file)
    return file


def test_one_probability_becomes_two(tmp_path):
    loaded = load_model(sigmoid(tmp_path / "net.onnx"), CONTRACTS["binary"], X, options={"features": ["amount", "age"]})
    p = loaded.model.predict_proba(X)
    assert loaded.features == ("amount", "age") and loaded.classes == ("paid", "late") and np.allclose(p.sum(axis=1), 1)


RULES = """
import os, time
import numpy as np

def score(t):
    return 1 / (1 + np.exp(3 - np.log(t["amount"].to_numpy())))

def labels(t):
    return np.where(t["amount"] > 20, "late", "paid")

def percent(t):
    return 100 * score(t)

def short(t):
    return score(t)[:-1]

def asleep(t):
    time.sleep(60)

def hungry(t):
    return np.ones((len(t), 10**11))

def dead(t):
    os.abort()

def moody(t):
    return np.random.default_rng().random(len(t))
"""


@pytest.fixture
def rules(tmp_path) -> Path:
    (tmp_path / "rules.py").write_text(RULES)
    return tmp_path / "rules.py"


@pytest.mark.parametrize(
    "function, options, says",
    [
        ("labels", {}, "could not convert string"),
        ("percent", {}, "Allowed: probabilities, from 0 to 1"),
        ("short", {}, "one probability a class"),
        ("nothing", {}, "no function 'nothing'"),
        ("asleep", {"seconds": 8}, "within 8 seconds"),
        ("hungry", {}, "memory"),
        ("dead", {}, "crashed the process"),
        ("score", {"trust": False}, "Nothing was run"),
        ("score", {"options": {"classes": ["good", "bad"]}}, "The model's classes are good, bad"),
        ("score", {"options": {"features": ["price"]}}, "price"),
    ],
)
def test_a_function_that_does_not_do_is_one_message(rules, function, options, says):
    with pytest.raises(FailwbError) as refused:
        load_model(f"{rules}:{function}", CONTRACTS["binary"], X, **{"trust": True} | options)
    assert says in str(refused.value)


def test_a_function_without_a_seed_is_a_warning(rules):
    loaded = load_model(f"{rules}:moody", CONTRACTS["binary"], X, trust=True)
    assert "differently each time" in loaded.warnings[0]


@pytest.mark.parametrize("name, content, says", [
    ("empty", b"", "no ONNX model"),
    ("text", b"graph", "no ONNX model"),
    ("cut", lambda file: exported(trained("binary", LogisticRegression()), file).read_bytes()[:500], "no ONNX model"),
    ("numbers", lambda f: exported(trained("regression", LinearRegression()), f).read_bytes(), "answered numbers"),
])  # fmt: skip
def test_a_file_that_is_no_graph_for_this_is_one_message(tmp_path, name, content, says):
    file = tmp_path / "m.onnx"
    file.write_bytes(content(file) if callable(content) else content)
    with pytest.raises(FailwbError, match=says):
        load_model(file, CONTRACTS["binary"], X)


def made(kind: str, folder: Path) -> tuple[str, dict]:
    "A source of `kind`, and what has to be said with it."
    if kind == "callable":
        (folder / "rules.py").write_text(RULES)
        return f"{folder / 'rules.py'}:score", {"trust": True}
    return str(exported(trained("binary", LogisticRegression()), folder / "m.onnx", zipmap=False)), {}


@pytest.mark.parametrize("kind", ["onnx", "callable"])
def test_it_is_kept_and_stands_behind_a_remedy(tmp_path, kind):
    source, consent = made(kind, tmp_path)
    loaded = load_model(source, CONTRACTS["binary"], X, **consent)
    about = {"features": list(loaded.features), "positive": "late", "negative": "paid"}
    kept = save_checkpoint(tmp_path / "v1", loaded.model, form=loaded.form, **about)
    Path(source.rsplit(":", 1)[0] if kind == "callable" else source).unlink()  # the checkpoint needs nothing outside
    assert kept.sha256 == loaded.form.sha256 and not refittable(kept.model)
    assert np.array_equal(load_checkpoint(tmp_path / "v1").model.predict_proba(X), loaded.model.predict_proba(X))
    wrapped = before(kept.model, "unit", UnitFix("amount", 1000.0, 500.0))
    candidate = save_checkpoint(tmp_path / "candidate", wrapped, parent="v1", origin="candidate", **about)
    sent = X.assign(amount=X["amount"] * 1000)
    assert np.allclose(candidate.model.predict_proba(sent), kept.model.predict_proba(X), atol=1e-6)


def test_a_skops_file_cannot_bring_a_function_in(tmp_path):
    source, consent = made("callable", tmp_path)
    loaded = load_model(source, CONTRACTS["binary"], X, **consent)
    save_checkpoint(
        tmp_path / "c",
        before(loaded.model, "unit", UnitFix("amount", 1e3, 500.0)),
        features=list(X),
        positive="late",
        negative="paid",
    )
    with pytest.raises(FailwbError, match="failwb.models.callable.CallableModel"):
        load_model(tmp_path / "c/model.skops", CONTRACTS["binary"], X)
    (tmp_path / "c/checkpoint.json").write_text(
        json.dumps(json.loads((tmp_path / "c/checkpoint.json").read_text()) | {"pins": "0" * 64})
    )
    with pytest.raises(FailwbError, match="another model than the one it pins"):
        load_checkpoint(tmp_path / "c")


@pytest.mark.parametrize("kind", ["onnx", "callable"])
def test_the_plug_in_keeps_its_promises(tmp_path, kind):
    check_model_plugin(load("model", kind), made(kind, tmp_path)[0], X.head(4), "binary")


@pytest.mark.parametrize("kind", ["onnx", "callable"])
def test_the_command_adds_it_to_a_workbench(tmp_path, kind):
    source, _ = made(kind, tmp_path)
    root = tmp_path / "bills"
    root.mkdir()
    (root / "contract.yaml").write_text(contract_yaml(CONTRACTS["binary"]))
    (root / "params.yaml").write_text("{}\n")
    X.assign(state=np.where(TARGETS["binary"] == 1, "late", "paid")).to_csv(tmp_path / "train.csv", index=False)
    (tmp_path / "notes.yaml").write_text("amount: in EUR\n")
    for command in (("git", "init", "-q"), ("dvc", "init", "-q")):
        assert run(*command, cwd=root).returncode == 0
    words = [
        "checkpoint",
        "add",
        source,
        "--train",
        tmp_path / "train.csv",
        "--notes",
        tmp_path / "notes.yaml",
        "--json",
    ]
    if kind == "callable":
        refused = failwb(*words, cwd=root)
        assert refused.returncode == 2 and "--trust" in said(refused)
        assert not (root / "data").exists()
        words.append("--trust")
    added = failwb(*words, cwd=root)
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)["kind"] == kind and (root / "data.dvc").is_file()
    kept = load_checkpoint(root / "data/checkpoints/v1")
    assert kept.notes == {"amount": "in EUR"} and "python" in kept.environment
    assert len(Workbench(root).read("data/reference/v1.parquet")) == len(X)
    assert kind in said(failwb("checkpoint", "list", cwd=root))


def test_a_remedy_that_refits_says_why_it_does_not_apply(tmp_path):
    "A served model that only answers leaves the remedies that keep it, and no traceback."
    [plan] = example_workbench(tmp_path / "shop", {})
    case = open_trial(tmp_path / f"shop/out/propose/plans/{plan}.json", tmp_path / "shop").case
    graph = load_model(
        sigmoid(tmp_path / "net.onnx"), CONTRACTS["binary"], X, options={"features": ["amount", "age"]}
    ).model
    served = replace(case, base=replace(case.base, model=graph))
    said_of = {name: not_at_hand(remedy, served) for name, remedy in known("remedy").items()}
    refit = {name for name, remedy in known("remedy").items() if remedy.family == "refit"}
    assert {name for name, reason in said_of.items() if "only answers" in reason} == refit
    assert not any(not_at_hand(remedy, case) for remedy in known("remedy").values())
    with pytest.raises(FailwbError, match="cannot be trained again"):
        fit(graph, X[["amount", "age"]], TARGETS["binary"])

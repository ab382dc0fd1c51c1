"""A real MLServer, in an environment of its own, answers row for row; stopped, it is one message."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from peer import PEER, alone, free_port, settle_in, start

from failwb.models.checkpoint import load_checkpoint, save_checkpoint
from failwb.models.foreign import refittable
from failwb.models.load import check_model_plugin, load_model
from failwb.models.wrappers import UnitFix, before
from failwb.record.contract import Contract
from failwb.record.errors import FailwbError
from failwb.record.plugins import load

FEATURES = ["amount", "age", "region"]
TRAIN = """
import joblib, numpy as np, pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

X = pd.read_csv("rows.csv")
y = (X["amount"].fillna(0) + (X["region"] == "north") > 0.5).astype(int)
columns = ColumnTransformer([("number", "passthrough", ["amount", "age"]), ("text", OneHotEncoder(), ["region"])])
model = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=9)).fit(X, y)
number = make_pipeline(columns, HistGradientBoostingRegressor(max_iter=9)).fit(X, X["amount"].fillna(0) + X["age"])
matrix = HistGradientBoostingClassifier(max_iter=9).fit(X[["amount", "age"]].to_numpy(), y)
for name, fitted in (("columns", model), ("number", number), ("matrix", matrix)):
    joblib.dump(fitted, name + "/model.joblib")
both = model.predict_proba(X), matrix.predict_proba(X[["amount", "age"]].to_numpy())
np.savez("wanted.npz", columns=both[0], number=number.predict(X), matrix=both[1])
"""
NAMED = [
    {"name": n, "datatype": d, "shape": [-1, 1]} for n, d in (("amount", "FP64"), ("age", "FP64"), ("region", "BYTES"))
]
SERVED = {  # model -> what its metadata say beside the name
    "columns": {"inputs": NAMED, "outputs": [{"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2]}]},
    "number": {},
    "matrix": {"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]},
}
ABOUT = {"name": "credit", "version": "1", "owner": "a", "review_by": "2030-01-01", "target": "state"}
FIELDS = {"amount": {"type": "number"}, "age": {"type": "number"}, "region": {"type": "category"}}
CREDIT = Contract(**ABOUT, positive="late", negative="paid", columns=FIELDS)
PAIR = Contract(**ABOUT, positive="late", negative="paid", columns={n: FIELDS[n] for n in ("amount", "age")})
PRICE = Contract(**ABOUT, task="regression", tolerance=1.0, columns=FIELDS)
PROBABILITIES = {"output": "predict_proba"}


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"amount": rng.normal(size=301), "age": rng.integers(18, 80, 301).astype(float)})
    X.loc[::13, "amount"] = np.nan
    return X.assign(region=rng.choice(["north", "south"], 301))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> tuple[Path, str]:
    "A folder with models that were trained in the server's own environment, and the address that it will have."
    if not (PEER / "mlserver").is_file():
        pytest.fail("MLServer is not installed. Hint: `make peers`, or `make test`.", pytrace=False)
    folder, models = tmp_path_factory.mktemp("mlserver"), {}
    for name, said in SERVED.items():
        models[name] = {"implementation": "mlserver_sklearn.SKLearnModel", **said}
        models[name]["parameters"] = {"uri": "./model.joblib", "version": "v1"}
    address = settle_in(folder, models)
    rows().to_csv(folder / "rows.csv", index=False)
    subprocess.run([PEER / "python", "-c", TRAIN], cwd=folder, env=alone(), check=True)
    return folder, address


@pytest.fixture(scope="module")
def server(place):
    process = start(*place)
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def wanted(place) -> dict[str, np.ndarray]:
    return dict(np.load(place[0] / "wanted.npz"))


@pytest.mark.parametrize(
    "name, contract, options",
    [
        ("columns", CREDIT, {"batch": 100}),  # the metadata name columns and output
        ("number", PRICE, {"features": FEATURES}),  # the metadata say nothing
        ("matrix", PAIR, PROBABILITIES),  # the metadata ask for one matrix
    ],
)
def test_it_answers_row_for_row_what_the_server_s_own_model_answers(place, server, wanted, name, contract, options):
    X = rows()[contract.features]
    loaded = load_model(f"{place[1]}/{name}", contract, X, options=options)
    ask = loaded.model.predict if contract.task == "regression" else loaded.model.predict_proba
    assert np.array_equal(ask(X), wanted[name])
    assert loaded.features == tuple(contract.features) and not refittable(loaded.model) and loaded.warnings == ()


def test_a_checkpoint_keeps_the_description_and_stands_behind_a_remedy(place, server, wanted, tmp_path):
    loaded = load_model(f"{place[1]}/columns", CREDIT, rows())
    about = {"features": FEATURES, "positive": "late", "negative": "paid"}
    saved = save_checkpoint(tmp_path / "v1", loaded.model, form=loaded.form, **about)
    assert [p.name for p in (tmp_path / "v1").iterdir()] == ["checkpoint.json"] and saved.kind == "remote"
    assert np.array_equal(load_checkpoint(tmp_path / "v1").model.predict_proba(rows()), wanted["columns"])
    wrapped = before(saved.model, "unit", UnitFix("age", 100.0, 1000.0))
    candidate = save_checkpoint(tmp_path / "candidate", wrapped, **about)
    sent = rows().assign(age=lambda t: t["age"] * 100)
    assert np.array_equal(candidate.model.predict_proba(sent), wanted["columns"])
    with pytest.raises(FailwbError, match="failwb.models.remote.RemoteModel"):
        load_model(tmp_path / "candidate/model.skops", CREDIT, rows())


def test_the_plug_in_keeps_its_promises(place, server):
    check_model_plugin(load("model", "remote"), f"{place[1]}/columns", rows().head(4), "binary")


@pytest.mark.parametrize(
    "path, contract, options, says",
    [
        ("/no-such", CREDIT, {}, "has no model at"),
        ("/number", CREDIT, {"features": FEATURES}, "Allowed: probabilities"),
        ("/matrix", PAIR, {}, "answers predict (INT64): no probabilities"),
        ("/matrix", CREDIT, PROBABILITIES | {"features": FEATURES}, "wants 2 columns, and there are 3"),
        ("/columns", PAIR, {}, "region"),
        ("/columns", CREDIT, {"output": "odds"}, "refuses (400)"),
        ("/columns", CREDIT, {"seconds": 0.001}, "did not answer within"),
        ("/columns", CREDIT, {"speed": 1}, "has no option speed"),
        ("/columns", CREDIT, {"classes": ["good", "bad"]}, "classes are good, bad"),
    ],
)
def test_what_does_not_fit_is_one_message(place, server, path, contract, options, says):
    with pytest.raises(FailwbError) as refused:
        load_model(place[1] + path, contract, rows()[contract.features], options=options)
    assert says in str(refused.value)


def test_a_server_of_something_else_is_named(tmp_path):
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    (tmp_path / "v2/models").mkdir(parents=True)
    (tmp_path / "v2/models/credit").write_text("hello")
    try:
        with pytest.raises(FailwbError, match="no endpoint of the Open Inference Protocol v2"):
            load("model", "remote").identity(f"http://127.0.0.1:{port}/v2/models/credit", {})
    finally:
        server.kill()
        server.wait()


def test_killed_in_the_middle_it_is_one_message(place, server):
    "Last: afterwards the server is gone."
    model = load_model(f"{place[1]}/columns", CREDIT, rows(), options={"batch": 1}).model
    model.predict_proba(rows().head(3))
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    with pytest.raises(FailwbError, match="is down: tried 3 times"):
        model.predict_proba(rows())

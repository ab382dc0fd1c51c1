"""Every remedy on every task that it claims: for a scikit-learn pipeline, an ONNX file and a real MLServer.

What needs only the answers of the served model works on all three; what trains it again says why it cannot.
"""

import json
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ailing import ADVICE, REMEDIES, WRONG, bent, redrawn, without
from peer import PEER, alone, settle_in, start
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from failwb.models.answer import answer
from failwb.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from failwb.models.load import load_model
from failwb.models.outputs import line_of
from failwb.record.plugins import Reject, tasks_of
from failwb.record.tables import canonical, features, settle
from failwb.record.task import PROBABILITY, encode, numbers, task_of
from failwb.remedy.cases import Case, served_answers, served_loss
from failwb.remedy.propose import not_at_hand
from failwb.remedy.simulate import simulate
from failwb.remedy.toy import toy_case, toy_contract, toy_table, unchanged

FORMS = ("pipeline", "onnx", "remote")
TASKS = ("binary", "multiclass", "regression")
COLUMNS = {"income": FloatTensorType, "debt": FloatTensorType, "region": StringTensorType}
CLAIMS = {name: tasks for name, (_, tasks, *_) in (WRONG | ADVICE).items()}
MATRIX = [(form, name, task) for name, tasks in sorted(CLAIMS.items()) for task in tasks for form in FORMS]
MENDED = "category_mapping fallback multicalibrate recalibrate slice_expert slice_threshold threshold unit_fix".split()
TAUGHT = {"usual": unchanged, "without": without}  # what the models behind an endpoint were trained on


def columns() -> ColumnTransformer:
    "What a team puts before its model: gaps filled, categories as indicators."
    text = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("number", SimpleImputer(), ["income", "debt"]), ("text", text, ["region"])])


def trained(task: str, table: pd.DataFrame, **sizes):
    "A pipeline of a team's own: it knows the classes by name, and so in the order of the alphabet."
    trees, sizes = GradientBoostingClassifier, {"n_estimators": 10, "learning_rate": 0.3, "random_state": 0} | sizes
    y = table["label"].to_numpy(object)
    if task == "regression":
        trees, y = GradientBoostingRegressor, numbers(table["label"])
    weights = {f"{trees.__name__.lower()}__sample_weight": table["weight"].to_numpy(float)}
    return make_pipeline(columns(), trees(**sizes)).fit(features(table), y, **weights)


@cache
def learnt(task: str, taught: str):
    return trained(task, TAUGHT[taught](toy_table(1500, 1, task)))


TRAIN = """
import json, joblib, pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

for name in json.load(open("names.json")):
    t = pd.read_csv(name + "/train.csv")
    text = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("number", SimpleImputer(), ["income", "debt"]), ("text", text, ["region"])])
    trees = GradientBoostingRegressor if name.startswith("regression") else GradientBoostingClassifier
    model = make_pipeline(columns, trees(n_estimators=10, learning_rate=0.3, random_state=0)).fit(t, t.pop("label"))
    joblib.dump(model, name + "/model.joblib")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    "The address of one MLServer with a model of each task and training table, trained in its own environment."
    if not (PEER / "mlserver").is_file():
        pytest.fail("MLServer is not installed. Hint: `make peers`, or `make test`.", pytrace=False)
    folder, models = tmp_path_factory.mktemp("mlserver"), {}
    types = {"income": "FP64", "debt": "FP64", "region": "BYTES"}
    inputs = [{"name": n, "datatype": d, "shape": [-1, 1]} for n, d in types.items()]
    for task in TASKS:
        output = {"name": "predict" if task == "regression" else "predict_proba", "datatype": "FP64", "shape": [-1, 1]}
        about = {"implementation": "mlserver_sklearn.SKLearnModel", "inputs": inputs, "outputs": [output]}
        models |= {f"{task}-{t}": about | {"parameters": {"uri": "./model.joblib", "version": t}} for t in TAUGHT}
    address = settle_in(folder, models)
    for name in models:
        task, taught = name.split("-")
        table = TAUGHT[taught](toy_table(1500, 1, task))
        features(table).assign(label=encode(task_of(toy_contract(task)), table["label"])).to_csv(
            folder / name / "train.csv", index=False
        )
    (folder / "names.json").write_text(json.dumps(sorted(models)))
    subprocess.run([PEER / "python", "-c", TRAIN], cwd=folder, env=alone(), check=True)
    process = start(folder, address)
    yield address
    process.kill()
    process.wait()


def handed_over(form: str, task: str, taught: str, folder: Path, address: str) -> tuple[str, dict]:
    "A model of the `form` that only answers, and what has to be said of it."
    if form == "remote":
        return f"{address}/{task}-{taught}", {}  # nobody names its classes: they stand in the contract's order
    inputs = [(name, kind([None, 1])) for name, kind in COLUMNS.items()]
    options = {} if task == "regression" else {"options": {"zipmap": False}}
    graph = to_onnx(learnt(task, taught), initial_types=inputs, **options)
    (folder / f"{task}-{taught}.onnx").write_bytes(graph.SerializeToString())
    return str(folder / f"{task}-{taught}.onnx"), {}


def about(task: str) -> dict:
    "What a checkpoint says of a model of the toy."
    contract = toy_contract(task)
    said = {n: getattr(contract, n) for n in ("positive", "negative", "task")}
    return said | {"classes": contract.classes or (), "features": list(COLUMNS)}


@pytest.fixture(scope="module")
def kept(server, tmp_path_factory):
    "Ask for the checkpoint of a form, a task and a training table; the door for foreign models tries each once."
    place = tmp_path_factory.mktemp("kept")

    @cache
    def taken(form: str, task: str, taught: str):
        source, options = handed_over(form, task, taught, place, server)
        rows = features(toy_table(60, 5, task))
        return load_model(source, toy_contract(task), rows, options=options)

    def keep(form: str, task: str, taught: str, folder: Path, parent: str | None = None) -> Checkpoint:
        if form == "pipeline":
            save_checkpoint(folder, learnt(task, taught), parent=parent, **about(task))
        else:
            loaded = taken(form, task, taught)
            save_checkpoint(folder, loaded.model, form=loaded.form, parent=parent, **about(task))
        return load_checkpoint(folder)

    return keep


def reserved(case: Case, base: Checkpoint, serve) -> Case:
    "The case as it would be if `base` had been served."
    silent = case.develop.drop(
        columns=[c for c in case.develop if c in ("prediction", "score") or c.startswith(PROBABILITY)]
    )
    case = replace(case, base=base, develop=silent.assign(checkpoint=base.sha256))
    rows = serve(case.develop.assign(**served_answers(case, case.develop)))
    return replace(case, develop=rows.assign(loss=served_loss(case, rows)["error"]))


def ailing(form: str, name: str, task: str, kept, folder: Path) -> Case:
    "The case of `name`, served by a model of the `form`."
    category, _, faults, change = (*(WRONG | ADVICE)[name], None)[:4]
    faults, sizes = dict(faults), {}
    if name == "retune":
        faults, sizes = {}, {"n_estimators": 2, "max_depth": 1}
    hints = {"unit_fix": {"feature": "income"}}.get(name, {})
    toy = toy_case(task, [{"category": category, "hints": hints, "support": 1.0}], **faults)
    if REMEDIES[name].family == "refit" and form == "pipeline":
        save_checkpoint(folder / "v1", trained(task, toy.reference, **sizes), **about(task))
        base = load_checkpoint(folder / "v1")
    else:
        base = kept(form, task, "without" if faults.get("teach") is without else "usual", folder / "v1")
    other = kept(form, task, "without", folder / "v2", "v1") if name.startswith("roll_") else None
    case = reserved(toy, base, faults.get("serve", unchanged))
    case = replace(case, registry=folder, previous=other if name == "roll_back" else None)
    return change(case) if change in (bent, redrawn) and task != "regression" else case


def selected(case: Case, name: str) -> pd.DataFrame:
    "Labelled requests of other subjects, sent as wrongly as those of the case: the rows that a simulation looks at."
    _, _, faults, *_ = (WRONG | ADVICE)[name]
    rows = faults.get("send", unchanged)(toy_table(400, 3, case.task.kind))
    time = pd.Timestamp("2026-02-01", tz="UTC") + pd.to_timedelta(np.arange(len(rows)), unit="h")
    ids = {"event_id": rows["row"], "subject": [f"t{i // 2}" for i in range(len(rows))], "time": time.as_unit("us")}
    rows = rows.assign(**ids, label_time=ids["time"], checkpoint=case.base.sha256, split="select")
    return rows.assign(loss=served_loss(case, rows)["error"])


def answers_to(model, rows: pd.DataFrame, case: Case) -> pd.DataFrame:
    "What a candidate answers, with its own line where it has one."
    task = replace(case.task, threshold=line_of(model, case.task.threshold))
    return answer(model, task, features(rows)[list(case.base.features)])


def check_candidate(remedy, case: Case, folder: Path) -> None:
    "It is built on develop rows, answers select rows, is kept as a checkpoint and, loaded again, answers the same."
    params = settle(remedy.parameters(case))
    canonical(params)
    model, rows = remedy.build(case, params, 1), selected(case, remedy.name)
    answers = answers_to(model, rows, case)
    assert answers["prediction"].notna().all() and np.isfinite(answers["score"]).all()
    if case.task.labels:
        assert answers["score"].between(0, 1).all() and set(answers["prediction"]) <= set(case.task.labels)
    save_checkpoint(
        folder / "candidate",
        model,
        threshold=line_of(model, case.base.threshold),
        parent="v1",
        origin="candidate",
        **about(case.task.kind),
    )
    loaded = load_checkpoint(folder / "candidate")
    pd.testing.assert_frame_equal(answers_to(loaded.model, rows, case), answers)
    seen = simulate(case, remedy, params, rows, [1], {1: model})
    assert np.isfinite(seen.effect) and seen.n_select > 30
    if remedy.name in MENDED:
        assert seen.effect > 0.01, "what was wrong is not mended on rows of other subjects"


def test_the_matrix_holds_every_remedy_and_every_task_that_it_claims():
    assert {name: tuple(tasks) for name, tasks in CLAIMS.items()} == {n: tasks_of(r) for n, r in REMEDIES.items()}


@pytest.mark.parametrize("form, name, task", MATRIX, ids=["-".join(cell) for cell in MATRIX])
def test_a_remedy_runs_on_what_it_claims(form, name, task, kept, tmp_path):
    remedy, case = REMEDIES[name], ailing(form, name, task, kept, tmp_path)
    if form != "pipeline" and remedy.family == "refit":
        assert "only answers, so it cannot be trained again" in not_at_hand(remedy, case)
        with pytest.raises(Reject, match="cannot be trained again|no dial of size"):
            remedy.build(case, remedy.parameters(case), 1)
    elif remedy.family == "advice":
        told = remedy.expected(case, settle(remedy.parameters(case)))
        assert told["saved"] >= 0 and np.isfinite(told["saved"]) and told["reason"].endswith(".")
    else:
        assert not_at_hand(remedy, case) == ""
        check_candidate(remedy, case, tmp_path)

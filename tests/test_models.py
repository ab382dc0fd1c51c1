"""Models of many makings come back the same from their file; what is no model, or another one, is one clear message."""

import io
import json
import pickle
import warnings
import zipfile

import estimators
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from failwb.models.checkpoint import load_checkpoint, save_checkpoint
from failwb.models.load import load_model
from failwb.models.skops import TRUSTED, dumps_stable, loads_trusted, type_names
from failwb.record.contract import Contract
from failwb.record.errors import FailwbError
from failwb.record.tables import sha

CASES = estimators.cases()
X, TARGETS = estimators.table()
NUMBERS = X[["amount", "age"]].fillna(0.0)
SCALARS = {
    "builtins.bool",
    "builtins.float",
    "builtins.int",
    "numpy.bool",
    "numpy.int32",
    "numpy.uint32",
    "numpy.uint8",
}
FIELDS = {name: {"type": "number"} for name in NUMBERS}
ABOUT = {"name": "bills", "version": "1", "owner": "a", "review_by": "2030-01-01", "target": "paid", "columns": FIELDS}
BINARY = Contract(**ABOUT, positive="late", negative="paid")
NUMBER = Contract(**ABOUT, task="regression", tolerance=1.0)
seen: set[str] = set()  # names of types inside all pipelines of the table


def answers(model, task: str) -> np.ndarray:
    return model.predict(X) if task == "regression" else model.predict_proba(X)


@pytest.mark.parametrize("name, task, model", CASES, ids=[name for name, _, _ in CASES])
def test_a_model_comes_back_the_same(name, task, model):
    model = estimators.fitted(task, model)
    data = dumps_stable(model)
    seen.update(type_names(data))
    assert dumps_stable(model) == data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        again = loads_trusted(data, sha(data))
        assert np.array_equal(answers(again, task), answers(model, task))
    settled = dumps_stable(again)  # objects that were one may have become two, once
    assert dumps_stable(loads_trusted(settled, sha(settled))) == settled


def test_the_list_holds_what_pipelines_hold_and_no_more():
    own = {n for n in TRUSTED if n.startswith("failwb.")}
    found = seen if len(seen) > 100 else set(estimators.names())
    assert sorted(found - TRUSTED) == []
    assert sorted(TRUSTED - found - own - SCALARS) == [], "allowed, and in no pipeline of tests/estimators.py"


def fitted(y=TARGETS["binary"], **names):
    return LogisticRegression().fit(NUMBERS.rename(columns=names), y)


def rewritten(model, change) -> bytes:
    "A skops file whose schema was changed by hand."
    source, target = zipfile.ZipFile(io.BytesIO(dumps_stable(model))), io.BytesIO()
    with zipfile.ZipFile(target, "w") as out:
        for name in source.namelist():
            content = source.read(name)
            out.writestr(name, change(content.decode()) if name == "schema.json" else content)
    return target.getvalue()


def rigged(text: str) -> str:
    schema = json.loads(text)
    schema["__module__"], schema["__class__"], schema["__loader__"] = "os", "system", "FunctionNode"
    return json.dumps(schema)


def named(prefix: str) -> np.ndarray:
    return np.where(TARGETS["binary"] == 1, prefix + "yes", prefix + "no")


class Own(LogisticRegression):
    "A class that failwb does not know."


HARD = {
    "no-such-file": ("model.skops", None, {}, "There is no file 'model.skops'"),
    "another-kind": ("model.docx", b"PK", {}, "no model that failwb knows"),
    "a-text": ("model.skops", b"not a model", {}, "not a skops file"),
    "half-a-file": ("model.skops", lambda: dumps_stable(fitted())[:700], {}, "not a skops file"),
    "a-zip-of-something-else": ("model.skops", lambda: rewritten(fitted(), lambda text: "{"), {}, "damaged"),
    "a-pickle": ("model.pkl", lambda: pickle.dumps(fitted()), {}, "pickle and joblib run code"),
    "a-pickle-in-disguise": ("model.skops", lambda: pickle.dumps(fitted()), {}, "pickle and joblib run code"),
    "a-command": ("model.skops", lambda: rewritten(fitted(), rigged), {}, "os.system"),
    "a-function": (
        "model.skops",
        lambda: dumps_stable(make_pipeline(FunctionTransformer(json.loads), LogisticRegression())),
        {},
        "json.loads",
    ),
    "a-type-of-its-own": ("model.skops", lambda: dumps_stable(Own().fit(NUMBERS, TARGETS["binary"])), {}, "Own"),
    "no-probabilities": (
        "model.skops",
        lambda: dumps_stable(LinearRegression().fit(NUMBERS, TARGETS["binary"])),
        {},
        "no `predict_proba`",
    ),
    "classes-for-a-number": (
        "model.skops",
        lambda: dumps_stable(fitted()),
        {"contract": NUMBER},
        "asks for a number",
    ),
    "other-columns": ("model.skops", lambda: dumps_stable(fitted(age="years")), {}, "years"),
    "other-width": (
        "model.skops",
        lambda: dumps_stable(LogisticRegression().fit(NUMBERS.to_numpy()[:, :1], TARGETS["binary"])),
        {},
        "wants 1 columns",
    ),
    "other-classes": (
        "model.skops",
        lambda: dumps_stable(fitted(named("very "))),
        {},
        "The model's classes are very no, very yes",
    ),
    "too-many-classes": ("model.skops", lambda: dumps_stable(fitted(TARGETS["multiclass"])), {}, "high, low, middle"),
    "a-step-without-an-end": (
        "model.skops",
        lambda: dumps_stable(FunctionTransformer(np.log1p).fit(NUMBERS)),
        {},
        "neither `predict_proba` nor",
    ),
    "gaps-it-cannot-take": ("model.skops", lambda: dumps_stable(fitted()), {"rows": X[["amount", "age"]]}, "NaN"),
    "another-file": ("model.skops", lambda: dumps_stable(fitted()), {"sha256": "0" * 64}, "expected 000"),
}


@pytest.mark.parametrize("file, content, asks, says", HARD.values(), ids=HARD)
def test_what_is_no_model_or_another_one_is_one_message(tmp_path, file, content, asks, says):
    if content is not None:
        (tmp_path / file).write_bytes(content() if callable(content) else content)
    with pytest.raises(FailwbError) as refused:
        load_model(tmp_path / file, **{"contract": BINARY, "rows": NUMBERS} | asks)
    assert says in str(refused.value)


def test_named_classes_keep_the_models_order(tmp_path):
    (tmp_path / "model.skops").write_bytes(dumps_stable(fitted(np.where(TARGETS["binary"] == 1, "late", "paid"))))
    assert load_model(tmp_path / "model.skops", BINARY, NUMBERS).classes == ("late", "paid")


def test_a_model_of_another_version_is_loaded_with_a_warning_that_names_it(tmp_path):
    older = rewritten(fitted(), lambda text: text.replace('\\"1.9.1\\"', '\\"1.5.2\\"'))
    (tmp_path / "model.skops").write_bytes(older)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn says it too
        loaded = load_model(tmp_path / "model.skops", BINARY, NUMBERS)
    assert "made with scikit-learn 1.5.2" in loaded.warnings[0] and loaded.form.environment["scikit-learn"] == "1.5.2"


def test_a_checkpoint_keeps_the_bytes_that_came(tmp_path):
    (tmp_path / "model.skops").write_bytes(rewritten(fitted(), lambda text: text + " "))
    loaded = load_model(tmp_path / "model.skops", BINARY, NUMBERS)
    saved = save_checkpoint(
        tmp_path / "v7",
        loaded.model,
        features=list(loaded.features),
        positive="late",
        negative="paid",
        form=loaded.form,
    )
    assert (tmp_path / "v7/model.skops").read_bytes() == (tmp_path / "model.skops").read_bytes()
    assert saved.sha256 == load_checkpoint(tmp_path / "v7").sha256 == sha((tmp_path / "model.skops").read_bytes())

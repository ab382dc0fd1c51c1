"""A remedy, a finder and a form of model of one's own: an outside package needs just this and pyproject.toml."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from failwb.models.foreign import Answers, ForeignModel, source_bytes
from failwb.models.train import fit, make_pipeline
from failwb.record.errors import ModelError
from failwb.record.plugins import Reject
from failwb.record.tables import features, sha


class FewerTrees:
    "Refit with fewer trees, so that the model cannot follow every quirk of its training table."

    name, term, family = "fewer_trees", "stronger regularisation", "refit"
    categories = ("over-or-underfit",)
    cost, risk, what = 0.3, "medium", __doc__
    when = "The error on training rows is far below the error on fresh rows of the same kind."
    trade_off = "Real but rare structure is forgotten together with the quirks."
    rollback = "Serve the model with all its trees, which stays in place."
    source = "Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2009, section 10.12."

    def parameters(self, case: Any) -> dict:
        "Return the number of trees; raises `Reject` where the training table is too small to choose."
        if len(case.reference) < 100:
            raise Reject(f"The training table has {len(case.reference)} rows; it takes 100.")
        return {"max_iter": 30}

    def build(self, case: Any, params: dict, seed: int) -> Any:
        "Fit the smaller model on the training table of `case`."
        names = list(case.base.features)
        numeric = [name for name in names if name in case.contract.numeric]
        recipe = make_pipeline(numeric, [name for name in names if name not in numeric], seed, **params)
        table = case.reference
        return fit(
            recipe,
            features(table)[names],
            (table["label"] == case.base.positive).to_numpy(),
            table["weight"].to_numpy(float),
        )


class Unchanging:
    "Features that are the same in nearly every request."

    name, term, about, what = "unchanging", "zero variance", "feature", __doc__
    library, source = "pandas", "Kuhn and Johnson, Applied Predictive Modeling, 2013, section 3.5."

    def find(self, case: Any) -> pd.DataFrame:
        "Return for each feature the share of requests that have its usual value; raises `Reject` without requests."
        if not len(case.rows):
            raise Reject("There are no requests.")
        names = case.contract.features
        share = [case.rows[f"x.{n}"].value_counts(normalize=True, dropna=False).iloc[0] for n in names]
        said = [f"{s:.1%} of the requests have the same value." for s in share]
        return pd.DataFrame({"id": names, "score": [s if s > 0.95 else s / 2 for s in share], "evidence": said})


class ConstantModel(Answers, ForeignModel):
    "The same probability for every row."

    who = "The constant model"

    def __init__(self, probability: float, task: str = "binary"):
        self.probability, self.task = probability, task

    def _raw(self, X: Any) -> np.ndarray:
        return np.full(len(X), self.probability)


class Constant:
    "A model that is one number in a text file."

    name, what, stored, code = "constant", __doc__, "model.constant", False
    options: dict[str, str] = {}

    def recognises(self, source: str) -> bool:
        "Return whether `source` ends in .constant."
        return Path(source).suffix == ".constant"

    def identity(self, source: str, options: dict) -> str:
        "Return the sha256 of the file."
        return sha(source_bytes(source))

    def load(self, source: str, *, sha256: str, options: dict) -> ConstantModel:
        "Return the model. Raises `ModelError` where it is another file."
        if self.identity(source, options) != sha256:
            raise ModelError(f"{Path(source).name} is another file than the one that was added.")
        return ConstantModel(float(source_bytes(source)))

    def content(self, source: str) -> bytes:
        "Return the file's bytes."
        return source_bytes(source)

    def environment(self) -> dict[str, str]:
        "Return nothing: a number depends on no package."
        return {}

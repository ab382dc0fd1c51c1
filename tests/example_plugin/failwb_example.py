"""A remedy of one's own: everything that an outside package needs is in this file and in pyproject.toml."""

from typing import Any

from failwb.models.train import fit, make_pipeline
from failwb.record.plugins import Reject
from failwb.record.tables import features


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

"""cleanlab: Datalab with its default issue types, on training rows and on open rows.

Training rows get out-of-fold probabilities, as its documentation asks; open rows the deployed model's own scores.
"""

import numpy as np
import pandas as pd
from cleanlab import Datalab
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from .exchange import TOP, Rows, answer

CATEGORY = {  # issue type -> what its own description says in the taxonomy's words
    "label": "label-noise",  # "examples whose given label is estimated to be potentially incorrect"
    "near_duplicate": "duplicate-or-leak",  # "(near) duplicate"
    "null": "missing-value-burst",  # "null/missing values across all feature columns"
    "outlier": "out-of-distribution",  # "very different from rest of the dataset (potentially out-of-distribution)"
    "underperforming_group": "systematic-slice-error",  # "a slice in the dataset for which the predictions are poor"
}


def embedded(rows: Rows, X: pd.DataFrame) -> np.ndarray:
    "Return features as numbers: scaled, one column per level; missing numbers at the median."
    for n in rows.task["categorical"]:
        X[n] = X[n].map(str)
    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    wide = make_column_transformer(
        (numbers, rows.task["numeric"]),
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), rows.task["categorical"]),
    )
    return wide.fit_transform(X)


def audit(features: np.ndarray, label: np.ndarray, chance: np.ndarray) -> Datalab:
    "Return Datalab after its default search; `chance` has a column per class in lexical order."
    lab = Datalab({"label": label}, label_name="label", verbosity=0)
    lab.find_issues(pred_probs=chance, features=features)
    return lab


def counts(lab: Datalab) -> dict[str, int]:
    "Return how many rows each issue type marks, where the taxonomy has a word for it."
    told = lab.get_issue_summary().set_index("issue_type")["num_issues"]
    return {o: int(told[o]) for o in CATEGORY if o in told and told[o] > 0}


def find(rows: Rows) -> dict:
    "Return the label quality of the training rows, and the open rows that each issue type marks."
    reference = rows.reference
    label = reference["label"].astype(str).to_numpy()
    classes = sorted(set(label))
    if rows.task.get("positive") is None or len(classes) != 2:
        raise ValueError("This adapter knows two classes.")
    wide = embedded(rows, rows.features(reference))
    model = HistGradientBoostingClassifier(random_state=0)
    taught = audit(wide, label, cross_val_predict(model, wide, label, cv=5, method="predict_proba"))
    names = reference["row"] if "row" in reference else reference.index
    quality = dict(zip(map(str, names), map(float, taught.get_issues("label")["label_score"]), strict=True))
    scored = rows.open["score"].notna().to_numpy()
    score = rows.open["score"].to_numpy(float)[scored]
    chance = np.column_stack([score if c == str(rows.task["positive"]) else 1 - score for c in classes])
    lab = audit(embedded(rows, rows.X)[scored], rows.open["label"].astype(str).to_numpy()[scored], chance)
    found = []
    for issue, many in counts(lab).items():
        told = lab.get_issues(issue)
        mask = np.zeros(len(scored), dtype=bool)
        mask[np.flatnonzero(scored)] = told[f"is_{issue}_issue"].to_numpy(bool)
        found.append({"category": CATEGORY[issue], "issue": issue, "score": float(many), "rows": rows.ids(mask)})
    share = {o: 0.0 for o in CATEGORY}
    for one, size in ((taught, len(reference)), (lab, len(score))):
        share |= {o: max(share[o], many / size) for o, many in counts(one).items()}
    said = [CATEGORY[o] for o in sorted(share, key=lambda o: -share[o]) if share[o] > 0]
    patterns = sorted(found, key=lambda o: -o["score"])[:TOP]
    return {"patterns": patterns, "category": said, "label_quality": quality}


if __name__ == "__main__":
    answer(find)

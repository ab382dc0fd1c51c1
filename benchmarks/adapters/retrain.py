"""retrain: a tuned HistGradientBoosting on everything that has a label, without looking; the baseline of remedies."""

import numpy as np
import pandas as pd
from scipy.stats import loguniform, randint
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import RandomizedSearchCV

from .exchange import Rows, answer

SPACE = {
    "learning_rate": loguniform(0.02, 0.3),
    "max_leaf_nodes": randint(7, 64),
    "l2_regularization": loguniform(1e-3, 10),
    "min_samples_leaf": randint(10, 80),
}
TRIES, FOLDS = 10, 3


def coded(rows: Rows, *tables: pd.DataFrame) -> list[pd.DataFrame]:
    "Return the features of each table, categories by the levels of the first; a level that it lacks is missing."
    first, *others = (rows.features(t) for t in tables)
    kinds = {n: pd.CategoricalDtype(sorted(first[n].dropna().unique(), key=str)) for n in rows.task["categorical"]}
    for X in (first, *others):
        for n, kind in kinds.items():
            X[n] = X[n].where(X[n].isin(kind.categories)).astype(kind)
    return [first, *others]


def find(rows: Rows) -> dict:
    "Tune by cross-validation on reference and develop rows, refit on all of them, score confirm rows if any."
    develop = rows.open[rows.open["split"] == "develop"]
    both = pd.concat([rows.reference, develop], ignore_index=True)
    weight = both["weight"].fillna(1.0).to_numpy(float) if "weight" in both else np.ones(len(both))
    positive = rows.task.get("positive")
    number = positive is None and pd.api.types.is_numeric_dtype(both["label"])
    kind = HistGradientBoostingRegressor if number else HistGradientBoostingClassifier
    measure = "neg_mean_squared_error" if number else "neg_log_loss"
    later = rows.folder / "confirm.parquet"
    confirm = pd.read_parquet(later) if later.is_file() else rows.open.head(0)
    X, X_confirm = coded(rows, both, confirm)
    model = kind(max_iter=400, early_stopping=True, categorical_features="from_dtype", random_state=0)
    search = RandomizedSearchCV(model, SPACE, n_iter=TRIES, cv=FOLDS, scoring=measure, random_state=0)
    search.fit(X, both["label"] if number else both["label"].astype(str), sample_weight=weight)
    told = {"tuned": search.best_params_, "cross_validated": float(search.best_score_)}
    if not later.is_file():
        return told
    scores = pd.DataFrame({"event_id": confirm["event_id"], "prediction": search.predict(X_confirm)})
    if number:
        scores["score"] = scores["prediction"].astype(float)
    else:
        chance = search.predict_proba(X_confirm)
        known = list(search.classes_)
        scores["score"] = chance[:, known.index(str(positive))] if positive is not None else chance.max(axis=1)
    scores.to_parquet(rows.folder / "retrain.parquet", index=False)
    return told | {"remedy": {"scores": "retrain.parquet"}}


if __name__ == "__main__":
    answer(find)

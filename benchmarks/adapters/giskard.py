"""giskard: its scan for performance bias and over- or underconfidence.

The model is the table of logged predictions, so the scans that change inputs are left out.
"""

import giskard
import numpy as np
import pandas as pd
from giskard.models.cache import disable_cache
from giskard.slicing import slice as clauses

from .exchange import TOP, Rows, answer, literal

CATEGORY = {
    "Performance": "systematic-slice-error",
    "Overconfidence": "miscalibration",
    "Underconfidence": "miscalibration",
}
SCANS = ["performance", "overconfidence", "underconfidence"]


def literals(query: clauses.Query) -> list[dict] | None:
    "Return the conditions of a slice, or nothing where one of them (`is not`) has no literal."
    equal, spans = [], {}
    for clause in query.get_all_clauses():
        name = clause.column
        low, high = spans.get(name, (-np.inf, np.inf))
        if isinstance(clause, clauses.GreaterThan):
            spans[name] = (max(low, clause.value if clause.equal else np.nextafter(clause.value, np.inf)), high)
        elif isinstance(clause, clauses.LowerThan):
            spans[name] = (low, min(high, np.nextafter(clause.value, np.inf) if clause.equal else clause.value))
        elif isinstance(clause, clauses.EqualTo):
            equal.append(literal(name, "==", clause.value))
        elif isinstance(clause, clauses.IsNa) and not clause.is_not:
            equal.append(literal(name, "missing"))
        else:
            return None
    return equal + [literal(n, "in", low=float(low), high=float(high)) for n, (low, high) in spans.items()]


def find(rows: Rows) -> dict:
    "Return the slices that the scan reports, the most important first."
    positive, label = rows.task.get("positive"), rows.open["label"].astype(str)
    classes = sorted(set(label))
    if positive is None or len(classes) != 2:
        raise ValueError("This adapter knows two classes.")
    scored = rows.open["score"].notna()
    table = rows.X.assign(**{"(target)": label})[scored]
    score = rows.open["score"][scored]
    data = giskard.Dataset(table, target="(target)", cat_columns=rows.task["categorical"])

    def logged(X: pd.DataFrame) -> np.ndarray:
        p = score.loc[X.index].to_numpy(float)
        return np.column_stack([p if c == str(positive) else 1 - p for c in classes])

    disable_cache()
    names = [*rows.task["numeric"], *rows.task["categorical"]]
    model = giskard.Model(logged, model_type="classification", classification_labels=classes, feature_names=names)
    report = giskard.scan(model, data, only=SCANS, verbose=False, raise_exceptions=True)
    found = []
    for issue in sorted(report.issues, key=lambda o: -o.importance)[:TOP]:
        inside = rows.open.index.isin(data.slice(issue.slicing_fn).df.index)
        said = literals(issue.slicing_fn.query)
        one = {"score": float(issue.importance), "category": CATEGORY[issue.group.name], "rows": rows.ids(inside)}
        found.append(({"predicate": said} if said else {}) | one)
    return {"patterns": found, "category": list(dict.fromkeys(o["category"] for o in found))}


if __name__ == "__main__":
    answer(find)

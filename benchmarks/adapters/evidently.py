"""evidently: the drift preset on features and target; missing, new and out-of-range values beside the reference."""

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import DuplicatedRowCount, MissingValueCount, OutListValueCount, OutRangeValueCount
from evidently.presets import DataDriftPreset

from .exchange import Rows, answer

KIND = {  # metric -> what its name says in the taxonomy's words
    "MissingValueCount": "missing-value-burst",
    "OutListValueCount": "schema-violation",
    "OutRangeValueCount": "invalid-range-or-unit",
}
TARGET = "(target)"


def drifts(report: dict) -> dict[str, dict]:
    "Return for each column its score, the method that evidently chose, and whether it says drift."
    found = {}
    for metric in report["metrics"]:
        config = metric["config"]
        if config["type"].rpartition(":")[2] == "ValueDrift":
            score, method, limit = float(metric["value"]), config["method"], float(config["threshold"])
            small = "p_value" in method  # such a score is low where there is drift
            drifted = score < limit if small else score >= limit
            told = {"score": score, "method": method, "strength": 1 - score if small else score}
            found[config["column"]] = told | {"drifted": drifted}
    return found


def excesses(current: dict, reference: dict) -> dict[str, float]:
    "Return for each category the largest share of rows, above the reference's, that a column's count has."
    found = {}
    for metric, before in zip(current["metrics"], reference["metrics"], strict=True):
        kind = KIND.get(metric["config"]["type"].rpartition(":")[2])
        if kind:
            more = float(metric["value"]["share"]) - float(before["value"]["share"])
            found[kind] = max(found.get(kind, 0.0), more)
    return {k: v for k, v in found.items() if v > 0}


def find(rows: Rows) -> dict:
    """Return drift by column, and categories in an order that is ours, not evidently's.

    By `strength`: the share of rows above the reference's, or the distance that it measured for a drifted column.
    """
    before, now = rows.features(rows.reference), rows.features(rows.open)
    numeric, categorical = rows.task["numeric"], rows.task["categorical"]
    checks = [MissingValueCount(column=n) for n in (*numeric, *categorical)]
    known = [n for n in (*numeric, *categorical) if before[n].notna().any()]
    checks += [
        OutRangeValueCount(column=n, left=before[n].min(), right=before[n].max())
        if n in numeric
        else OutListValueCount(column=n, values=sorted(before[n].dropna().unique()))
        for n in known
    ]
    of_class = rows.task.get("positive") is not None or not pd.api.types.is_numeric_dtype(rows.open["label"])
    columns = DataDefinition(
        numerical_columns=[*numeric, *([] if of_class else [TARGET])],
        categorical_columns=[*categorical, *([TARGET] if of_class else [])],
    )
    tables = []
    for X, label in ((now, rows.open["label"]), (before, rows.reference["label"])):
        tables.append(Dataset.from_pandas(X.assign(**{TARGET: label.astype(str) if of_class else label}), columns))
    drift = drifts(Report([DataDriftPreset()]).run(*tables).dict())
    strength = excesses(*(Report(checks).run(t).dict() for t in tables))
    twice = Report([DuplicatedRowCount()]).run(tables[1]).dict()["metrics"][0]["value"]
    if twice:
        strength["duplicate-or-leak"] = float(twice) / len(before)
    for column, told in drift.items():
        if told["drifted"]:
            kind = "label-shift" if column == TARGET else "covariate-shift"
            strength[kind] = max(strength.get(kind, 0.0), told["strength"])
    return {"drift": drift, "category": sorted(strength, key=lambda o: -strength[o]), "strength": strength}


if __name__ == "__main__":
    answer(find)

"""nannyml: drift of features and target, missing, unseen and out-of-range values, in ten chunks."""

import nannyml as nml
import pandas as pd

from .exchange import Rows, answer

TARGET = "(target)"


def alerts(result, column: str) -> tuple[float, float]:
    "Return the share of analysis chunks with an alert for `column` (the most of its methods), and the largest value."
    table = result.filter(period="analysis").to_df()
    own = table.loc[:, [c for c in table.columns if c[0] == column]]  # (column, method, figure) or (column, figure)
    share = [float(own[c].astype(float).mean()) for c in own if c[-1] == "alert"]
    value = [float(own[c].astype(float).max()) for c in own if c[-1] == "value"]
    return max(share), max(value)


def find(rows: Rows) -> dict:
    "Return drift by column, and categories by the share of chunks that raise an alert."
    numeric, categorical = rows.task["numeric"], rows.task["categorical"]
    of_class = rows.task.get("positive") is not None or not pd.api.types.is_numeric_dtype(rows.open["label"])
    before, now = (
        rows.features(t).assign(**{TARGET: t["label"].astype(str) if of_class else t["label"]})
        for t in (rows.reference, rows.open)
    )
    for n in categorical:
        before[n], now[n] = before[n].astype("category"), now[n].astype("category")
    columns = [*numeric, *categorical, TARGET]
    levels = [*categorical, *([TARGET] if of_class else [])]
    chunks = nml.chunk.CountBasedChunker(10, incomplete="append")  # or a last chunk of a few rows raises every alert
    drifting = nml.UnivariateDriftCalculator(column_names=columns, treat_as_categorical=levels, chunker=chunks)
    result = drifting.fit(before).calculate(now)
    strength, drift = {}, {}
    for column in columns:
        share, value = alerts(result, column)
        drift[column] = {"score": value, "alerts": share, "drifted": share > 0}
        kind = "label-shift" if column == TARGET else "covariate-shift"
        strength[kind] = max(strength.get(kind, 0.0), share)
    checks = {
        "missing-value-burst": (nml.MissingValuesCalculator, [*numeric, *categorical]),
        "schema-violation": (nml.UnseenValuesCalculator, categorical),
        "invalid-range-or-unit": (nml.NumericalRangeCalculator, numeric),
    }
    for kind, (check, names) in checks.items():
        if names:
            told = check(column_names=names, chunker=chunks).fit(before).calculate(now)
            strength[kind] = max(alerts(told, n)[0] for n in names)
    said = sorted((k for k in strength if strength[k] > 0), key=lambda o: -strength[o])
    return {"drift": drift, "category": said, "strength": strength}


if __name__ == "__main__":
    answer(find)

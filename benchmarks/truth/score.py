"""One case scored: what was planted against what the loop said.

Rows are compared by their failures: a pattern is a *hit* on a fault if at least half of the pattern's failing rows are
rows of the fault, and a fault is *found* if the hits among the first ten confirmed patterns hold at least half of its
failing rows. A fault is *eligible* if it does enough harm to be asked for: at least 2.5 times the base error, on at least 150
labelled select rows. Its harm is the error of the rows that no other fault touches: on shared rows nobody could tell whose
harm it is. *Shared* says the same of all its rows, whoever else harms them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from failwb.record.predicate import in_span, pattern_rows
from failwb.record.tables import features

TOP = 10  # patterns of a case that are looked at
SHARE = 0.5  # of failing rows: for a hit, and for finding a fault
RATIO, ROWS = 2.5, 150  # harm over the base error, and select rows, from which a fault is eligible
NOTHING = "do_nothing"  # is ranked, but is no answer


def rows_of(patterns: Sequence[Mapping], rows: pd.DataFrame) -> dict[str, np.ndarray]:
    "Return the mask of each pattern's own rows."
    own = pattern_rows(patterns, features(rows))
    return {
        p["id"]: own[p["id"]] & in_span(rows["time"], p["span"]) if p.get("span") else own[p["id"]] for p in patterns
    }


def hits(patterns: Mapping[str, np.ndarray], faults: Sequence[np.ndarray], failed: np.ndarray) -> dict[str, list[int]]:
    "Return for each pattern the faults that it hits, by number."
    return {
        id: [k for k, own in enumerate(faults) if (rows & own & failed).sum() >= SHARE * max(1, (rows & failed).sum())]
        for id, rows in patterns.items()
    }


def covered(
    number: int, found: Mapping[str, list[int]], patterns: Mapping[str, np.ndarray], fault: np.ndarray
) -> float:
    "Return the share of a fault's failing rows (mask) that its hits hold."
    held = np.any(
        [patterns[id] for id, whose in found.items() if number in whose] or [np.zeros(len(fault), bool)], axis=0
    )
    return float((held & fault).sum() / max(1, fault.sum()))


def searched(patterns: Mapping[str, np.ndarray], faults: Sequence[np.ndarray], failed: np.ndarray) -> dict[str, Any]:
    "Return what any finder is scored by: hits by pattern, and the recall of each fault."
    first = dict(list(patterns.items())[:TOP])
    found = hits(first, faults, failed)
    return {"hits": found, "recall": [covered(k, found, first, own & failed) for k, own in enumerate(faults)]}


def harm(rows: pd.DataFrame, faults: Sequence[np.ndarray], least: np.ndarray) -> tuple[float, list[dict[str, Any]]]:
    "Return the base error (of rows that no fault touched; the best possible one where all are) and each fault's harm."
    loss, select = rows["loss"].to_numpy(float), (rows["split"] == "select").to_numpy()
    untouched = ~np.any(faults or [np.zeros(len(rows), bool)], axis=0)
    base = float(loss[untouched].mean()) if untouched.mean() >= 0.1 else float(least.mean())
    found, touched = [], np.sum(faults, axis=0)
    for own in faults:
        n = int((own & select).sum())
        alone, error = (float(loss[rows].mean()) if rows.any() else 0.0 for rows in (own & (touched == 1), own))
        found.append(
            {
                "rows": int(own.sum()),
                "select_rows": n,
                "error": error,
                "ratio": alone / base,
                "eligible": bool(alone >= RATIO * base and n >= ROWS),
                "shared": bool(error >= RATIO * base and n >= ROWS),
            }
        )
    return base, found


def ranked(remedies: Sequence[Mapping], patterns: Sequence[str]) -> list[str]:
    "Return the remedies that were simulated or advised for the first of `patterns` that has any, in their order."
    for id in patterns:
        names = [
            r["remedy"] for r in remedies if r["pattern"] == id and r["remedy"] != NOTHING and r["effect"] is not None
        ]
        if names:
            return names
    return []


def label_noise(quality: pd.DataFrame, flipped: set[str]) -> dict[str, float] | None:
    "Return AUROC and AUPRC of the label quality of training rows against the rows whose label was flipped."
    y = quality["row"].isin(flipped).to_numpy()
    if not 0 < y.sum() < len(y):
        return None
    doubt = 1 - quality["quality"].to_numpy(float)
    return {
        "auroc": float(roc_auc_score(y, doubt)),
        "auprc": float(average_precision_score(y, doubt)),
        "share": float(y.mean()),
    }

"""Scores over many cases, each with an interval; and the floors below which a run fails.

An interval is the 2.5% to 97.5% range of the score over 1,000 bootstrap draws of whole cases, because two patterns of
one case are not independent; a share of cases has its Wilson interval.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from failwb.record.tables import settle
from failwb.signals.intervals import wilson

DRAWS = 1_000

Results = Sequence[Mapping[str, Any]]


def bootstrapped(results: Results, score: Callable[[Results], float]) -> tuple[float, float]:
    "Return the 95% percentile interval of `score` over draws of whole results."
    rng, n = np.random.default_rng(0), len(results)
    drawn = [score([results[i] for i in rng.integers(0, n, n)]) for _ in range(DRAWS)] if n else []
    known = [d for d in drawn if not np.isnan(d)]
    return tuple(np.quantile(known, [0.025, 0.975])) if known else (float("nan"), float("nan"))


def mean(values: Sequence[float]) -> float:
    "Return the mean; NaN of nothing."
    return float(np.mean(values)) if len(values) else float("nan")


# -- what is counted


def asked(results: Results) -> list[Mapping]:
    "Return the faults that are asked for."
    return [f for r in results for f in r["faults"] if f["eligible"]]


def found(results: Results) -> list[Mapping]:
    "Return those of them that were found."
    return [f for f in asked(results) if f["recall"] >= 0.5]


def recall(results: Results) -> float:
    "Pattern recall at 10."
    return mean([f["recall"] >= 0.5 for f in asked(results)])


def recall_shared(results: Results) -> float:
    "Pattern recall at 10 of all faults on whose rows enough goes wrong, though it may be another fault's harm."
    return mean([f["recall"] >= 0.5 for r in results for f in r["faults"] if f["shared"]])


def precision(results: Results) -> float:
    "Pattern precision at 10, over the patterns of cases with an eligible fault."
    return mean([bool(p["hits"]) for r in results if any(f["eligible"] for f in r["faults"]) for p in r["patterns"]])


REAL = 0.05  # errors per prediction above the best possible, from which a pattern is a real weakness whoever planted it


def soundness(results: Results) -> float:
    "Share of the patterns that are planted, or a real weakness of the model that nobody planted."
    told = [p for r in results if any(f["eligible"] for f in r["faults"]) for p in r["patterns"]]
    return mean([bool(p["hits"]) or p["above"] >= REAL for p in told])


def confusion(results: Results) -> pd.DataFrame:
    "Return how often each first cause was given for each true category, of the faults that were found."
    pairs = [(f["category"], (f["causes"] or ["none"])[0]) for f in found(results)]
    table = pd.DataFrame(pairs, columns=["true", "said"])
    return pd.crosstab(table["true"], table["said"])


def macro_f1(results: Results) -> float:
    "Macro-averaged F1 of the first cause, over the true categories that occur."
    pairs = [(f["category"], (f["causes"] or ["none"])[0]) for f in found(results)]
    scores = []
    for category in sorted({t for t, _ in pairs}):
        hit = sum(t == s == category for t, s in pairs)
        scores.append(2 * hit / (sum(t == category for t, _ in pairs) + sum(s == category for _, s in pairs)))
    return mean(scores)


def among(first: int) -> Callable[[Results], float]:
    "Return the score: a right remedy among the `first` ranked ones, of the faults that were found."
    return lambda results: mean([bool(set(f["right"]) & set(f["ranked"][:first])) for f in found(results)])


def adopted_right(results: Results) -> float:
    "Share of eligible faults for which a right remedy was adopted."
    return mean([any(n in f["right"] and v == "adopt" for n, v in f["verdicts"]) for f in asked(results)])


def adoptions(results: Results) -> list[dict[str, Any]]:
    "Return all adopted changes: harmful or not, and what share of the possible repair they bring."
    told = []
    for r in results:
        whose = {p["id"]: p["hits"] or [] for p in r["patterns"]}
        for a in r["adopted"]:
            own = [
                a["faults"][k]
                for k in whose.get(a["pattern"], [])
                if a["faults"][k] is not None and r["faults"][k]["eligible"]
            ]
            share = sum(o["gain"] for o in own) / sum(o["possible"] for o in own) if own else float("nan")
            told.append(
                {
                    "remedy": a["remedy"],
                    "harmful": a["worse"] > 0,
                    "worse": a["worse"],
                    "repair": share,
                    "selected": a["selected"],
                }
            )
    return told


def repair(results: Results) -> float:
    "Share of the oracle's repair per change that ships: of several adopted for a pattern, the best."
    return mean([a["repair"] for a in adoptions(results) if a["selected"] and not np.isnan(a["repair"])])


def noise_auroc(results: Results) -> float:
    "AUROC of label quality, where labels were flipped."
    return mean([r["label_noise"]["auroc"] for r in results if r["label_noise"]])


def noise_auprc(results: Results) -> float:
    "AUPRC of label quality, where labels were flipped."
    return mean([r["label_noise"]["auprc"] for r in results if r["label_noise"]])


# -- the table

SCORES: dict[str, Callable[[Results], float]] = {
    "pattern recall@10": recall,
    "recall@10 where faults overlap": recall_shared,
    "pattern precision@10": precision,
    "planted or a real weakness": soundness,
    "category macro-F1": macro_f1,
    "right remedy first": among(1),
    "right remedy in the first three": among(3),
    "right remedy adopted": adopted_right,
    "share of the possible repair": repair,
    "label-noise AUROC": noise_auroc,
    "label-noise AUPRC": noise_auprc,
}


def scored(results: Results) -> dict[str, dict[str, float]]:
    "Return every score of faulty `results`, with its interval and the number behind it."
    counts = {"pattern recall@10": len(asked(results)), "category macro-F1": len(found(results))}
    table = {}
    for name, score in SCORES.items():
        low, high = bootstrapped(results, score)
        table[name] = settle(
            {"value": score(results), "low": low, "high": high, "n": counts.get(name, len(results))}, 4
        )
    return table


def share(k: int, n: int) -> dict[str, float]:
    "Return a share with its Wilson interval."
    low, high = wilson(k, n)
    return settle({"value": k / n if n else float("nan"), "low": low, "high": high, "k": k, "n": n}, 4)


def promises(results: Results) -> dict[str, dict[str, float]]:
    "Return what must stay rare: harmful adoptions, and anything at all where nothing is wrong."
    none, all_adopted = [r for r in results if not r["faults"]], adoptions(results)
    return {
        "harmful adoptions": share(sum(a["harmful"] for a in all_adopted), len(all_adopted)),
        "no fault: any confirmed pattern": share(sum(r["confirmed"] > 0 for r in none), len(none)),
        "no fault: a confirmed pattern that is no real weakness": share(
            sum(any(p["above"] < REAL for p in r["patterns"]) for r in none), len(none)
        ),
        "no fault: any adoption": share(sum(bool(r["adopted"]) for r in none), len(none)),
    }


def summary(results: Results, more: Results = ()) -> dict[str, Any]:
    "Return all figures by name; `more` results (of other sizes) count only for what must stay rare."
    faulty = [r for r in results if r["faults"] and not any(f["held_back"] for f in r["faults"])]
    parts = {
        "all": faulty,
        "one fault": [r for r in faulty if len(r["faults"]) == 1],
        "three faults": [r for r in faulty if len(r["faults"]) == 3],
        "five faults": [r for r in faulty if len(r["faults"]) == 5],
    } | {d: [r for r in faulty if r["case"]["dial"] == d] for d in ("weak", "medium", "strong")}
    parts["held back"] = [r for r in results if any(f["held_back"] for f in r["faults"])]
    cost = {
        "cpu_seconds": settle(mean([r["cpu"] for r in results]), 3),
        "peak_mib": max((r["peak_mib"] for r in results), default=0),
    }
    return {
        "cases": len(results),
        "scores": {name: scored(part) for name, part in parts.items() if part},
        "promises": promises([*results, *more]),
        **cost,
    }


# -- for the page


def confused(results: Results) -> dict[str, dict[str, int]]:
    "Return true category -> first cause -> how often."
    table = confusion([r for r in results if r["faults"]])
    return {t: {c: int(v) for c, v in row.items() if v} for t, row in table.iterrows()}


def curve(results: Results) -> list[dict[str, Any]]:
    "Return found and right, for single faults, by strength and by number of predictions, with the number of cases."
    single = [r for r in results if len(r["faults"]) == 1 and not r["faults"][0]["held_back"]]
    groups: dict[tuple[str, int], list] = {}
    for r in single:
        groups.setdefault((r["case"]["dial"], r["case"]["n"]), []).append(r)
    return [
        {"dial": dial, "n": n, "cases": len(part)}
        | settle(
            {
                "found": mean([r["faults"][0]["recall"] >= 0.5 for r in part]),
                "first cause right": mean([first_right(r["faults"][0]) for r in part]),
                "right remedy adopted": mean(
                    [
                        any(m in r["faults"][0]["right"] and v == "adopt" for m, v in r["faults"][0]["verdicts"])
                        for r in part
                    ]
                ),
            },
            4,
        )
        for (dial, n), part in sorted(groups.items())
    ]


def first_right(fault: Mapping[str, Any]) -> bool:
    "Return whether the first cause of a fault's pattern is the true category."
    return (fault["causes"] or ["none"])[0] == fault["category"]


def brief(r: Mapping[str, Any]) -> dict[str, Any]:
    "Return what the page needs of one case."
    kept = (
        "name",
        "category",
        "held_back",
        "eligible",
        "shared",
        "ratio",
        "recall",
        "causes",
        "ranked",
        "verdicts",
        "right",
    )
    return {
        "case": {k: r["case"][k] for k in ("ground", "kinds", "dial", "seed", "n")},
        "confirmed": r["confirmed"],
        "base_error": r["base_error"],
        "faults": [{k: f[k] for k in kept} for f in r["faults"]],
        "adopted": [[a["remedy"], a["worse"]] for a in r["adopted"]],
        "cpu": r["cpu"],
    }

"""The loop beside other tools on the same cases: every score as one value a case, and a paired test a cell.

A cell is a tool and a score that it can have. *Lower* is a cell in which the loop is worse on the same cases beyond noise: one-sided sign-flip
test of the differences by case, adjusted by Holm over all cells, at 0.05.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from failwb.record.tables import settle
from failwb.remedy.statistics import flip_p, holm

from .tables import bootstrapped, mean

OWN = "failwb"
WORSE_IF_MORE = {"claims where nothing is wrong", "harmful change"}
LEVEL, DRAWS = 0.05, 100_000  # of the test


def by_the_loop(r: Mapping[str, Any]) -> dict[str, Any]:
    "Return what the loop said about a case, in the form of a peer's answer."
    shipped = [a for a in r["adopted"] if a["selected"]]
    each = [[a["faults"][k] for a in shipped if a["faults"][k]] for k in range(len(r["faults"]))]
    gains = [max(own, key=lambda o: o["gain"], default=None) for own in each]
    return {
        "seconds": r["cpu"],
        "hits": {p["id"]: p["hits"] or [] for p in r["patterns"]},
        "recall": [f["recall"] for f in r["faults"]],
        "category": list(dict.fromkeys(p["cause"] for p in r["patterns"])),
        "label_noise": r["label_noise"],
        "remedy": {"worse": max((a["worse"] for a in shipped), default=0.0), "faults": gains},
    }


def values(r: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, float]:
    "Return the scores that an answer has on the case `r`."
    asked, found = [k for k, f in enumerate(r["faults"]) if f["eligible"]], {}
    if "hits" in said and not r["faults"]:
        found["claims where nothing is wrong"] = bool(said["hits"])
    if "recall" in said and asked:
        found["recall@10"] = mean([said["recall"][k] >= 0.5 for k in asked])
    if said.get("hits") and asked:
        found["precision@10"] = mean([bool(whose) for whose in said["hits"].values()])
    if "category" in said and asked:
        found["category first"] = mean([said["category"][:1] == [r["faults"][k]["category"]] for k in asked])
    if said.get("label_noise"):
        found["label-noise AUROC"] = said["label_noise"]["auroc"]
    if "remedy" in said:
        found["harmful change"] = said["remedy"]["worse"] > 0
        own = [said["remedy"]["faults"][k] for k in asked if said["remedy"]["faults"][k]]
        if asked:
            found["harm repaired"] = sum(o["gain"] for o in own) / sum(o["possible"] for o in own) if own else 0.0
    return {name: float(v) for name, v in found.items()}


def answers(r: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    "Return what the loop and every peer that finished said about a case."
    return {OWN: by_the_loop(r)} | {n: t for n, t in r.get("peers", {}).items() if "failed" not in t}


def beside(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    "Return the scores of the loop and of every peer that looked at the same rows; what a tool cannot do is left out."
    told = [(answers(r), r) for r in results]
    table = {}
    for name in [OWN, *sorted({n for r in results for n in r.get("peers", {})})]:
        done = [(said[name], r) for said, r in told if name in said]
        mine = [values(r, t) for t, r in done]
        row: dict[str, Any] = {"cases": len(done), "failed": len(told) - len(done)}
        for cell in dict.fromkeys(c for v in mine for c in v):
            own = [v[cell] for v in mine if cell in v]
            low, high = bootstrapped(own, mean)
            row[cell] = settle({"value": mean(own), "low": low, "high": high, "n": len(own)}, 4)
        table[name] = row | {"cpu_seconds": settle(mean([t["seconds"] for t, _ in done]), 3) if done else None}
    return table


def lower(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    "Return one line for each cell of each peer: the mean difference by case (the loop's advantage), its p-value, adjusted by Holm, and whether the loop is worse."
    differences: dict[tuple[str, str], list[float]] = {}
    for r in results:
        said = {name: values(r, t) for name, t in answers(r).items()}
        for name, theirs in said.items():
            for cell in theirs.keys() & said[OWN].keys() if name != OWN else ():
                sign = -1 if cell in WORSE_IF_MORE else 1
                differences.setdefault((name, cell), []).append(sign * (said[OWN][cell] - theirs[cell]))
    lines = [
        {"tool": name, "score": cell, "n": len(d), "advantage": settle(mean(d), 4), "p": flip_p(-np.array(d), 0, DRAWS)}
        for (name, cell), d in sorted(differences.items())
    ]
    adjusted = holm([line["p"] for line in lines])
    return [
        line | {"p": settle(line["p"], 3), "holm": settle(float(p), 3), "lower": bool(p <= LEVEL)}
        for line, p in zip(lines, adjusted, strict=True)
    ]


def shown(figure: Any) -> Any:
    "Return a score as text."
    return f"{figure['value']:.2f} (n = {figure['n']})" if isinstance(figure, dict) else figure

"""One case from planting to score."""

import os
import resource
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from failwb.faults.registry import draw_many
from failwb.faults.tables import grounds
from failwb.faults.world import Ground, expected_error, oracle
from failwb.lab.datasets import adult, bike, elec2
from failwb.models.answer import answer
from failwb.models.outputs import line_of
from failwb.record.plugins import Reject
from failwb.record.tables import settle
from failwb.record.task import task_of

from . import score
from .grid import Case
from .loop import LIGHTER, SINCE, Planted, Traffic, Turn, drawn, planted_world, scaffold, turn, written

FRESH = 20_000  # requests of the oracle sample


@cache
def all_grounds() -> dict[str, Ground]:
    "Return the grounds; those of real tables where FAILWB_REAL_DATA says where the tables are."
    folder = os.environ.get("FAILWB_REAL_DATA")
    return grounds({"adult": adult(folder), "elec2": elec2(folder), "bike": bike(folder)} if folder else None)


def repairs(done: Turn, planted: Planted, seed: int) -> list[dict[str, Any]]:
    "Judge every adopted change on an oracle sample of fresh requests: what it mends, and what it does to all."
    fresh = drawn(planted, FRESH, np.random.default_rng([seed, 4]), later=True)
    contract, checkpoint = planted.ground.contract, planted.checkpoints[planted.served]

    def errs(answers: pd.DataFrame) -> np.ndarray:
        return expected_error(
            planted.world, fresh.real, fresh.time, (answers["prediction"] == contract.positive).to_numpy()
        )

    now, best = errs(fresh.answers), oracle(planted.world, fresh.real, fresh.time)
    masks, found = [f.rows(fresh.sent, fresh.time) for f in planted.faults], []
    for verdict in (v for v in done.verdicts if v["verdict"] == "adopt"):
        model = done.models[verdict["plan"]]
        task = task_of(contract, line_of(model, checkpoint.threshold))  # a candidate may bring a line of its own
        then = errs(answer(model, task, fresh.sent[list(checkpoint.features)]))
        gains = [
            {"gain": float((now - then)[m].mean()), "possible": float((now - best)[m].mean())} if m.any() else None
            for m in masks
        ]
        found.append(
            {
                "plan": verdict["plan"][:12],
                "pattern": verdict["pattern"],
                "remedy": verdict["remedy"],
                "selected": bool(verdict["selected"]),
                "worse": float((then - now).mean()),
                "faults": gains,
            }
        )
    return found


def masks_of(done: Turn, planted: Planted, traffic: Traffic) -> list[np.ndarray]:
    "Return the mask of each fault's rows among the open rows, as they were sent."
    place = places(done, traffic)
    sent, when = (o.iloc[place].reset_index(drop=True) for o in (traffic.sent, traffic.time))
    return [f.rows(sent, when) for f in planted.faults]


def places(done: Turn, traffic: Traffic) -> np.ndarray:
    "Return where the open rows are in the traffic."
    return pd.Index([f"e{i:06d}" for i in range(len(traffic.time))]).get_indexer(done.rows["event_id"])


def told(done: Turn, planted: Planted, traffic: Traffic) -> dict[str, Any]:
    "Score what the loop said about each fault, and about nothing."
    real, when = (o.iloc[places(done, traffic)].reset_index(drop=True) for o in (traffic.real, traffic.time))
    masks = masks_of(done, planted, traffic)
    failed = (done.rows["loss"] == 1).to_numpy()
    confirmed = [q for q in done.patterns if q["confirmed"]]
    own = {
        id: rows for id, rows in score.rows_of(done.patterns, done.rows).items() if id in {q["id"] for q in confirmed}
    }
    found = score.searched(own, masks, failed)
    base, harmed = score.harm(done.rows, masks, oracle(planted.world, real, when))
    answered = (done.rows["prediction"] == planted.ground.contract.positive).to_numpy()
    above = expected_error(planted.world, real, when, answered) - oracle(planted.world, real, when)
    first: dict[str, list[str]] = {}
    for cause in done.causes:
        first.setdefault(cause["pattern"], []).append(cause["category"])
    faults = []
    for k, (fault, facts) in enumerate(zip(planted.faults, harmed, strict=True)):
        mine = [id for id, whose in found["hits"].items() if k in whose]
        weight = {id: (own[id] & masks[k] & failed).sum() for id in mine}
        mine.sort(key=lambda id: -weight[id])
        verdicts = [v for v in done.verdicts if v["pattern"] in mine]
        faults.append(
            facts
            | {
                "name": fault.name,
                "category": fault.category,
                "held_back": fault.held_back,
                "right": list(fault.right_remedies),
                "recall": found["recall"][k],
                "patterns": mine,
                "causes": first.get(mine[0], []) if mine else [],
                "ranked": score.ranked(done.remedies, mine),
                "verdicts": [[v["remedy"], v["verdict"]] for v in verdicts],
            }
        )
    return {
        "base_error": base,
        "error": float(failed.mean()),
        "rows": len(done.rows),
        "faults": faults,
        "patterns": [
            {
                "id": q["id"],
                "name": q["name"],
                "hits": found["hits"].get(q["id"]),
                "cause": (first.get(q["id"]) or [None])[0],
                "above": float(above[own[q["id"]]].mean()),
            }
            for q in confirmed[: score.TOP]
        ],
        "claimed": len(done.patterns),
        "confirmed": len(confirmed),
        "plans": len(done.verdicts),
    }


def run(case: Case, ground: Ground) -> dict[str, Any]:
    "Return everything that is known about one case, as JSON."
    began = time.process_time()
    with tempfile.TemporaryDirectory(prefix="truth-") as folder:
        root, rng = Path(folder) / "w", np.random.default_rng([case.seed, 0])
        faults = (
            draw_many(case.kinds, ground, ground.draw(5_000, rng)[0], case.dial, rng, since=SINCE) if case.kinds else ()
        )
        wb = scaffold(root, ground.contract, LIGHTER)
        planted = planted_world(ground, tuple(faults), case.seed, case.n_reference, root / "data")
        traffic = drawn(planted, case.n, np.random.default_rng([case.seed, 2]))
        written(root, traffic, planted, case.seed)
        planting, began = time.process_time() - began, time.process_time()
        done = turn(wb)
        looped = time.process_time() - began
        said = told(done, planted, traffic)
        noise = score.label_noise(done.quality, set(planted.flipped))
        adopted = repairs(done, planted, case.seed) if done.verdicts else []
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        facts = {"planted": [f.to_dict() for f in planted.faults]}
        if case.peers:
            from .others import all_told

            facts["peers"] = all_told(
                Path(folder) / "peers", root, done, planted, traffic, masks_of(done, planted, traffic)
            )
    figures = settle(said | {"adopted": adopted, "label_noise": noise})
    return {
        "case": {n: getattr(case, n) for n in case.__slots__},
        **figures,
        **facts,
        "cpu": round(looped, 2),
        "cpu_planting": round(planting, 2),
        "peak_mib": round(peak),
    }


def one(case: Case) -> dict[str, Any]:
    "Return the result of one case; a fault that has no place on its ground is a result too."
    try:
        return run(case, all_grounds()[case.ground])
    except Reject as refused:
        return {"case": {n: getattr(case, n) for n in case.__slots__}, "refused": str(refused)}

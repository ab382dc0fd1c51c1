"""A planted workbench, and one turn of the loop in one process: the stages themselves, every plan carried out.

What is left out is what changes no answer: HTTP, the spool, DVC, and the notebook around each trial. Nothing is sealed,
because nothing is decided: the workbench is thrown away.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from failwb.faults.fault import Fault, plant
from failwb.faults.world import Ground, World, accepted, chance
from failwb.models.checkpoint import Checkpoint, save_checkpoint
from failwb.models.train import fit, make_pipeline
from failwb.record.contract import contract_yaml
from failwb.record.tables import features, prefixed, read_json, read_table, write_json, write_table
from failwb.record.task import answers_of, task_of
from failwb.remedy.trial import Comparison, compare, open_trial, run_trial
from failwb.workbench import Workbench, load_stage, run_stage

START, WEEKS = pd.Timestamp("2026-01-05", tz="UTC"), 12
SINCE = (START + pd.Timedelta(weeks=3)).isoformat()  # from which dated faults act: a quarter of the time is sound
STAGES = ("detect", "split", "enrich", "discover", "diagnose", "propose")
VERSIONS = ("v1", "v2")
ROOT = Path(__file__).resolve().parents[2]
LIGHTER = {"enrich": {"explained_failures": 10, "permuted_failures": 2, "background": 2}}  # for pages that nobody looks at here


@dataclass(frozen=True)
class Planted:
    "A world with faults in it, and what serves there."

    ground: Ground
    world: World
    faults: tuple[Fault, ...]
    checkpoints: dict[str, Checkpoint]  # by version
    served: str  # version that answers
    flipped: frozenset[str]  # training rows of it whose label a fault changed
    n_reference: int


def labels_of(
    world: World, X: pd.DataFrame, time: pd.Series | None, contract: Any, rng: np.random.Generator
) -> np.ndarray:
    "Draw the labels of `X`."
    return np.where(rng.random(len(X)) < chance(world, X, time), contract.positive, contract.negative)


@dataclass(frozen=True)
class Traffic:
    "Requests, as they are, as they are sent, and what they are answered."

    real: pd.DataFrame  # features as they really are
    sent: pd.DataFrame  # features as the service receives them
    time: pd.Series
    subject: pd.Series
    label: np.ndarray
    answers: pd.DataFrame  # prediction, score
    latency: np.ndarray  # ms
    status: np.ndarray


def drawn(planted: "Planted", n: int, rng: np.random.Generator, later: bool = False) -> Traffic:
    "Draw `n` requests of the world (`later`: of the second half of the time only), with the answers of what is served."
    world, contract = planted.world, planted.ground.contract
    parts, have = [], 0
    begin = WEEKS * 604_800 // 2 if later else 0
    while have < n:
        X, subject = planted.ground.draw(2 * n, rng)
        time = pd.Series(START + pd.to_timedelta(rng.integers(begin, WEEKS * 604_800, len(X)), unit="s")).dt.as_unit(
            "us"
        )
        label = labels_of(world, X, time, contract, rng)
        taken = accepted(world, X, label == contract.positive, time, rng)
        parts.append((X[taken], subject[taken] + f"-{len(parts)}", time[taken], label[taken]))
        have += int(taken.sum())
    X, subject, time = (pd.concat([p[k] for p in parts], ignore_index=True)[:n] for k in range(3))
    label = np.concatenate([p[3] for p in parts])[:n]
    order = np.argsort(time.to_numpy(), kind="stable")
    X, subject, time = (o.iloc[order].reset_index(drop=True) for o in (X, subject, time))
    sent = world.serve(X, time)
    checkpoint = planted.checkpoints[planted.served]
    score = np.asarray(world.answer(checkpoint.model, sent[list(checkpoint.features)], time), float)
    answers = answers_of(task_of(contract, checkpoint.threshold), np.column_stack([1 - score, score]))
    latency, status = world.operate(rng.gamma(9, 1.4, n).round(2), np.full(n, 200), X, time)
    return Traffic(X, sent, time, subject, label[order], answers, latency, status)


def planted_world(ground: Ground, faults: tuple[Fault, ...], seed: int, n_reference: int, data: Path) -> Planted:
    "Train and save the checkpoints of a world with `faults` in it."
    world, rng, contract = plant(ground.world(), faults), np.random.default_rng([seed, 1]), ground.contract
    checkpoints, flipped = {}, {}
    for version in VERSIONS:
        X, _ = ground.draw(n_reference, rng)
        table = pd.DataFrame({"row": [f"{version}-{i:05d}" for i in range(n_reference)]}).join(prefixed(X))
        clean = table.assign(label=pd.Series(labels_of(world, X, None, contract, rng), dtype="str"), weight=1.0)
        table = world.train(clean, version, rng)
        was = table["row"].map(clean.set_index("row")["label"])
        flipped[version] = frozenset(table.loc[was.notna() & (was != table["label"]), "row"])
        recipe = make_pipeline(
            contract.numeric, contract.categorical, seed=0, **{"max_iter": 100} | world.recipe(version)
        )
        y = (table["label"] == contract.positive).to_numpy()
        model = world.deploy(
            fit(recipe, features(table)[contract.features], y, table["weight"].to_numpy(float)), version
        )
        write_table(table, data / f"reference/{version}.parquet")
        parent = VERSIONS[VERSIONS.index(version) - 1] if checkpoints else None
        about = {
            "features": contract.features,
            "positive": contract.positive,
            "negative": contract.negative,
            "parent": parent,
        }
        checkpoints[version] = save_checkpoint(
            data / "checkpoints" / version,
            model,
            **about,
            reference=f"{version}.parquet",
            threshold=world.threshold(version),
        )
    served = world.served(list(VERSIONS))
    return Planted(ground, world, faults, checkpoints, served, flipped[served], n_reference)


def written(root: Path, traffic: Traffic, planted: Planted, seed: int) -> pd.DataFrame:
    "Write `traffic` to the workbench at `root` as `validate` would; return its events."
    rng, n = np.random.default_rng([seed, 3]), len(traffic.time)
    ids, nothing = [f"e{i:06d}" for i in range(n)], pd.array([None] * n, dtype="str")
    bad = traffic.status >= 500
    events = pd.DataFrame(
        {
            "event_id": ids,
            "time": traffic.time,
            "ingested": traffic.time,
            "model": planted.ground.name,
            "checkpoint": planted.checkpoints[planted.served].sha256,
            "endpoint": "/predict",
            "environment": "{}",
            "status": traffic.status,
            "latency_ms": traffic.latency,
            "subject": traffic.subject.astype("str"),
            "prediction": traffic.answers["prediction"].mask(bad),
            "score": traffic.answers["score"].mask(bad),
            "error": nothing,
            "segment": "events-00001",
        }
    ).join(prefixed(traffic.sent))
    arrived = traffic.time + pd.to_timedelta(rng.integers(1_440, 7 * 1_440, n), unit="min")
    labels = pd.DataFrame(
        {"event_id": ids, "label": traffic.label, "time": arrived, "source": "ledger", "revisions": 0, "earlier": ""}
    )
    quarantine = ["event_id", "subject", "checkpoint", "segment", "field", "reason", "value"]
    tables = {
        "events": events,
        "labels": labels,
        "quarantine": pd.DataFrame({c: pd.Series([], dtype="str") for c in quarantine}),
    }
    for name, table in tables.items():
        write_table(table, root / f"out/validate/{name}.parquet")
    write_json({"as_of": traffic.time.max().isoformat()}, root / "out/validate/summary.json")
    write_json({"schema": 1, "segments": []}, root / "data/segments/manifest.json")
    return events


def scaffold(root: Path, contract: Any, changed: dict[str, dict]) -> Workbench:
    "Write contract.yaml and params.yaml, the repository's own with some values `changed`, to `root`."
    root.mkdir(parents=True, exist_ok=True)
    (root / "contract.yaml").write_text(contract_yaml(contract), encoding="utf-8")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for verb, values in changed.items():
        params[verb] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return Workbench(root, progress=lambda items, *_, **__: items)


def carried_out(root: Path) -> dict[str, Comparison]:
    "Carry out every proposed plan on the held-out rows, write its trial, and return what was compared, by plan."
    compared = {}
    (root / "out/experiment").mkdir(exist_ok=True)
    for path in sorted((root / "out/propose/plans").glob("*.json")):
        setting = open_trial(path, root)
        compared[path.stem] = compare(setting)
        write_json(run_trial(setting, compared[path.stem]), root / f"out/experiment/{path.stem}/trial.json")
    return compared


@dataclass(frozen=True)
class Turn:
    "What one turn of the loop said."

    rows: pd.DataFrame  # labelled develop and select rows
    patterns: list[dict]
    causes: list[dict]
    remedies: list[dict]
    verdicts: list[dict]
    models: dict[str, Any]  # candidate by plan
    quality: pd.DataFrame  # of training labels


def turn(wb: Workbench) -> Turn:
    "Run the loop on the workbench, from `detect` to `gate`."
    for verb in STAGES:
        run_stage(wb, load_stage(verb))
    compared = carried_out(wb.root)
    run_stage(wb, load_stage("gate"))
    out = wb.root / "out"
    rows = read_table(out / "split/open.parquet")
    rows = rows[rows["loss"].notna() & rows["prediction"].notna()].reset_index(drop=True)
    found = (
        read_json(out / f"{name}.json")
        for name in ("discover/patterns", "diagnose/causes", "propose/remedies", "gate/verdicts")
    )
    return Turn(
        rows, *found, {plan: c.model for plan, c in compared.items()}, read_table(out / "enrich/reference.parquet")
    )

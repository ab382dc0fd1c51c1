"""A planted workbench, and one turn of the loop in one process: the stages themselves, on tables, with every plan carried out.

What is left out is what changes no answer: HTTP, the spool, DVC, and the notebook around each trial. Nothing is sealed,
because nothing is decided: the workbench is thrown away.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from failwb.faults.registry import Fault, World, plant
from failwb.models.answer import answer
from failwb.models.checkpoint import Checkpoint, save_checkpoint
from failwb.models.train import fit, make_pipeline
from failwb.record.contract import contract_yaml
from failwb.record.tables import features, prefixed, read_json, read_table, write_json, write_table
from failwb.record.task import task_of
from failwb.remedy.trial import Comparison, compare, open_trial, run_trial
from failwb.workbench import Workbench, load_stage, run_stage

START, WEEKS = pd.Timestamp("2026-01-05", tz="UTC"), 12
STAGES = ("detect", "split", "enrich", "discover", "diagnose", "propose")
VERSIONS = ("v1", "v2")
ROOT = Path(__file__).resolve().parents[2]
LIGHTER = {"enrich": {"explained_failures": 200}}  # SHAP values colour a map that nobody looks at here


@dataclass(frozen=True)
class Planted:
    "A world with faults in it, and what serves there."

    ground: Any
    world: World
    faults: tuple[Fault, ...]
    checkpoints: dict[str, Checkpoint]  # by version
    served: str  # version that answers
    flipped: frozenset[str]  # training rows of it whose label a fault changed
    n_reference: int


def chance(world: World, X: pd.DataFrame, time: pd.Series) -> np.ndarray:
    "Return the probability (n,) of the positive label of rows as they really are."
    return 1 / (1 + np.exp(-np.clip(np.asarray(world.log_odds(X, time), float), -30, 30)))


def labels_of(world: World, X: pd.DataFrame, time: pd.Series, contract: Any, rng: np.random.Generator) -> np.ndarray:
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
    while have < n:  # acceptance by the weights that shifts give
        X, subject = planted.ground.draw(2 * n, rng)
        begin = WEEKS * 604_800 // 2 if later else 0
        seconds = rng.integers(begin, WEEKS * 604_800, len(X))
        time = pd.Series(START + pd.to_timedelta(seconds, unit="s")).dt.as_unit("us")
        label = labels_of(world, X, time, contract, rng)
        weight = np.asarray(world.keep(X, pd.Series(label), time), float)
        taken = rng.random(len(X)) < weight / max(weight.max(), 1e-12)
        parts.append((X[taken], subject[taken] + f"-{len(parts)}", time[taken], label[taken]))
        have += int(taken.sum())
    X, subject, time = (pd.concat([p[k] for p in parts], ignore_index=True)[:n] for k in range(3))
    label = np.concatenate([p[3] for p in parts])[:n]
    order = np.argsort(time.to_numpy(), kind="stable")
    X, subject, time = (o.iloc[order].reset_index(drop=True) for o in (X, subject, time))
    sent = world.serve(X, time)
    checkpoint = planted.checkpoints[planted.served]
    task = task_of(contract, checkpoint.threshold)
    answers = world.answer(answer(checkpoint.model, task, sent[list(checkpoint.features)]), checkpoint.model, sent, time)
    latency, status = world.operate(rng.gamma(9, 1.4, n).round(2), np.full(n, 200), X, time)
    return Traffic(X, sent, time, subject, label[order], answers, latency, status)

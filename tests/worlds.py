"""Small worlds whose cause is known: a model, what taught it, and its traffic, differing in one thing only."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import yaml
from house import ROOT
from sklearn.base import BaseEstimator

from failwb.catalog.enrich import _judged, context_rows, judge_reference, week_of
from failwb.models.answer import answer
from failwb.models.checkpoint import Checkpoint
from failwb.models.train import fit, make_pipeline
from failwb.record.contract import Contract, Field
from failwb.record.tables import prefixed
from failwb.record.task import task_of
from failwb.remedy.diagnose import labelled_traffic
from failwb.remedy.evidence import Limits, Scene, Setting, scenes

LIMITS = Limits(**yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["diagnose"])
LEVELS = {"region": ["centre", "east", "north", "south"], "channel": ["branch", "partner", "phone", "web"]}
START = pd.Timestamp("2026-01-05", tz="UTC")


def people(n: int, rng: np.random.Generator) -> pd.DataFrame:
    numbers = {
        "income": rng.lognormal(10.5, 0.5, n).round(),
        "debt": rng.beta(2, 4, n).round(2),
        "degrees": rng.normal(12, 8, n).round(1),
        "age": rng.integers(20, 70, n).astype(float),
        "note": rng.normal(0, 1, n).round(3),
    }
    return pd.DataFrame(numbers | {name: rng.choice(levels, n) for name, levels in LEVELS.items()})


def log_odds(X: pd.DataFrame) -> np.ndarray:
    z = -2 * (np.log(X["income"]) - 10.5) + 2.5 * (X["debt"] - 0.33) + 0.8 * (X["region"] == "north")
    return 6 * (z - 0.05 * (X["degrees"] - 12) - 0.4).to_numpy()


def labels(z: np.ndarray, rng: np.random.Generator, noise: float = 0.03) -> np.ndarray:
    chance = noise + (1 - 2 * noise) / (1 + np.exp(-np.clip(z, -30, 30)))
    return np.where(rng.random(len(z)) < chance, "bad", "good")


class Bent(BaseEstimator):
    "A model whose log-odds are shifted in the north."

    classes_ = np.array([0, 1])

    def __init__(self, model: Any, shift: float):
        self.model, self.shift = model, shift

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        p = np.clip(self.model.predict_proba(X)[:, 1], 1e-6, 1 - 1e-6)
        q = 1 / (1 + np.exp(-np.log(p / (1 - p)) - self.shift * (X["region"] == "north").to_numpy()))
        return np.column_stack([1 - q, q])


@dataclass
class World:
    "What can be bent: the tables before and after the labels are drawn, the recipe, the model, its answers."

    T: pd.DataFrame  # features of the training rows
    S: pd.DataFrame  # features of the requests
    week: np.ndarray  # of the requests
    rng: np.random.Generator
    t: np.ndarray = None  # training labels
    s: np.ndarray = None  # what really happened
    sent: pd.DataFrame = None  # what the client sends
    weight: np.ndarray = None  # of the training rows
    recipe: Any = None
    threshold: float = 0.5
    model: Any = None
    answers: pd.DataFrame = None  # what was logged
    newer: tuple = ()
    predicate: list = field(default_factory=list)
    span: dict | None = None

    def keep(self, rows: np.ndarray) -> None:
        "Leave only some training rows."
        self.T, self.t, self.weight = self.T[rows].reset_index(drop=True), self.t[rows], self.weight[rows]


def is_level(feature: str, level: str) -> list[dict]:
    return [{"feature": feature, "op": "==", "value": level, "low": None, "high": None}]


def in_range(feature: str, low: float | None, high: float | None) -> list[dict]:
    return [{"feature": feature, "op": "in", "value": None, "low": low, "high": high}]


SINCE = {"since": (START + pd.Timedelta(weeks=6)).isoformat(), "until": None}
NUMBERS = ["income", "debt", "degrees", "age", "note"]


def build(
    early: Callable[[World], None] | None = None,
    drawn: Callable[[World], None] | None = None,
    fitted: Callable[[World], None] | None = None,
    seed: int = 1,
    noise: float = 0.03,
) -> Scene:
    "Return the scene of a world, bent `early` (features, rule), once labels are `drawn`, or once a model is `fitted`."
    rng = np.random.default_rng(seed)
    n = 5000
    w = World(people(2500, rng), people(n, rng), np.sort(rng.integers(0, 84, n)) // 7, rng)
    w.recipe = make_pipeline(NUMBERS, list(LEVELS), 0, max_iter=50)
    zT, zS = (early(w) if early else None) or (log_odds(w.T), log_odds(w.S))
    w.t, w.s, w.sent, w.weight = labels(zT, rng, noise), labels(zS, rng, noise), w.S.copy(), np.ones(len(w.T))
    if drawn:
        drawn(w)
    w.model = fit(w.recipe, w.T, w.t == "bad", w.weight)
    contract = Contract(
        name="w",
        version="1",
        owner="o",
        review_by="2030-01-01",
        target="y",
        positive="bad",
        negative="good",
        columns={c: Field(type="category" if c in LEVELS else "number") for c in w.T},
    )
    if fitted:
        fitted(w)
    task = task_of(contract, w.threshold)
    base = Checkpoint("v1", "served", w.model, tuple(w.T), "bad", "good", threshold=w.threshold, reference="v1")
    given = w.answers if w.answers is not None else answer(w.model, task, w.sent)
    return scene_of(w, contract, task, base, given)


def scene_of(w: World, contract: Contract, task: Any, base: Checkpoint, given: pd.DataFrame) -> Scene:
    "Return the scene: traffic as `enrich` and `split` would leave it."
    n, u = len(w.sent), np.random.default_rng(9).random(len(w.sent))
    time = START + pd.to_timedelta(w.week * 7 + (np.arange(n) % 7), unit="D")
    events = pd.concat(
        [
            pd.DataFrame(
                {
                    "event_id": [f"e{i:05d}" for i in range(n)],
                    "time": time,
                    "subject": [f"s{i}" for i in range(n)],
                    "checkpoint": "served",
                    "label": pd.array(w.s, dtype="str"),
                    "split": np.where(u < 0.7, "develop", "select"),
                }
            ),
            given,
            prefixed(w.sent),
        ],
        axis=1,
    )
    events["loss"] = (events["prediction"] != events["label"]).astype(float)
    table = pd.concat(
        [
            pd.DataFrame(
                {"row": [f"t{i:05d}" for i in range(len(w.T))], "label": pd.array(w.t, dtype="str"), "weight": w.weight}
            ),
            prefixed(w.T),
        ],
        axis=1,
    )
    learner = make_pipeline(contract.numeric, contract.categorical, 0, max_iter=60)
    fresh, judge = _judged(events, task, learner, 2, 0, 400)
    context = context_rows(events, table, pd.DataFrame({"week": [0], "ks": [0.0]}), week_of(events["time"]), fresh)
    traffic = labelled_traffic(events, context)
    training = table.merge(judge_reference(table, base, task, judge, learner, 2, 0), on="row")
    setting = Setting(traffic, training, base, task, contract, LIMITS, "served", w.newer)
    pattern = {"id": "p", "predicate": w.predicate, "excludes": [], "confirmed": True, "span": w.span}
    return scenes([pattern], setting)[0]

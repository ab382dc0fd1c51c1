"""The failure map against other ways to draw one, on the failures of UCI Adult: `make bench-map` (two minutes).

Trustworthiness (Venna and Kaski 2001; 1 is best) says how many of a point's neighbours on the map are neighbours in truth, *continuity* how many true
neighbours stay neighbours; *moved* is the furthest that an old point goes, as a share of the map's width, when the failures grow by 2% and the method is run again.
Then 200,000 failures through the whole stage. The last line is one JSON object of figures by name.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.manifold import MDS, TSNE, Isomap, trustworthiness
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors

from failwb.discover.map import encoder, fit_plane, typed
from failwb.discover.map import map as draw
from failwb.lab.datasets import adult
from failwb.record.contract import Contract, Field

NEIGHBOURS, FIRST, MORE = 10, 2000, 0.02
KEYS = {"fit_failures": FIRST, "cells": 48, "region_share": 0.8, "landscape_rows": 100_000}


def adult_failures() -> tuple[pd.DataFrame, Contract]:
    "Return the rows that boosted trees get wrong in three folds, in the order of the files, and their contract."
    table = adult()
    target = table.pop("class")
    numbers = [f for f in table if pd.api.types.is_numeric_dtype(table[f])]
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    coded = table.astype({f: "category" for f in table if f not in numbers})
    wrong = (cross_val_predict(model, coded, target, cv=3) != target).to_numpy()
    columns = {f: Field(type="number" if f in numbers else "category", nullable=True) for f in table}
    known = {
        "name": "adult",
        "version": "1",
        "owner": "o@example",
        "review_by": "2027-01-01",
        "target": "class",
        "positive": ">50K",
        "negative": "<=50K",
    }
    return table[wrong].reset_index(drop=True), Contract(**known, columns=columns)


# -- methods: encoded rows (n, columns), in the order in which they came, to places (n, 2)


def by_neighbours(landmarks: np.ndarray, layout: np.ndarray, Z: np.ndarray, k: int = 3) -> np.ndarray:
    "Place rows between their nearest landmarks, by inverse squared distance."
    far, who = NearestNeighbors(n_neighbors=k).fit(landmarks).kneighbors(Z)
    weight = 1 / (far + 1e-9) ** 2
    return (layout[who] * (weight / weight.sum(1, keepdims=True))[..., None]).sum(1)


def spread(Z: np.ndarray, n: int) -> np.ndarray:
    "Return `n` landmarks, evenly from the rows: as a hash would, they change a little when rows are added."
    return Z[np.linspace(0, len(Z) - 1, n).astype(int)]


def scaled(Z: np.ndarray) -> np.ndarray:
    marks = spread(Z, 1000)
    return by_neighbours(
        marks, MDS(2, n_init=1, init="classical_mds", max_iter=300, random_state=0).fit_transform(marks), Z
    )


def tsne(Z: np.ndarray) -> np.ndarray:
    marks = spread(Z, 2000)
    return by_neighbours(marks, TSNE(2, init="pca", random_state=0).fit_transform(marks), Z)


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "failwb": lambda Z: PCA(2, random_state=0).fit(Z[:FIRST]).transform(Z),
    "pca_of_all": lambda Z: PCA(2, random_state=0).fit_transform(Z),
    "isomap_landmarks": lambda Z: (
        Isomap(n_neighbors=15, n_components=2, eigen_solver="dense").fit(spread(Z, 1000)).transform(Z)
    ),
    "smacof_landmarks": scaled,
    "tsne_landmarks": tsne,
    "tsne_of_all": lambda Z: TSNE(2, init="pca", random_state=0).fit_transform(Z),
}


def moved(before: np.ndarray, after: np.ndarray) -> float:
    "Return the furthest way of an old point, as a share of the old map's width."
    return float(np.linalg.norm(after[: len(before)] - before, axis=1).max() / np.ptp(before, axis=0).max())


def judge(name: str, place: Callable, Z: np.ndarray) -> dict[str, float]:
    began = time.process_time()
    whole = place(Z)
    spent = time.process_time() - began
    old = place(Z[: round(len(Z) / (1 + MORE))])
    here = np.linspace(0, len(Z) - 1, min(len(Z), 3000)).astype(int)
    return {
        "trustworthiness": trustworthiness(Z[here], whole[here], n_neighbors=NEIGHBOURS),
        "continuity": trustworthiness(whole[here], Z[here], n_neighbors=NEIGHBOURS),
        "moved": moved(old, whole),
        "cpu": spent,
    }


# -- the whole stage on 200,000 failures


def many(table: pd.DataFrame, n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Return the catalog's rows and the events of `n` failures and as many right predictions, drawn from `table`."
    rng = np.random.default_rng(0)
    X = table.iloc[rng.integers(0, len(table), 2 * n)].reset_index(drop=True).add_prefix("x.")
    ids = [f"e{i:07d}" for i in range(2 * n)]
    when = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(2 * n), unit="s")
    loss = np.tile([1.0, 0.0], n)
    own = pd.DataFrame({"event_id": ids, "time": when, "subject": ids, "split": "develop"})
    events = pd.concat([own.assign(ingested=when, label_time=when, loss=loss, segment="events-00001"), X], axis=1)
    wrong = own[loss == 1].assign(symptom="misprediction", severity="S1", withdrawn=False)
    pattern = np.where(X["x.relationship"][loss == 1] == "Husband", "p1", None)
    return wrong.assign(failure_id="f" + wrong["event_id"], pattern=pattern), events


def stage(table: pd.DataFrame, contract: Contract, n: int) -> tuple[float, int]:
    failures, events = many(table, n)
    began = time.process_time()
    drawn = draw(failures, events, [{"id": "p1", "name": "p", "confirmed": True}], contract, **KEYS)
    return time.process_time() - began, len(drawn["points.parquet"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--failures", type=int, default=200_000, help="failures that go through the whole stage")
    asked = parser.parse_args()
    table, contract = adult_failures()
    rows = typed(table, contract)
    Z = np.asarray(encoder(rows.head(FIRST), contract).transform(rows), float)
    figures = {"failures": len(table), "kept": fit_plane(table.head(FIRST), contract).kept}
    print(f"{len(table):,} failures of Adult, {Z.shape[1]} columns; axes fitted on the first {FIRST:,}\n")
    print(f"{'':18}{'trustworthiness':>16}{'continuity':>12}{'moved by +2%':>14}{'CPU s':>8}")
    for name, place in METHODS.items():
        found = judge(name, place, Z)
        print(
            f"{name:18}{found['trustworthiness']:16.3f}{found['continuity']:12.3f}{found['moved']:13.1%}{found['cpu']:9.1f}",
            flush=True,
        )
        figures |= {f"{name}_{key}": round(value, 4) for key, value in found.items()}
    seconds, placed = stage(table, contract, asked.failures)
    print(f"\nthe whole stage on {placed:,} failures and {2 * asked.failures:,} predictions: {seconds:.1f} CPU seconds")
    print(json.dumps(figures | {"stage_failures": placed, "stage_cpu": round(seconds, 1)}))


if __name__ == "__main__":
    main()

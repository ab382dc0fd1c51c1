"""Other tools on one small folder of rows: each that is installed finds what was planted."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from house import ROOT

from failwb.record.predicate import match
from failwb.record.taxonomy import SCALES

sys.path.insert(0, str(ROOT / "benchmarks"))
import peers  # noqa: E402

FINDERS = [name for name in peers.CELLS if "patterns" in peers.cells(name) and name != "cleanlab"]
DRIFT = [name for name in peers.CELLS if "drift" in peers.cells(name)]
X = ["x.amount", "x.age", "x.region", "x.channel"]


def rows(n: int, seed: int, prefix: str) -> pd.DataFrame:
    "Rows whose label follows the amount, but in the north of high age it is turned round."
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"event_id": [f"{prefix}{i:05d}" for i in range(n)], "subject": [f"s{i}" for i in range(n)]})
    table["time"] = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(n), unit="h")
    table["split"] = np.where(rng.random(n) < 0.7, "develop", "select")
    table["x.amount"], table["x.age"] = rng.normal(size=n), rng.integers(18, 80, n).astype(float)
    table.loc[rng.random(n) < 0.05, "x.amount"] = np.nan
    table["x.region"] = pd.Series(rng.choice(["north", "south", "east", "west"], n), dtype="str")
    table["x.channel"] = pd.Series(rng.choice(["web", "shop"], n), dtype="str")
    table["prediction"] = pd.Series(np.where(table["x.amount"].fillna(0) > 0, "yes", "no"), dtype="str")
    table["score"] = np.where(table["prediction"] == "yes", 0.9, 0.1)
    wrong = rng.random(n) < np.where(planted(table), 0.8, 0.04)
    turned = np.where(table["prediction"] == "yes", "no", "yes")
    return table.assign(label=np.where(wrong, turned, table["prediction"]), loss=wrong.astype(float))


def planted(table: pd.DataFrame) -> np.ndarray:
    return ((table["x.region"] == "north") & (table["x.age"] >= 50)).to_numpy(bool)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    "Open rows with a bad slice and, late, a channel nobody knew; a reference of which every 20th label is turned."
    place = tmp_path_factory.mktemp("rows for peers")  # a space on purpose
    table = rows(2500, 0, "o")
    late = np.arange(2500) > 1500
    table.loc[late & (np.arange(2500) % 3 == 0), "x.channel"] = "robot"
    table.loc[late, "x.amount"] += 2.0
    table.loc[::97, ["label", "loss"]] = None  # not all labels have come
    table.to_parquet(place / "open.parquet")
    taught = rows(1500, 1, "r").assign(weight=1.0)
    clean = taught["prediction"].to_numpy(copy=True)
    clean[::20] = np.where(clean[::20] == "yes", "no", "yes")
    taught.assign(row=taught["event_id"], label=clean)[["row", *X, "label", "weight"]].to_parquet(
        place / "reference.parquet"
    )
    rows(800, 2, "c")[["event_id", *X]].to_parquet(place / "confirm.parquet")
    task = {"numeric": ["amount", "age"], "categorical": ["region", "channel"], "target": "state", "positive": "yes"}
    (place / "task.json").write_text(json.dumps(task))
    return place


def answer(name: str, folder: Path) -> dict:
    if not peers.ready(name):
        pytest.skip(f"{name}: {peers.available()[name]}")
    told = peers.run(name, folder)
    assert "failed" not in told, (told, (folder / f"{name}.log").read_text()[-800:])
    assert told["seconds"] > 0 and told["peak_mib"] > 20
    assert set(told) & {"patterns", "category", "label_quality", "drift", "remedy"} == peers.cells(name)
    assert set(told.get("category", [])) <= set(SCALES["category"])
    return told


def inside(pattern: dict, table: pd.DataFrame) -> np.ndarray:
    "The rows of a pattern, by its predicate and by its list."
    X = table.filter(regex="^x[.]").rename(columns=lambda c: c[2:])
    said = match(pattern["predicate"], X) & table["loss"].notna().to_numpy() if "predicate" in pattern else None
    listed = table["event_id"].isin(pattern["rows"]).to_numpy() if "rows" in pattern else said
    assert said is None or (said == listed).mean() > 0.99  # missing values go to a side that no literal names
    return listed


@pytest.mark.parametrize("name", FINDERS)
def test_top_pattern_lies_on_the_planted_slice(name, folder):
    table = pd.read_parquet(folder / "open.parquet")
    patterns = answer(name, folder)["patterns"]
    assert 1 <= len(patterns) <= 10
    assert all(a["score"] >= b["score"] for a, b in zip(patterns, patterns[1:], strict=False))
    sizes = [int(inside(p, table).sum()) for p in patterns]
    assert min(sizes) >= 20, sizes
    top, truth = inside(patterns[0], table), planted(table)
    assert truth[top].mean() > 3 * truth.mean()


@pytest.mark.parametrize("name", DRIFT)
def test_drift_names_the_features_that_moved(name, folder):
    told = answer(name, folder)
    assert told["drift"]["amount"]["drifted"] and told["drift"]["channel"]["drifted"]
    assert {"covariate-shift", "schema-violation"} <= set(told["category"])


def test_cleanlab_trusts_turned_labels_least(folder):
    told = answer("cleanlab", folder)
    taught = pd.read_parquet(folder / "reference.parquet")
    quality = taught["row"].map(told["label_quality"])
    assert quality.notna().all()
    assert quality[::20].median() < quality.quantile(0.1)
    assert told["category"][0] == "label-noise"


def test_retrain_scores_every_confirm_row(folder):
    told = answer("retrain", folder)
    confirm = rows(800, 2, "c")
    scores = pd.read_parquet(folder / told["remedy"]["scores"])
    assert scores["event_id"].tolist() == confirm["event_id"].tolist()
    assert scores["score"].between(0, 1).all()
    assert ((scores["score"] > 0.5) == (scores["prediction"] == "yes")).all()
    assert (scores["prediction"] != confirm["label"]).mean() < confirm["loss"].mean()


@pytest.mark.parametrize(
    ("limits", "reason"), [({"limit_seconds": 1}, "time"), ({"limit_gib": 0.2}, "memory")], ids=["time", "memory"]
)
def test_a_limit_ends_a_peer_and_says_which(limits, reason, folder, tmp_path):
    for file in [*folder.glob("*.parquet"), folder / "task.json"]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    told = peers.run("retrain", tmp_path, **limits)
    assert told["failed"] == reason
    assert not set(told) & peers.cells("retrain")


def test_every_peer_has_its_adapter_and_exact_versions():
    adapters = {p.stem for p in (ROOT / "benchmarks/adapters").glob("*.py")} - {"exchange"}
    assert adapters == set(peers.CELLS)
    lists = {p.stem for p in (ROOT / "benchmarks/peers").glob("*.txt")} - {"mlserver"}
    assert lists == adapters - peers.OWN
    for name in sorted(lists):
        lines = (ROOT / f"benchmarks/peers/{name}.txt").read_text().splitlines()[1:]
        assert all(line.count("==") == 1 and "/" not in line and "@" not in line for line in lines), name
        assert any(line.lower().startswith(f"{name}==") for line in lines), name

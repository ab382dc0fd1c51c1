"""Other tools on the rows of a case, scored as the loop is. What one cannot do stays an empty cell."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from failwb.faults.world import expected_error, oracle
from failwb.record.predicate import match
from failwb.record.tables import canonical, features, file_sha, read_json, read_table, sha, write_json, write_table

from .. import peers
from . import score
from .loop import Planted, Traffic, Turn

LIMIT = 120  # CPU seconds of one tool on one case
KEPT = Path(__file__).resolve().parents[2] / ".failwb/cache/peers"  # their answers, by what they were shown


SHOWN = ("reference.parquet", "open.parquet", "confirm.parquet", "task.json")


def exchanged(folder: Path, root: Path, done: Turn, planted: Planted) -> None:
    "Write what a peer reads: training rows, open rows, held-out rows, and what the columns mean."
    contract, columns = (
        planted.ground.contract,
        ["event_id", "subject", "time", "split", "label", "loss", "score", "prediction"],
    )
    own = [c for c in done.rows if c.startswith("x.")]
    write_table(read_table(root / f"data/reference/{planted.served}.parquet"), folder / "reference.parquet")
    write_table(done.rows[columns + own], folder / "open.parquet")
    held = read_table(root / "out/split/confirm.parquet")
    write_table(held[held["loss"].notna()][columns + own].reset_index(drop=True), folder / "confirm.parquet")
    write_json(
        {
            "numeric": contract.numeric,
            "categorical": contract.categorical,
            "target": contract.target,
            "positive": contract.positive,
        },
        folder / "task.json",
    )


def marked(pattern: dict[str, Any], rows: pd.DataFrame) -> np.ndarray:
    "Return the mask of a peer's pattern."
    return (
        rows["event_id"].isin(pattern["rows"]).to_numpy()
        if "rows" in pattern
        else match(pattern["predicate"], features(rows))
    )


def repaired(scores: pd.DataFrame, root: Path, traffic: Traffic, planted: Planted) -> dict[str, Any]:
    "Judge a whole new model on the held-out rows: what it mends of each fault, and what it does to all."
    held = read_table(root / "out/split/confirm.parquet").merge(scores, on="event_id", suffixes=("", "_new"))
    place = held["event_id"].str[1:].astype(int).to_numpy()
    real, sent, when = (o.iloc[place].reset_index(drop=True) for o in (traffic.real, traffic.sent, traffic.time))
    now, then = (
        expected_error(planted.world, real, when, yes.to_numpy())
        for yes in (held["prediction"] == planted.ground.contract.positive, held["score_new"] >= 0.5)
    )
    best, masks = oracle(planted.world, real, when), [f.rows(sent, when) for f in planted.faults]
    each = [
        {"gain": float((now - then)[m].mean()), "possible": float((now - best)[m].mean())} if m.any() else None
        for m in masks
    ]
    return {"worse": float((then - now).mean()), "faults": each}


def answered(name: str, folder: Path) -> dict[str, Any]:
    "Return what the peer `name` says about the rows in `folder`; it is asked once about the same rows, whatever the loop has become since."
    shown = {p.name: file_sha(p) for p in (folder / f for f in SHOWN)}
    code = [(peers.HERE / f"adapters/{n}.py").read_text(encoding="utf-8") for n in (name, "exchange")]
    place = KEPT / sha(canonical([shown, code, peers.available()[name], LIMIT]))[:16]
    scores = f"{name}.scores.parquet"
    if not (place / "said.json").is_file():
        said = peers.run(name, folder, LIMIT)
        place.mkdir(parents=True, exist_ok=True)
        if "remedy" in said:
            shutil.copy(folder / said["remedy"]["scores"], place / scores)
        write_json(said, place / "said.json")
    said = read_json(place / "said.json")
    return said | {"remedy": {"scores": str(place / scores)}} if "remedy" in said else said


def told_by(
    name: str, folder: Path, root: Path, done: Turn, planted: Planted, traffic: Traffic, masks: list[np.ndarray]
) -> dict[str, Any]:
    "Return what the peer `name` is scored by; `failed` with the reason where it could not do it."
    said = answered(name, folder)
    told: dict[str, Any] = {k: said[k] for k in ("seconds", "peak_mib", "failed") if k in said}
    failed = (done.rows["loss"] == 1).to_numpy()
    if "patterns" in said:
        told |= score.searched({str(k): marked(p, done.rows) for k, p in enumerate(said["patterns"])}, masks, failed)
    if "category" in said:
        told["category"] = said["category"]
    if "label_quality" in said:
        told["label_noise"] = score.label_noise(
            pd.DataFrame({"row": list(said["label_quality"]), "quality": list(said["label_quality"].values())}),
            set(planted.flipped),
        )
    if "remedy" in said:
        told["remedy"] = repaired(pd.read_parquet(said["remedy"]["scores"]), root, traffic, planted)
    return told


def all_told(
    folder: Path, root: Path, done: Turn, planted: Planted, traffic: Traffic, masks: list[np.ndarray]
) -> dict[str, Any]:
    "Return the answers of every peer that is ready."
    folder.mkdir(parents=True)
    exchanged(folder, root, done, planted)
    return {
        name: told_by(name, folder, root, done, planted, traffic, masks) for name in peers.CELLS if peers.ready(name)
    }

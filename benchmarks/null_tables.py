"""Tables for `benchmarks.nulls`: failures that have nothing to do with the features, or with one planted slice only.

What varies from table to table: rows, features and their kinds (skew, ties, zeros, rare levels, missing values, a common cause), the error rate, rows per
subject (whose failures go together, and who keep some of their features), and whether the model's score tells the risk. Every draw is fixed by `seed` and number.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from failwb.catalog.split import parts_of
from failwb.models.checkpoint import Form, save_checkpoint
from failwb.record.contract import Contract, Field
from failwb.record.predicate import match
from failwb.record.tables import prefixed, sha, write_json, write_table

ROWS, FEATURES, ERROR = (2_000, 20_000), (5, 14), (0.02, 0.30)
LIFT, HELD, LEAST_ERROR = 3.0, (0.05, 0.12), 0.05  # planted: times the error, share of the rows, least error elsewhere
TAUGHT = 2_000  # rows of the training table
START, WEEKS = pd.Timestamp("2026-01-05", tz="UTC"), 12
CHECKPOINT = sha("the model of a null table")


@dataclass(frozen=True)
class Table:
    "One table: traffic with labels, and what the columns mean."

    number: int
    rows: (
        pd.DataFrame
    )  # of every part; event_id, subject, time, split, x.*, prediction, score, label, loss, fresh_wrong
    reference: pd.DataFrame  # rows that taught the model: x.*, label, weight
    contract: Contract
    planted: list[dict]  # literals of the slice that errs more; empty where nothing is wrong

    @property
    def open(self) -> pd.DataFrame:
        "Return develop and select rows: what may be searched."
        return self.rows[self.rows["split"] != "confirm"].reset_index(drop=True)


def number(rng: np.random.Generator, common: np.ndarray) -> np.ndarray:
    "Draw a number for each row: normal, skewed, counted or mostly zero, in part by a `common` cause."
    part = rng.uniform(0, 0.7)
    z = part * common + np.sqrt(1 - part**2) * rng.normal(size=len(common))
    kind = rng.integers(4)
    if kind == 0:
        return z
    if kind == 1:
        return np.exp(rng.uniform(0.5, 1.5) * z).round(3)
    if kind == 2:
        return np.floor(np.exp(0.8 * z + rng.uniform(0, 2)))  # many ties
    return np.where(rng.random(len(z)) < rng.uniform(0.3, 0.9), 0.0, np.exp(z).round(2))


def level(rng: np.random.Generator, common: np.ndarray) -> np.ndarray:
    "Draw one of 2 to 15 levels for each row; most rows have the first few, and the common cause moves them."
    levels = int(rng.integers(2, 16))
    share = np.sort(rng.dirichlet(np.full(levels, 0.7)))[::-1]
    part = rng.uniform(0, 0.7)
    z = part * common + np.sqrt(1 - part**2) * rng.normal(size=len(common))
    place = pd.Series(z).rank(pct=True).to_numpy()
    return np.array([f"l{i:02d}" for i in range(levels)], dtype=object)[np.searchsorted(np.cumsum(share)[:-1], place)]


def drawn(rng: np.random.Generator, subject: np.ndarray, kinds: list[str], steady: np.ndarray) -> pd.DataFrame:
    "Draw the features of rows of `subject`; `steady` ones are those of the subject, the same in all of its rows."
    common, table = rng.normal(size=subject.max() + 1), {}
    for j, kind in enumerate(kinds):
        own = common if steady[j] else common[subject]
        x = pd.Series(number(rng, own) if kind == "number" else level(rng, own))
        if rng.random() < 0.4:
            x = x.mask(rng.random(len(x)) < rng.uniform(0.01, 0.2))
        table[f"f{j:02d}"] = x.to_numpy()[subject] if steady[j] else x.to_numpy()
    X = pd.DataFrame(table)
    return X.astype({f: "float64" if kind == "number" else "str" for f, kind in zip(X, kinds, strict=True)})


def slice_of(rng: np.random.Generator, X: pd.DataFrame) -> list[dict]:
    "Return two literals that hold a fair share of the rows together."
    names = list(X)
    for _ in range(2_000):
        literals = [_literal(rng, str(name), X[name]) for name in rng.choice(names, 2, replace=False)]
        if HELD[0] <= match(literals, X).mean() <= HELD[1]:
            return literals
    raise RuntimeError("No two literals hold a fair share of the rows.")


def _literal(rng: np.random.Generator, name: str, x: pd.Series) -> dict:
    known = x.dropna()
    if not pd.api.types.is_numeric_dtype(x):
        return {"feature": name, "op": "==", "value": str(rng.choice(known.unique())), "low": None, "high": None}
    cut = float(np.quantile(known, rng.uniform(0.15, 0.85)))
    low, high = (cut, None) if rng.random() < 0.5 else (None, cut)
    return {"feature": name, "op": "in", "value": None, "low": low, "high": high}


def failing(rng: np.random.Generator, X: pd.DataFrame, subject: np.ndarray, planted: list[dict]) -> pd.DataFrame:
    "Draw prediction, score, label, loss and another learner's loss of rows; but for the `planted` slice nothing depends on `X`."
    base = rng.uniform(LEAST_ERROR if planted else ERROR[0], ERROR[1])
    leaning = rng.choice([8.0, 40.0])  # of subjects: the smaller, the more their rows fail together
    risk = np.minimum(rng.beta(leaning * base, leaning * (1 - base), subject.max() + 1), 0.5)[subject]
    worse = np.where(match(planted, X), LIFT, 1.0) if planted else 1.0
    loss = rng.random(len(X)) < np.minimum(risk * worse, 0.95)
    yes = rng.random(len(X)) < rng.uniform(0.2, 0.8)
    said = risk if rng.random() < 0.5 else np.full(len(X), base)  # the score tells the risk, or the same of every row
    return pd.DataFrame(
        {
            "prediction": pd.Series(np.where(yes, "yes", "no"), dtype="str"),
            "score": np.where(yes, 1 - said, said).round(6),
            "label": pd.Series(np.where(yes ^ loss, "yes", "no"), dtype="str"),
            "loss": loss.astype(float),
            "fresh_wrong": (rng.random(len(X)) < risk).astype(float),
        }
    )


def table_of(seed: int, index: int, planted: bool, split: dict) -> Table:
    "Return the table of a number; `split` are the parameters of the stage of that name."
    rng = np.random.default_rng([seed, index, int(planted)])
    n = int(np.exp(rng.uniform(*np.log(ROWS))))
    features = int(rng.integers(FEATURES[0], FEATURES[1] + 1))
    kinds = ["number" if rng.random() < 0.5 else "category" for _ in range(features)]
    several = rng.random() < 0.5  # rows of a subject
    subject = np.sort(rng.integers(0, n // 3, n)) if several else np.arange(n)
    subject = np.unique(subject, return_inverse=True)[1]
    steady = (rng.random(features) < 0.5) & several
    every = drawn(rng, np.append(subject, subject.max() + 1 + np.arange(TAUGHT)), kinds, steady)
    X, taught = every[:n], prefixed(every[n:].reset_index(drop=True))
    literals = slice_of(rng, X) if planted else []
    subjects = pd.Series(subject).map(lambda s: f"t{index}-s{s:05d}").astype("str")
    time = START + pd.to_timedelta(rng.integers(0, WEEKS * 604_800, n), unit="s")
    shares = {part: split[part] for part in ("develop", "select", "confirm")}
    about = {
        "event_id": [f"e{i:05d}" for i in range(n)],
        "subject": subjects,
        "time": pd.Series(time).dt.as_unit("us"),
        "checkpoint": CHECKPOINT,
        "split": pd.Series(parts_of(subjects, split["salt"], shares), dtype="str"),
    }
    rows = pd.DataFrame(about).join(prefixed(X)).join(failing(rng, X, subject, literals))
    taught = taught.assign(label=pd.Series(rng.choice(["yes", "no"], len(taught)), dtype="str"), weight=1.0)
    columns = {name: Field(type=kind, nullable=True) for name, kind in zip(X, kinds, strict=True)}
    known = {"name": "nulls", "version": "1", "owner": "o@example", "review_by": "2030-01-01", "target": "y"}
    return Table(index, rows, taught, Contract(**known, positive="yes", negative="no", columns=columns), literals)


def checkpointed(table: Table, data: Path) -> None:
    "Write the training rows of `table` and its checkpoint (known from a log: nobody has the model) to the folder `data`."
    write_table(table.reference, data / "reference/v1.parquet")
    form = Form("log", CHECKPOINT, None, "a null table", {}, {})
    about = {"features": list(table.contract.columns), "positive": "yes", "negative": "no", "reference": "v1.parquet"}
    save_checkpoint(data / "checkpoints/v1", None, **about, form=form)


def exchanged(table: Table, folder: Path) -> None:
    "Write what a peer reads (adapters/exchange.py) to `folder`."
    known = table.contract.columns.items()
    numeric, categorical = ([n for n, c in known if (c.type == "number") == wanted] for wanted in (True, False))
    write_table(table.open.drop(columns=["checkpoint", "fresh_wrong"]), folder / "open.parquet")
    write_table(table.reference, folder / "reference.parquet")
    task = {"numeric": numeric, "categorical": categorical, "target": table.contract.target, "positive": "yes"}
    write_json(task, folder / "task.json")

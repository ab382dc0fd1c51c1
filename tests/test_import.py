"""Prediction logs: exactly once whatever the form and order, and a workbench from a log alone, to its site."""

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from house import ROOT, failwb, failwb_here, log_of, overlap
from typer.testing import CliRunner

from failwb.capture.columns import told
from failwb.capture.importer import content_digest
from failwb.capture.ingest import Order, import_log
from failwb.capture.segments import read_events, read_labels, read_manifest
from failwb.cli import app
from failwb.lab.checkpoints import Request, add
from failwb.lab.infer import as_text
from failwb.models.checkpoint import checkpoint_by_sha, dumps_stable
from failwb.models.train import fit, make_pipeline
from failwb.record.contract import Contract, Field, contract_yaml
from failwb.record.errors import FailwbError
from failwb.record.predicate import match
from failwb.record.tables import features, read_json, read_table
from failwb.workbench import Workbench, load_stage, run_stage

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
CONTRACT = Contract(
    name="churn", version="1", owner="o", review_by="2027-01-01", target="y", positive="1", negative="0",
    columns={
        "age": Field(type="integer"),
        "city": Field(type="category"),
        "income": Field(type="number", nullable=True),
    },
)  # fmt: skip


def traffic(n: int, seed: int = 0) -> pd.DataFrame:
    "Rows that any of the logs below is made from, with a bad slice: Kiel on the web."
    rng = np.random.default_rng(seed)
    when = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.sort(rng.uniform(0, 84, n)).round(4), unit="D")
    rows = pd.DataFrame({"request_id": [f"q{i:05d}" for i in range(n)], "ts": when.strftime("%Y-%m-%dT%H:%M:%S+00:00")})
    rows["customer"] = [f"c{i}" for i in rng.integers(0, n // 2, n)]
    rows["age"], rows["income"] = rng.integers(18, 90, n), rng.normal(50, 15, n).round(1)
    rows["city"], rows["channel"] = rng.choice(["Ulm", "Bonn", "Kiel"], n), rng.choice(["web", "shop"], n)
    return rows.assign(bad=(rows["city"] == "Kiel") & (rows["channel"] == "web"))


def binary(n: int) -> pd.DataFrame:
    rng, rows = np.random.default_rng(1), traffic(n)
    y = (rows["age"] > 50).to_numpy() ^ (rng.random(n) < 0.08)
    says = np.where(rows.pop("bad") & (rng.random(n) < 0.6), ~y, y ^ (rng.random(n) < 0.05))
    return rows.assign(pred=says.astype(int), y_true=y.astype(int))


def three(n: int) -> pd.DataFrame:
    rng, rows = np.random.default_rng(2), traffic(n)
    k = np.where(rows["age"] < 40, 0, np.where(rows["income"] > 50, 1, 2))
    says = np.where(rows.pop("bad") & (rng.random(n) < 0.6), (k + 1) % 3, k)
    p = np.full((n, 3), 0.1)
    p[np.arange(n), says] = 0.8
    names = np.array(["basic", "plus", "pro"])
    return rows.assign(pred=names[says], p_basic=p[:, 0], p_plus=p[:, 1], p_pro=p[:, 2], y_true=names[k])


def number(n: int) -> pd.DataFrame:
    rng, rows = np.random.default_rng(3), traffic(n)
    y = rows["income"] * 3 + (rows["channel"] == "web") * 20
    return rows.assign(
        pred=(y + rng.normal(0, 4, n) + np.where(rows.pop("bad"), 40, 0)).round(2),
        y_true=(y + rng.normal(0, 1, n)).round(2),
    )


def bench(root: Path, contract: Contract = CONTRACT) -> Workbench:
    root.mkdir(parents=True)
    (root / "contract.yaml").write_text(contract_yaml(contract))
    (root / "params.yaml").write_text("validate: {}\n")
    return Workbench(root, progress=lambda items, *_: items)


def bring(wb: Workbench, log: Path | None, labels: Path | None = None, *maps: str) -> dict:
    return import_log(wb, Order(log, labels, told(["subject=customer", *maps]), NOW))


def write_log(rows: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".jsonl":
        inside = ["age", "city", "income"]
        lines = [
            {"request": {c: r[c] for c in inside}} | {c: v for c, v in r.items() if c not in inside}
            for r in json.loads(rows.to_json(orient="records"))
        ]
        path.write_text("".join(json.dumps(o) + "\n" for o in lines))
    elif path.suffix == ".parquet":
        rows.to_parquet(path)
    else:
        rows.to_csv(path, index=False, sep=";" if path.suffix == ".tsv" else ",")
    return path


def evidence(wb: Workbench) -> tuple[list, list]:
    "What is evidence, apart from where it came from and who the pseudonyms stand for."
    folder = wb.path("data/segments")
    events, labels = read_events(folder).sort_values("event_id", kind="stable"), read_labels(folder)
    context = events[["event_id", "time", "checkpoint", "status"]].assign(digest=content_digest(events))
    told = labels.sort_values(["event_id", "time"], kind="stable")[["event_id", "label", "time"]]
    return context.to_dict("records"), told.to_dict("records")


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> tuple[pd.DataFrame, tuple]:
    "A log, and the evidence that it is when it comes at once."
    home = tmp_path_factory.mktemp("once")
    rows = binary(600).drop(columns="channel")
    wb = bench(home / "wb")
    bring(wb, write_log(rows, home / "log.csv"))
    return rows, evidence(wb)


@pytest.mark.parametrize("form", ["log.csv", "log.tsv", "log.parquet", "log.jsonl"])
def test_every_form_gives_the_same_evidence(form, once, tmp_path):
    rows, expected = once
    wb = bench(tmp_path / "wb")
    report = bring(wb, write_log(rows, tmp_path / form))
    assert report["events"] == {"new": 600, "known": 0, "repeated": 0, "refused": 0}
    assert evidence(wb) == expected
    assert read_events(wb.path("data/segments"))["raw"].isna().all()


def shuffled(rows):
    return [rows.sample(frac=1, random_state=1)]


def overlapping_late(rows):
    return [rows.iloc[200:], rows.iloc[:350], rows]


def twice_in_one(rows):
    return [pd.concat([rows.iloc[:500], rows.iloc[100:]])]


@pytest.mark.parametrize("order", [shuffled, overlapping_late, twice_in_one])
@pytest.mark.parametrize("second_file", [False, True])
def test_order_and_repetition_change_nothing(order, second_file, once, tmp_path):
    rows, expected = once
    wb = bench(tmp_path / "wb")
    for i, part in enumerate(order(rows)):
        labels = None
        if second_file:
            labels = write_log(part[["request_id", "y_true", "ts"]], tmp_path / f"labels{i}.csv")
            part = part.drop(columns="y_true")
        bring(wb, write_log(part, tmp_path / f"log{i}.csv"), labels)
    assert evidence(wb) == expected
    manifest = read_manifest(wb.path("data/segments"))["segments"]
    again = bring(wb, tmp_path / "log0.csv")
    assert again["events"]["new"] == again["labels"]["new"] == 0
    assert read_manifest(wb.path("data/segments"))["segments"] == manifest


def test_labels_may_come_before_their_predictions(once, tmp_path):
    rows, expected = once
    wb = bench(tmp_path / "wb")
    labels = write_log(rows[["request_id", "y_true", "ts"]], tmp_path / "labels.csv")
    first = bring(wb, None, labels)["labels"]
    assert (first["new"], first["matched"], first["unknown_event"]) == (600, 0, 600)
    bring(wb, write_log(rows.drop(columns="y_true"), tmp_path / "log.csv"))
    assert evidence(wb) == expected


def test_an_id_for_two_requests_keeps_the_first_by_time_and_names_the_others(once, tmp_path):
    rows, _ = once
    wb = bench(tmp_path / "wb")
    wrong = rows.iloc[:3].assign(ts="2026-04-01T00:00:00+00:00", age=99)
    report = bring(wb, write_log(pd.concat([wrong, rows]), tmp_path / "log.csv"))
    assert report["events"] == {"new": 600, "known": 0, "repeated": 0, "refused": 3}
    assert [(r["rows"], r["first"][0]["event_id"]) for r in report["refused"]] == [(3, "q00000")]
    assert (read_events(wb.path("data/segments"))["x.age"] < 99).all()
    late = bring(wb, write_log(wrong, tmp_path / "late.csv"))  # what is evidence cannot lose
    assert (late["events"]["new"], late["events"]["refused"]) == (0, 3)


def test_an_import_that_was_killed_is_completed_by_the_next(once, tmp_path):
    rows, expected = once
    wb = bench(tmp_path / "wb")
    log = write_log(rows, tmp_path / "log.csv")
    bring(wb, log)
    [head] = wb.path("ledger/evidence").glob("*.json")
    head.unlink()  # as if it had died between the segments and the ledger
    bring(wb, log)
    assert head.is_file() and evidence(wb) == expected


@pytest.mark.parametrize(
    "typed, says",
    [
        (["import"], "Nothing to import"),
        (["import", "none.csv"], "There is no file"),
        (["import", "log.csv", "--map", "evnt_id=request_id"], "Did you mean 'event_id'"),
        (["import", "log.csv", "--map", "time=tss"], "Did you mean 'ts'"),
        (["import", "log.csv", "--features-prefix", "feat_"], "begins with 'feat_'"),
        (["import", "log.csv", "--map", "prediction=customer"], "the contract's classes are"),
        (["import", "log.csv", "--map", "x.age="], "no column for age"),
        (["init", "new"], "--log FILE"),
        (["init", "new", "--log", "log.csv", "--table", "log.csv"], "--log FILE"),
        (["init", "new", "--log", "log.csv", "--map", "prediction=,score="], "holds a prediction"),
    ],
)
def test_a_mistake_is_one_message(typed, says, once, tmp_path, monkeypatch):
    root = bench(tmp_path / "wb").root
    write_log(once[0], root / "log.csv")
    monkeypatch.chdir(root)
    result = CliRunner().invoke(app, typed)
    assert isinstance(result.exception, FailwbError), result.output
    assert says in str(result.exception)
    assert not (root / "data").exists() and not (root / "new").exists()


def planted(pattern: dict, rows: pd.DataFrame) -> float:
    "How far a pattern's rows are those of the bad slice (intersection over union)."
    mine, bad = (
        match(pattern["predicate"], features(rows)),
        ((rows["x.city"] == "Kiel") & (rows["x.channel"] == "web")).to_numpy(),
    )
    return (mine & bad).sum() / (mine | bad).sum()


@pytest.mark.slow
@pytest.mark.parametrize("make, form", [(binary, "log.csv"), (three, "log.parquet"), (number, "log.csv")])
def test_a_log_alone_becomes_a_workbench_that_finds_the_bad_slice(make, form, tmp_path):
    log = write_log(make(2400), tmp_path / form)
    result = failwb_here("init", "wb", "--log", log.name, "--subject", "customer", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    report, root = json.loads(result.stdout), tmp_path / "wb"
    assert report["events"]["new"] == report["labels"]["matched"] == 2400
    wb = Workbench(root)
    if make is number:  # one of them to its site
        ran = failwb("run", cwd=root)
        assert ran.returncode == 0, ran.stderr
    else:
        for verb in ("validate", "detect", "split", "enrich", "discover", "diagnose", "propose"):
            run_stage(wb, load_stage(verb))
    assert read_json(root / "out/validate/summary.json")["quarantined"] == 0
    assert read_json(root / "out/detect/summary.json")["missing_output"] == 0
    [first, *_] = [p for p in read_json(root / "out/discover/patterns.json") if p["confirmed"]]
    assert planted(first, read_table(root / "out/split/open.parquet")) > 0.8
    remedies = read_json(root / "out/propose/remedies.json")
    assert remedies and all("not at hand" in r["reason"] and r["decision"] == "refused" for r in remedies)
    if make is not number:
        return
    assert "not at hand" in (root / "out/document/index.html").read_text()
    assert set(read_table(root / "out/catalog/failures.parquet")["reproducibility"]) == {"R0"}
    assert len(read_table(root / "out/map/points.parquet"))  # a log is enough for the failure map
    model_comes(wb, log)


def model_comes(wb: Workbench, log: Path) -> None:
    "The model is brought later: it stands for what the log called it, and the same events get attributions."
    rows, contract = pd.read_csv(log), wb.contract
    identity = read_events(wb.path("data/segments"))["checkpoint"].iloc[0]
    assert checkpoint_by_sha(wb.path("data/checkpoints"), identity).model is None
    X = pd.DataFrame(
        {c: rows[c].astype(float) if c in contract.numeric else as_text(rows[c]) for c in contract.features}
    )
    model = fit(
        make_pipeline(contract.numeric, contract.categorical, seed=0, task=contract.task),
        X,
        rows["pred"].to_numpy(float),
    )
    (wb.root.parent / "model.skops").write_bytes(dumps_stable(model))
    asked = Request(str(wb.root.parent / "model.skops"), train=log, label="y_true", stands_for="log")
    with pytest.raises(FailwbError, match="No checkpoint without a model named 'lag'. Did you mean 'log'"):
        add(wb, replace(asked, stands_for="lag"))
    assert checkpoint_by_sha(wb.path("data/checkpoints"), identity).version != add(wb, asked)["version"]
    brought = checkpoint_by_sha(wb.path("data/checkpoints"), identity)
    assert brought.model is not None and brought.reference
    run_stage(wb, load_stage("enrich"))
    assert len(read_table(wb.path("out/enrich/attributions.parquet")))


def test_a_workbench_without_its_model_finds_what_it_found_with_it(out, tmp_path):
    "The sample's own log, imported without models and training tables: the strongest patterns are the same rows."
    log, labels = log_of(ROOT, tmp_path)
    result = failwb_here(
        "init", "wb", "--log", log, "--labels", labels, "--features-prefix", "feat_", "--json", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    wb = Workbench(tmp_path / "wb")
    for verb in ("validate", "detect", "split", "enrich", "discover"):
        run_stage(wb, load_stage(verb))
    rows = read_table(out / "validate/events.parquet")
    before, now = (
        [p for p in read_json(folder / "discover/patterns.json") if p["confirmed"]] for folder in (out, wb.path("out"))
    )
    found = {p["name"]: max(overlap(p, o, rows) for o in now) for p in before[:3]}
    assert found[before[0]["name"]] >= 0.8 and sum(o >= 0.8 for o in found.values()) >= 2, found

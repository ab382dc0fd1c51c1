"""Hard inputs: each ends in a message (exit 2) or a sensible result (exit 0), never in a traceback or a silent success."""

# ruff: noqa: E501  (a case is a row of a table)

import datetime as dt
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from crowd import treat_hard_regions
from house import failwb, failwb_here, said

from failwb.capture.agent import SPOOL, open_agent
from failwb.capture.collect import collect
from failwb.capture.segments import append_segment, read_events, read_labels
from failwb.capture.spool import Spool
from failwb.cli import main
from failwb.lab.init import event_times, examine
from failwb.record.tables import read_json, read_table
from failwb.workbench import STAGES, Workbench, load_stage, run_stage

ODD = 'a "q", p|pe <script>alert(1)</script>\n`x` é😀'  # a category, a column and a class at its worst
OURS = ["label", "event_id", "time", "x.a", "weight", "row", "loss", "score", "prediction", "split", "week", "p.a"]
OTHERS = [
    "class",
    "lambda",
    "a b",
    "_week",
    "_order",
    "subject",
    "checkpoint",
    "raw",
    "segment",
    "error",
    "1",
    "True",
    "__class__",
    "y" * 300,
]
MINUTES = 2  # of CPU, for 500 columns from the table to the patterns


def loans(n: int = 600, seed: int = 0) -> pd.DataFrame:
    "A table with two classes that a model gets mostly right, but for one city."
    r = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "income": r.normal(50, 10, n).round(2),
            "city": r.choice(["north", "south", "west"], n),
            "debt": r.normal(5, 2, n).round(3),
        }
    )
    late = (table["city"] == "west") & (np.arange(n) > 0.4 * n) & (r.random(n) < 0.9)
    return table.assign(y=np.where((table["income"] > 50) ^ late, "yes", "no"))


def infinite(table: pd.DataFrame, column: str = "debt") -> pd.DataFrame:
    return table.assign(**{column: np.where(np.arange(len(table)) < 5, np.inf, table["debt"])})


def lines(table: pd.DataFrame, **options) -> str:
    return table.to_csv(index=False, **options)


def truncated(table: pd.DataFrame) -> bytes:
    return table.to_parquet()[:3000]


def command(capsys, *words: str | Path) -> tuple[int, str]:
    "Run `failwb ...` in this process; return its exit code and all it said, on one line. An exception that is no message passes through."
    before, sys.argv = sys.argv, ["failwb", *map(str, words)]
    try:
        main()
        code = 0
    except SystemExit as e:
        code = e.code or 0
    finally:
        sys.argv = before
    spoken = capsys.readouterr()
    return code, " ".join((spoken.out + spoken.err).split())


def written(folder: Path, content: pd.DataFrame | str | bytes, suffix: str) -> Path:
    path = folder / f"table{suffix}"
    if isinstance(content, pd.DataFrame):
        content = content.to_parquet() if suffix == ".parquet" else lines(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


B = loans()
TIMES = pd.Series(pd.date_range("2025-01-01", periods=len(B), freq="h"))
SECONDS = (TIMES - pd.Timestamp(0)).dt.total_seconds()

REFUSED = [  # id, table, suffix, options of init, what the message must say
    ("no-label-column", B, ".csv", ["--label", "z"], ["label must be a column", "Known: city, debt"]),
    ("no-subject-column", B, ".csv", ["--subject", "citi"], ["subject must be a column", "'city'"]),
    ("no-time-column", B, ".csv", ["--time", "z"], ["time must be a column"]),
    ("header-only", "a,b,y\n", ".csv", [], ["no rows"]),
    ("zero-bytes", "", ".csv", [], ["table.csv cannot be read"]),
    ("zero-bytes-parquet", "", ".parquet", [], ["table.parquet cannot be read", "0 bytes"]),
    ("truncated-parquet", truncated(B), ".parquet", [], ["corrupted"]),
    ("one-row", B.head(1), ".csv", [], ["one class"]),
    ("one-class", B.assign(y="yes"), ".csv", [], ["one class", "two or more"]),
    ("fifty-rows", B.head(50), ".csv", [], ["Needed: 20 of each class"]),
    ("sixty-rows", B.head(60), ".csv", [], ["Needed: 20 of each class"]),
    ("class-of-one-row", B.assign(y=["rare"] + ["no"] * 599), ".csv", [], ["second most frequent class"]),
    ("one-subject", B.assign(s="me"), ".csv", ["--subject", "s"], ["has 1 of them", "leave --subject out"]),
    ("empty-subject", B.assign(s=[None] + ["a"] * 599), ".csv", ["--subject", "s"], ["'s' is empty in 1 rows"]),
    ("no-feature", B[["y"]], ".csv", [], ["No column of the table can be a feature"]),
    ("label-missing", B.assign(y=B["y"].mask(B.index == 3)), ".csv", [], ["missing in 1 of 600 rows, first in row 4"]),
    ("label-blank", B.assign(y=B["y"].mask(B.index == 3, " ")), ".parquet", [], ["missing in 1 of 600 rows, first in row 4"]),
    ("label-spelled-twice", B.assign(y=B["y"].mask(B.index == 3, "Yes ")), ".csv", [], ["differ by spaces or capitals"]),
    ("label-of-lists", B.assign(y=[[v] for v in B["y"]]), ".parquet", [], ["ndarray values"]),
    ("label-of-21-classes", B.assign(y=[f"c{i % 21}" for i in B.index]), ".csv", [], ["has 21 classes", "group the classes"]),
    ("positive-of-another-class", B, ".csv", ["--positive", "maybe"], ["'maybe'", "Known: no, yes"]),
    ("unknown-task", B, ".csv", ["--task", "regresion"], ["Did you mean 'regression'"]),
    ("constant-target", B.assign(y=3.0), ".csv", ["--task", "regression"], ["1 class (3)", "three numbers or more"]),
    ("infinite-target", infinite(B, "y"), ".csv", [], ["infinite in 5 of 600 rows"]),
    ("target-with-comma", B.assign(y=B["debt"].astype(str).str.replace(".", ",")), ".csv", ["--task", "regression"], ["with a point, not a comma"]),
    ("target-with-outlier", B.assign(y=B["debt"].mask(B.index % 150 == 7, 1e12)), ".csv", [], ["No tolerance can be drafted", "1e+12"]),
    ("tolerance-zero", B.assign(y=B["debt"]), ".csv", ["--tolerance", "0"], ["tolerance of 0"]),
    ("tolerance-infinite", B.assign(y=B["debt"]), ".csv", ["--tolerance", "inf"], ["tolerance of inf"]),
    ("time-in-words", B.assign(t="soon"), ".csv", ["--time", "t"], ["no time, first 'soon' in row 1"]),
    ("time-day-or-month", B.assign(t=["03/04/2026", "13/04/2026", "04/13/2026"] * 200), ".csv", ["--time", "t"], ["200 values that are no time, first '03/04/2026'"]),
    ("time-in-milliseconds", B.assign(t=(SECONDS * 1000).astype("int64")), ".csv", ["--time", "t"], ["divide milliseconds"]),
    ("time-with-a-gap", B.assign(t=SECONDS.mask(B.index == 4)), ".csv", ["--time", "t"], ["1 of them missing"]),
    ("time-beyond-all", B.assign(t=SECONDS.mask(B.index == 4, 1e300)), ".csv", ["--time", "t"], ["to 1e+300"]),
    ("latin-1", lines(B.replace({"city": {"west": "wöst"}})).encode("latin-1"), ".csv", [], ["UTF-8"]),
    ("utf-16", lines(B).encode("utf-16"), ".csv", [], ["UTF-8"]),
    ("row-too-long", lines(B) + "1,north,2,yes,5\n", ".csv", [], ["line 602"]),
    ("row-too-short", lines(B) + "1,north\n", ".csv", [], ["missing in 1 of 601 rows"]),
    ("all-rows-too-long", "a,b,y\n" + "1,2,3,yes\n2,3,4,no\n" * 200, ".csv", [], ["Length of header"]),
    ("two-columns-of-one-name", "a, a,y\n" + "1,2,yes\n2,3,no\n" * 200, ".csv", [], ["two columns named a"]),
    ("a-picture", b"\x89PNG\r\n\x1a\n\x00\x00", ".png", [], ["cannot be read as a table"]),
]  # fmt: skip


@pytest.mark.parametrize("table, suffix, options, says", [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_a_table_is_refused(tmp_path, capsys, table, suffix, options, says):
    path = written(tmp_path, table, suffix)
    label = [] if "--label" in options else ["--label", "y"]
    code, spoken = command(capsys, "init", tmp_path / "wb", "--table", path, *label, *options, "--train")
    assert code == 2 and all(words in spoken for words in says), spoken
    assert not (tmp_path / "wb").exists()


def test_a_folder_is_no_table(tmp_path, capsys):
    code, spoken = command(capsys, "init", tmp_path / "wb", "--table", tmp_path, "--label", "y", "--train")
    assert code == 2 and "Allowed: a CSV" in spoken
    code, spoken = command(capsys, "summary", "-C", tmp_path)
    assert code == 2 and "not inside a workbench" in spoken


READ = [  # id, table, suffix, options, what the draft must say
    ("renamed-and-extra", B.rename(columns={"city": "town"}).assign(more=B["debt"] * 2), ".csv", {}, {"fields": ["income", "town", "debt", "more"]}),
    ("all-null", B.assign(e=np.nan), ".csv", {}, {"left": ("e", "no value")}),
    ("constant", B.assign(e=3), ".csv", {}, {"left": ("e", "same value")}),
    ("infinite-csv", infinite(B), ".csv", {}, {"noticed": "debt is infinite in 5 rows"}),
    ("too-large-csv", lines(B.astype({"debt": object}).assign(debt=["1e999"] * 3 + list(B["debt"][3:]))), ".csv", {}, {"noticed": "debt is infinite in 3 rows"}),
    ("infinite-parquet", infinite(B), ".parquet", {}, {"noticed": "debt is infinite in 5 rows"}),
    ("mixed", B.assign(debt=["abc" if i % 9 == 0 else v for i, v in enumerate(B["debt"].astype(object))]), ".csv", {}, {"left": ("debt", "words in the others")}),
    ("dates-as-text", B.assign(d=TIMES.dt.strftime("%d.%m.%Y")), ".csv", {}, {"left": ("d", "--time")}),
    ("days-first", B.assign(t=TIMES.dt.strftime("%d.%m.%Y %H:%M")), ".csv", {"time": "t"}, {"span": (TIMES.min().floor("min"), TIMES.max().floor("min"))}),
    ("many-levels", pd.concat([B] * 20, ignore_index=True).assign(k=[f"v{i % 10_000}" for i in range(12_000)]), ".csv", {}, {"left": ("k", "--subject")}),
    ("decimal-comma", lines(B, sep=";", decimal=","), ".csv", {}, {"left": ("debt", "decimal comma")}),
    ("semicolons", lines(B, sep=";"), ".csv", {}, {"fields": ["income", "city", "debt"]}),
    ("byte-order-mark", b"\xef\xbb\xbf" + lines(B).encode(), ".csv", {}, {"fields": ["income", "city", "debt"]}),
    ("crlf", lines(B, lineterminator="\r\n"), ".csv", {}, {"fields": ["income", "city", "debt"]}),
    ("repeated-rows", pd.concat([B.head(60)] * 10), ".csv", {}, {"noticed": "540 of 600 rows repeat"}),
    ("boolean-label", B.assign(y=B["y"] == "yes"), ".csv", {"positive": "True"}, {"labels": ["false", "true"]}),
    ("integer-label", B.assign(y=(B["y"] == "yes") * 1), ".csv", {"positive": "1"}, {"labels": ["0", "1"]}),
    ("float-label", B.assign(y=(B["y"] == "yes") * 1.0), ".csv", {"positive": "1.0"}, {"labels": ["0", "1"]}),
    ("yaml-words-as-classes", B.assign(y=B["y"].replace({"yes": "1e5", "no": "null"})), ".parquet", {}, {"labels": ["null", "1e5"]}),
    ("huge-outlier", B.assign(debt=B["debt"].mask(B.index == 3, 1.7e308)), ".csv", {}, {"fields": ["income", "city", "debt"]}),
    ("one-time", B.assign(t="2020-01-01"), ".csv", {"time": "t"}, {"fields": ["income", "city", "debt"]}),
    ("mixed-zones", B.assign(t=[f"{x}{'+02:00' if i % 2 else 'Z'}" for i, x in enumerate(TIMES)]), ".csv", {"time": "t"}, {"fields": ["income", "city", "debt"]}),
    ("before-1970", B.assign(t=(TIMES - pd.Timedelta(days=36500)).astype(str)), ".csv", {"time": "t"}, {"fields": ["income", "city", "debt"]}),
    ("in-the-future", B.assign(t=(TIMES + pd.Timedelta(days=7300)).astype(str)), ".csv", {"time": "t"}, {"noticed": "600 times lie after today"}),
    ("a-time-that-means-never", B.assign(t=["9999-12-31"] * 3 + list(TIMES.astype(str)[3:])), ".csv", {"time": "t"}, {"noticed": "stand for something else"}),
]  # fmt: skip


@pytest.mark.parametrize("table, suffix, options, expected", [c[1:] for c in READ], ids=[c[0] for c in READ])
def test_a_table_is_read(tmp_path, table, suffix, options, expected):
    own = examine(written(tmp_path, table, suffix), "y", owner="ada", today=dt.date(2026, 3, 1), **options)
    contract, seen = own.draft.contract, " ".join(own.noticed)
    assert contract.features == expected.get("fields", contract.features)
    assert (
        contract.labels == expected.get("labels", contract.labels)
        if "positive" in options
        else set(contract.labels) == set(expected.get("labels", contract.labels))
    )
    assert expected.get("noticed", "") in seen
    if "span" in expected:
        times = event_times(own.table, own.time, own.today)
        assert (times.min(), times.max()) == tuple(t.tz_localize("UTC") for t in expected["span"])
    if "left" in expected:
        assert expected["left"][1] in own.draft.left_out[expected["left"][0]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "Make a trained workbench of a table through the command line, in a folder with a space; one for each table."
    home = tmp_path_factory.mktemp("hard inputs")

    def make(name: str, table: pd.DataFrame, label: str = "y") -> tuple[Path, str]:
        path = home / f"{name}.parquet"
        table.to_parquet(path)
        result = failwb_here(
            "init", name, "--table", path.name, "--label", label, "--train", "--owner", "ada", cwd=home
        )
        assert result.returncode == 0 and "Traceback" not in result.stderr, said(result)
        return home / name, said(result)

    return make


@pytest.fixture(scope="module")
def served(made) -> Path:
    return made("served", loans(1500, 2))[0]


@pytest.fixture
def bench(served, tmp_path) -> Path:
    return Path(shutil.copytree(served, tmp_path / "bench", ignore=shutil.ignore_patterns(".git", ".dvc")))


def stages(root: Path, upto: str, start: str = "validate") -> dict[str, dict]:
    "Run the stages of a workbench in this process; return their summaries."
    names, wb = list(STAGES), Workbench(root)
    return {verb: run_stage(wb, load_stage(verb)) for verb in names[names.index(start) : names.index(upto) + 1]}


NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
N = 60
FIELDS = {"income": 48.0, "city": "north", "debt": 5.0}


def capture(
    root: Path,
    request=FIELDS,
    label=None,
    *,
    ids=None,
    score=0.2,
    prediction="no",
    at=NOON,
    label_at=NOON,
    first="events",
    checkpoint=None,
) -> dict:
    "Capture `N` equal predictions, and a label of each, through the agent; collect them and say what became of them."
    agent, ids = open_agent(root), ids or [f"n{i}" for i in range(N)]
    checkpoint = checkpoint or read_json(root / "data/checkpoints/v1/checkpoint.json")["sha256"]

    def events():
        for name in ids:
            agent.event(request, event_id=name, subject=None, time=at, model="loans", checkpoint=checkpoint, endpoint="/p", status=200, latency_ms=3.0,
                        prediction=prediction, score=score)  # fmt: skip

    def labels():
        for name in ids if label is not None else []:
            agent.label(name, label[1] if isinstance(label, tuple) else label, time=label_at)

    for step in (events, labels) if first == "events" else (labels, events):
        step()
        agent.flush()
    agent.close()
    wb = Workbench(root)
    return collect(Spool(wb.path(SPOOL)), wb.path("data"), wb.contract, wb.ledger) | agent.counts


def without(name: str) -> dict:
    return {k: v for k, v in FIELDS.items() if k != name}


TRAFFIC = [  # id, what is captured, quarantined, dead letters, labels more, changes of form
    ("as-it-was", {}, 0, 0, 0, []),
    ("missing-field", {"request": without("debt")}, N, 0, 0, [("debt", "absent")]),
    ("extra-field", {"request": FIELDS | {"more": 1}}, 0, 0, 0, [("more", "unknown field")]),
    ("renamed-field", {"request": without("city") | {"town": "north"}}, N, 0, 0, [("city", "absent"), ("town", "unknown field")]),
    ("text-in-a-number", {"request": FIELDS | {"debt": "high"}}, N, 0, 0, [("debt", "sent as text")]),
    ("number-as-text", {"request": FIELDS | {"debt": "5.0"}}, N, 0, 0, [("debt", "sent as text")]),
    ("decimal-comma", {"request": FIELDS | {"debt": "12,5"}}, N, 0, 0, [("debt", "sent as text")]),
    ("infinite", {"request": FIELDS | {"debt": float("inf")}}, N, 0, 0, [("debt", "sent as text")]),
    ("number-in-a-category", {"request": FIELDS | {"city": 3}}, N, 0, 0, [("city", "sent as a number")]),
    ("unseen-category", {"request": FIELDS | {"city": ODD}}, N, 0, 0, [("city", "unseen category")]),
    ("empty-request", {"request": {}}, N, 0, 0, [("city", "absent"), ("debt", "absent"), ("income", "absent")]),
    ("request-that-is-a-list", {"request": [1]}, 0, N, 0, []),
    ("number-beyond-floats", {"request": FIELDS | {"debt": 10**400}}, 0, N, 0, []),
    ("one-id-for-all", {"ids": ["same"] * N, "label": "yes"}, 0, 0, 1, []),
    ("labels-first", {"label": "yes", "first": "labels"}, 0, 0, N, []),
    ("labels-before-predictions", {"label": "yes", "label_at": NOON - dt.timedelta(days=900)}, 0, 0, N, []),
    ("a-third-class", {"label": "perhaps"}, 0, 0, 0, [("y", "label that is no class")]),
    ("a-third-class-predicted", {"prediction": "perhaps", "label": "yes"}, N, 0, N, []),
    ("labels-that-are-none", {"label": ("none", None)}, 0, N, 0, []),
    ("labels-in-capitals", {"label": "YES"}, 0, 0, 0, [("y", "label that is no class")]),
    ("score-that-is-no-probability", {"score": 1.7}, N, 0, 0, []),
    ("score-in-words", {"score": "high"}, 0, N, 0, []),
    ("no-score", {"score": None}, 0, 0, 0, []),
    ("time-in-words", {"at": "soon"}, 0, N, 0, []),
    ("clock-ahead", {"at": dt.datetime(9999, 12, 31, tzinfo=dt.UTC)}, N, 0, 0, []),
    ("clock-of-the-year-1", {"at": dt.datetime(1, 1, 1, tzinfo=dt.UTC)}, 0, 0, 0, []),
]  # fmt: skip


@pytest.mark.parametrize(
    "captured, quarantined, dead, labels, drift", [c[1:] for c in TRAFFIC], ids=[c[0] for c in TRAFFIC]
)
def test_traffic_is_taken_in(bench, captured, quarantined, dead, labels, drift):
    before = read_labels(bench / "data/segments")["event_id"].nunique()
    counts = capture(bench, **captured)
    assert (
        counts["dead_lettered"] == dead
        and counts["accepted"] == counts["stored"] + counts["dropped"] + dead
        and counts["dropped"] == 0
    )
    ran = stages(bench, "detect")
    assert ran["validate"]["quarantined"] == quarantined and ran["detect"]["contract_breach"] == quarantined
    assert ran["validate"]["labels"] == before + labels
    assert [(e["field"], e["change"]) for e in read_json(bench / "out/validate/schema_drift.json")] == drift


def test_labels_of_unknown_events_wait(bench):
    agent = open_agent(bench)
    for i in range(50):
        agent.label(f"unknown-{i}", "yes", time=NOON)
    agent.close()
    wb = Workbench(bench)
    collect(Spool(wb.path(SPOOL)), wb.path("data"), wb.contract, wb.ledger)
    assert stages(bench, "validate")["validate"]["labels_without_event"] == 50


def relabel(root: Path, rule) -> None:
    "Correct the label of every event by `rule(prediction)`."
    wb, events = Workbench(root), read_events(root / "data/segments")
    table = pd.DataFrame(
        {
            "event_id": events["event_id"],
            "label": rule(events["prediction"]),
            "time": events["time"] + pd.Timedelta(days=1),
            "source": "rule",
        }
    )
    append_segment(root / "data/segments", "labels", table, contract=wb.contract.version)
    collect(Spool(wb.path(SPOOL)), wb.path("data"), wb.contract, wb.ledger)


@pytest.mark.parametrize(
    "rule, error",
    [(lambda p: p.map({"yes": "no", "no": "yes"}), 1.0), (lambda p: p, 0.0)],
    ids=["everything-fails", "nothing-fails"],
)
def test_all_or_nothing_is_wrong(bench, rule, error):
    relabel(bench, rule)
    ran = stages(bench, "review")
    assert ran["detect"]["error"] == error and ran["discover"]["claimed"] == error  # all predictions, or none
    assert (bench / "out/document/index.html").is_file()


def test_no_labels_is_a_message(bench, capsys):
    stages(bench, "split")
    rows = read_table(bench / "out/split/open.parquet")
    rows.assign(loss=np.nan, label=pd.array([None] * len(rows), dtype="str")).to_parquet(
        bench / "out/split/open.parquet"
    )
    stages(bench, "enrich", "enrich")
    code, spoken = command(capsys, "discover", "-C", bench)
    assert code == 2 and "0 develop and 0 select rows" in spoken and "collect more labels" in spoken


def test_an_unknown_model_is_a_message(bench, capsys):
    capture(bench, checkpoint="f" * 64, at=dt.datetime.now(dt.UTC))
    stages(bench, "split")
    code, spoken = command(capsys, "enrich", "-C", bench)
    assert code == 2 and "No checkpoint with sha256" in spoken


CONTRACTS = [  # id, what is replaced, by what, what the message must say
    ("unknown-key", "owner:", "ovner:", ["ovner"]),
    ("no-positive", r"positive: .*\n", "", ["needs positive and negative", "look at positive"]),
    ("minimum-above-maximum", r"(  income:\n    type: number\n)", r"\1    maximum: -1\n", ["columns.income", "above maximum -1"]),
    ("categories-of-a-number", r"(  income:\n    type: number\n)", r"\1    categories: [a]\n", ["categories belong to a field of type category"]),
    ("negative-cost", r"false_positive: .*", "false_positive: -1.0", ["false_positive -1"]),
    ("tolerance-zero", r"task: binary", "task: regression\ntolerance: 0", ["cannot be used"]),
    ("unknown-segment", r"segments:\n- .*", "segments:\n- nowhere", ["nowhere"]),
    ("key-twice", r"\Z", "owner: somebody\n", ["'owner' stands twice"]),
    ("tab", r"owner:", "x:\n\ty: 1\nowner:", ["not YAML"]),
    ("not-utf-8", r"owner: .*", "owner: J\udcfcrgen", ["not UTF-8", "0xfc"]),
    ("empty", r"(?s).*", "", ["It is empty"]),
]  # fmt: skip


@pytest.mark.parametrize("old, new, says", [c[1:] for c in CONTRACTS], ids=[c[0] for c in CONTRACTS])
def test_a_broken_contract_is_named(bench, capsys, old, new, says):
    path = bench / "contract.yaml"
    text, n = re.subn(old, new, path.read_text(encoding="utf-8"), count=1)
    assert n == 1, path.read_text()
    path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    code, spoken = command(capsys, "validate", "-C", bench)
    assert code == 2 and "contract.yaml" in spoken and all(words in spoken for words in says), spoken


PARAMS = [  # verb, key, value, what the message must say
    ("validate", "examples", "many", "validate.examples is 'many'. Allowed: a whole number from 0"),
    ("validate", "examples", "2.5", "a whole number"),
    ("validate", "examples", "true", "is True"),
    ("split", "develop", "-50", "split.develop is -50. Allowed: a number between 0 and 100"),
    ("discover", "fdr", "2", "discover.fdr is 2. Allowed: a number between 0 and 1"),
    ("discover", "fdr", "5e-2", "write 0.05"),
    ("discover", "error_weight", "0", "above 0 to 1"),
    ("discover", "bins", ".nan", "a whole number from 1 to 64"),
    ("propose", "alpha", "2", "propose.alpha is 2"),
    ("propose", "seeds", "[]", "a list of one or more"),
    ("propose", "margins", "{global: 0.01}", "rest"),
    ("catalog", "severity", "[30, 8, 2, 0.5]", "above the one before"),
    ("gate", "signatures", "{low: 1}", "with low, medium, high"),
    ("gate", "must_sign", "{S0: [], S1: [], S2: [], S3: owner, S4: [owner]}", "a list of none or more, each a text"),
    ("experiment", "jobs", "0", "from 1"),
]  # fmt: skip


@pytest.mark.parametrize("verb, key, value, says", PARAMS, ids=[f"{v}.{k}={x}" for v, k, x, _ in PARAMS])
def test_a_broken_parameter_is_named(bench, capsys, verb, key, value, says):
    path = bench / "params.yaml"
    head, section = re.split(rf"(?m)^{verb}:", path.read_text(encoding="utf-8"), maxsplit=1)
    changed, n = re.subn(rf"(?m)^  {key}:.*\n(?:    .*\n)*", f"  {key}: {value}\n", section, count=1)
    assert n == 1
    path.write_text(f"{head}{verb}:{changed}", encoding="utf-8")
    code, spoken = command(capsys, verb, "-C", bench)
    assert code == 2 and "params.yaml" in spoken and says in spoken, spoken


@pytest.mark.parametrize(
    "text, says",
    [
        ("discover: 3\n", "validate lacks"),
        ("validate: 3\n", "must be a mapping"),
        ("- a\n", "It is a list"),
        ("a: 1\na: 2\n", "stands twice"),
    ],
)
def test_a_params_file_of_another_form_is_named(bench, capsys, text, says):
    (bench / "params.yaml").write_text(text)
    code, spoken = command(capsys, "validate", "-C", bench)
    assert code == 2 and says in spoken, spoken


def test_names_of_ours_may_be_columns(made):
    "Every name that failwb uses itself is a column of one table, together with names that are hard for other reasons."
    r, table = np.random.default_rng(0), loans(900, 1).rename(columns={"y": "target"})
    more = pd.DataFrame({name: r.normal(size=len(table)).round(3) for name in [*OURS, *OTHERS, "", ODD]})
    root, _ = made("names", pd.concat([table, more], axis=1), "target")
    assert set(Workbench(root).contract.features) >= {*OURS, *OTHERS, ODD}
    ran = stages(root, "propose")
    assert ran["validate"]["quarantined"] == 0 and ran["enrich"]["explained"] > 0


def test_odd_text_is_escaped(made, capsys):
    "A category and a class with quotes, a pipe, a line break and a script: through search, plan, seal, trial and site."
    table = loans(2500, 1)
    root, _ = made("odd", table.assign(city=table["city"].replace({"west": ODD}), y=table["y"].replace({"yes": ODD})))
    treat_hard_regions(root)
    ran = stages(root, "propose")
    assert ran["discover"]["confirmed"] >= 1 and ran["propose"]["plans"] >= 1
    assert ODD in {
        literal.get("value") for p in read_json(root / "out/discover/patterns.json") for literal in p["predicate"]
    }
    assert command(capsys, "seal", "-C", root)[0] == 0
    stages(root, "review", "experiment")
    assert {v["verdict"] for v in read_json(root / "out/gate/verdicts.json")} <= {
        "adopt",
        "reject",
        "underpowered",
        "harmful",
    }
    pages = sorted((root / "out/document").rglob("*.html"))
    shown = "".join(p.read_text(encoding="utf-8") for p in pages)
    assert "<script>alert(1)" not in shown and "&lt;script&gt;alert(1)" in shown
    result = failwb("summary", cwd=root)
    rows = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert result.returncode == 0 and any("script" in line for line in rows)
    assert (
        len(
            {len(re.findall(r"(?<!\\)\|", line)) for line in rows if "script" in line or line.startswith("| Pattern |")}
        )
        == 1
    ), rows


def test_a_wide_table_ends_in_time(made):
    r, n, m = np.random.default_rng(0), 3000, 500
    X = pd.DataFrame(r.normal(size=(n, m)).round(4), columns=[f"f{i:03d}" for i in range(m)])
    start = time.process_time()
    root, _ = made(
        "wide",
        X.assign(
            y=np.where(
                (X["f000"] + X["f001"] + r.normal(0, 0.3, n) > 0) ^ ((X["f007"] > 0.5) & (r.random(n) < 0.8)),
                "yes",
                "no",
            )
        ),
    )
    ran = stages(root, "discover")
    assert time.process_time() - start < 60 * MINUTES
    found = ran["discover"]
    assert not found["exact"] and found["sets_left_out"] > 1_000_000 and found["claimed"] >= 1
    assert "f007" in {o["feature"] for p in read_json(root / "out/discover/patterns.json") for o in p["predicate"]}


def test_a_table_without_failures_ends_with_a_site(made):
    "The model is always right: the whole loop ends with no pattern, a site, and exit 0."
    table = loans(700, 3).assign(city="north", y=lambda t: np.where(t["debt"] > 5, "yes", "no"))
    table["debt"] = np.where(table["y"] == "yes", 9.0, 1.0) + (np.arange(len(table)) % 7) / 100
    root, spoken = made("perfect", table)
    assert "0.0% of them wrongly" in spoken
    result = failwb("run", cwd=root)
    assert result.returncode == 0 and "Traceback" not in result.stdout + result.stderr, said(result)
    funnel = read_json(root / "out/catalog/funnel.json")
    assert funnel["mispredictions"] == funnel["claimed"] == funnel["plans"] == 0 and funnel["events"] > 300
    assert (root / "out/document/index.html").is_file()

"""What stops the pipeline, and what must not: tampering, seals, and rows that nobody may see."""

import json

import pandas as pd
import pytest
from house import ROOT, failwb, failwb_here, out_json, said

from failwb.record.tables import canonical, read_json, read_table, sha, write_table
from failwb.workbench import STAGES


def segment(root, kind: str):
    return sorted((root / "data/segments").glob(f"{kind}-*.parquet"))[0]


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite_with_its_hash(root):
    "The careful forger: one label turned over, and the manifest told about it."
    path = segment(root, "labels")
    table = read_table(path)
    labels = sorted(table["label"].unique())
    table.loc[0, "label"] = labels[0] if table.loc[0, "label"] != labels[0] else labels[1]
    write_table(table, path)
    manifest = root / "data/segments/manifest.json"
    body = read_json(manifest)
    for entry in body["segments"]:
        if entry["file"] == path.name:
            entry["sha256"] = sha(path.read_bytes())
    manifest.write_text(json.dumps(body))


def drop_the_last(root):
    manifest = root / "data/segments/manifest.json"
    body = read_json(manifest)
    body["segments"].pop()
    manifest.write_text(json.dumps(body))


# -- evidence


@pytest.mark.parametrize(
    "tamper, says",
    [
        (lambda root: flip_a_byte(segment(root, "events")), "altered"),
        (lambda root: flip_a_byte(segment(root, "labels")), "altered"),
        (lambda root: segment(root, "events").unlink(), "missing"),
        (rewrite_with_its_hash, "differs from the ledger"),
        (drop_the_last, "the ledger knows"),
    ],
    ids=["a byte of an event", "a byte of a label", "a file removed", "file and manifest", "an entry removed"],
)
def test_altered_evidence_stops_the_pipeline(bench, tamper, says):
    root = bench("data")
    tamper(root)
    result = failwb_here("validate", cwd=root)
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert "data/segments" in said(result) and says in said(result) and "Hint:" in said(result)


def test_untouched_evidence_passes(bench, out):
    root = bench("data")
    result = failwb("validate", "--json", cwd=root)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == out_json("validate/summary.json")


def test_nothing_is_lost_between_evidence_and_quarantine(out):
    summary = out_json("validate/summary.json")
    captured = pd.concat([read_table(p) for p in sorted((ROOT / "data/segments").glob("events-*.parquet"))])
    assert captured["event_id"].nunique() == summary["events"] == summary["passed"] + summary["quarantined"]


# -- seals


def sealed_plans(root) -> list:
    return sorted((root / "ledger/plans").glob("*.json"))


def unseal(root):
    "A ledger on which nobody has sealed anything."
    for kind in ("plans", "seals", "rounds"):
        for path in (root / "ledger" / kind).glob("*.json"):
            path.unlink()


def weaken(path):
    "Lower a plan's bar after the fact."
    body = read_json(path)
    path.write_text(canonical(body | {"minimum_effect": 0.0}))


def test_every_plan_is_sealed_in_the_sample(out):
    verdicts = out_json("gate/verdicts.json")
    assert [v["plan"] for v in verdicts if v["verdict"] == "unsealed"] == [], "run `failwb seal`, then commit ledger/"
    assert {v["plan"] for v in verdicts} <= {p.stem for p in sealed_plans(ROOT)}


@pytest.mark.parametrize("where", ["ledger/plans", "out/propose/plans"])
def test_a_plan_edited_after_sealing_stops_the_experiment(bench, where):
    root = bench("data", "out/split", "out/propose")
    plan = sorted((root / where).glob("*.json"))[0]
    weaken(plan)
    result = failwb_here("experiment", cwd=root)
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert plan.stem[:12] in said(result) and "altered" in said(result) and "Hint:" in said(result)


def test_an_edited_plan_under_a_new_name_is_not_sealed(bench):
    root = bench("data", "out/split", "out/propose")
    name = next(p.name for p in sealed_plans(root) if (root / "out/propose/plans" / p.name).is_file())
    for folder in ("ledger/plans", "out/propose/plans"):
        path = root / folder / name
        weaken(path)
        path.rename(path.with_name(f"{sha(path.read_text())}.json"))
    for path in (root / "out/propose/plans").glob("*.json"):
        if path.name in {p.name for p in sealed_plans(ROOT)}:
            path.unlink()  # only the edited plan is left to run
    assert failwb_here("experiment", cwd=root).returncode == 0
    assert [read_json(p)["status"] for p in (root / "out/experiment").glob("*/trial.json")] == ["unsealed"]


def test_without_seals_every_trial_is_unsealed_and_nothing_fails(bench):
    root = bench("data", "out/validate", "out/split", "out/discover", "out/diagnose", "out/propose")
    unseal(root)
    for verb in ("experiment", "gate"):
        result = failwb_here(verb, cwd=root)
        assert result.returncode == 0, result.stderr
    trials = [read_json(p) for p in sorted((root / "out/experiment").glob("*/trial.json"))]
    assert trials and {t["status"] for t in trials} == {"unsealed"}
    assert {v["verdict"] for v in read_json(root / "out/gate/verdicts.json")} == {"unsealed"}
    assert not (root / ".failwb/cache/experiment").is_dir() or not any((root / ".failwb/cache/experiment").iterdir())


def test_unsealed_results_do_not_depend_on_confirm_rows(bench):
    "Turn every held-out label over: what is written before sealing stays the same to the byte, but for their count."
    root = bench("data", "out/validate", "out/split", "out/discover", "out/diagnose", "out/propose")
    unseal(root)

    def results() -> dict[str, bytes]:
        for verb in ("experiment", "gate"):
            assert failwb_here(verb, cwd=root).returncode == 0
        return {
            str(p.relative_to(root)): p.read_bytes()
            for v in ("experiment", "gate")
            for p in (root / "out" / v).rglob("*")
            if p.is_file()
        }

    first, path = results(), root / "out/split/confirm.parquet"
    confirm = read_table(path)
    names = sorted(confirm["label"].dropna().unique())
    write_table(confirm.assign(label=confirm["label"].map(dict(zip(names, reversed(names), strict=True)))), path)
    assert results() == first


# -- results


def test_every_folder_of_results_belongs_to_one_stage(out):
    assert sorted(p.name for p in out.iterdir()) == sorted(STAGES)


# -- the split


def test_no_subject_is_in_two_parts(out):
    parts = pd.concat([read_table(out / f"split/{name}.parquet")[["subject", "split"]] for name in ("open", "confirm")])
    assert set(parts["split"]) == {"develop", "select", "confirm"}
    assert (parts.groupby("subject")["split"].nunique() == 1).all()


def test_no_confirm_row_is_in_what_people_search_and_read(out):
    confirm = set(read_table(out / "split/confirm.parquet")["event_id"])
    tables = [
        p
        for verb in ("enrich", "find", "discover", "diagnose", "propose", "catalog")
        for p in sorted((out / verb).rglob("*.parquet"))
    ]
    leaks = {}
    for path in tables:
        table = read_table(path)
        ids = table["event_id"] if "event_id" in table else table["id"] if "id" in table else []
        if seen := confirm & set(ids):
            leaks[path.relative_to(out).as_posix()] = len(seen)
    assert leaks == {}


# -- from a verdict back to where it came from


def test_a_verdict_can_be_traced_to_its_origins(out):
    verdict = next(v for v in out_json("gate/verdicts.json") if v["verdict"] == "adopt")
    result = failwb_here("trace", verdict["plan"][:12], "--json")
    assert result.returncode == 0, result.stderr
    text = json.dumps(json.loads(result.stdout))
    plan = read_json(ROOT / f"ledger/plans/{verdict['plan']}.json")
    for origin in (
        verdict["plan"],
        verdict["pattern"],
        plan["checkpoint"],
        segment(ROOT, "events").stem,
        plan["evidence"],
    ):
        assert origin in text, f"the trace does not name {origin}"
    for word in ("code", "param", "rows"):
        assert word in text.lower()


# -- parameters


@pytest.mark.parametrize(
    "edit, says",
    [
        (lambda text: text.replace("split:\n", "split:\n  devlop: 1\n"), "split has no parameter devlop"),
        (lambda text: text.replace("  develop:", "  # develop:"), "split lacks develop"),
        (lambda text: "- a list\n", "must be a mapping"),
        (lambda text: "split: [", "is not YAML"),
    ],
    ids=["unknown", "missing", "no mapping", "no yaml"],
)
def test_a_mistake_in_the_parameters_is_named(bench, edit, says):
    root = bench("out/validate", "out/detect")
    path = root / "params.yaml"
    path.write_text(edit(path.read_text()))
    result = failwb_here("split", cwd=root)
    assert result.returncode == 2 and says in said(result) and "Traceback" not in result.stderr, result.stderr


def test_a_missing_result_names_the_stage_that_makes_it(bench):
    result = failwb_here("split", cwd=bench())
    assert result.returncode == 2 and "dvc repro validate" in said(result)


def test_a_workbench_is_found_from_a_folder_below(bench):
    root = bench("out/catalog", "out/gate", "out/discover")
    (root / "deep/below").mkdir(parents=True)
    assert failwb("summary", cwd=root / "deep/below").returncode == 0

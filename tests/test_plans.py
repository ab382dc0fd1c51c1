"""Plans as people meet them: listed, read, amended before the seal, and never after it."""

import json
import shutil

import pytest
from house import failwb, failwb_here, out_json, said

from failwb.record.tables import read_json


def plans(root) -> list[dict]:
    result = failwb_here("plan", "list", "--json", cwd=root)
    assert result.returncode == 0, said(result)
    return json.loads(result.stdout)["plans"]


PARTS = ("data", "out/validate", "out/split", "out/discover", "out/diagnose", "out/propose", "out/gate")


def unseal(root):
    for kind in ("plans", "seals", "rounds"):
        for path in (root / "ledger" / kind).glob("*.json"):
            path.unlink()
    shutil.rmtree(root / "out/gate")


def test_the_list_says_where_each_plan_stands(bench):
    found = plans(bench(*PARTS))
    assert {(o["status"], o["verdict"]) for o in found} == {
        ("closed", v["verdict"]) for v in out_json("gate/verdicts.json")
    }
    assert {o["plan"] for o in found} == {v["plan"] for v in out_json("gate/verdicts.json")}
    assert all(0.8 <= o["power"] <= 1 and o["remedy"] and o["pattern"] for o in found)


def test_a_plan_is_readable_without_statistics(bench):
    root = bench(*PARTS)
    for line in plans(root):
        result = failwb_here("plan", "show", line["plan"][:8], cwd=root)
        assert result.returncode == 0, said(result)
        for part in (
            "The question",
            "Why it is asked",
            "What would count as success",
            "What could go wrong",
            "How it is undone",
            "can see",
            "Who has to sign",
        ):
            assert f"## {part}" in result.stdout or part in result.stdout
        assert "of 100 cases" in result.stdout and "never only of whoever sealed the plan" in result.stdout


def test_a_sealed_plan_is_not_amended(bench):
    root = bench(*PARTS)
    result = failwb_here(
        "plan", "amend", plans(root)[0]["plan"][:10], "--minimum-effect", "0.2", "--why", "more", cwd=root
    )
    assert result.returncode == 2 and "never changes" in said(result) and "Hint:" in said(result)
    assert not list((root / "ledger/amendments").glob("*.json"))


@pytest.mark.slow
def test_an_amended_plan_is_proposed_sealed_and_listed(bench):
    "Effect, a margin and a parameter change; propose writes what the ledger says, and the old plan stays to be read."
    root = bench(*PARTS)
    unseal(root)
    before = {o["plan"]: o for o in plans(root)}
    old = next(i for i, o in before.items() if o["remedy"] == "unit_fix")
    (root / "changes.yaml").write_text(
        "minimum_effect: 0.2\nmargins: {rest: 0.005}\nwhy: Less is not worth a release.\n"
    )
    threshold = read_json(root / f"out/propose/plans/{old}.json")["params"]["threshold"] * 1.01
    result = failwb_here(
        "plan", "amend", old[:8], "--file", "changes.yaml", "--param", f"threshold={threshold}", "--json", cwd=root
    )
    assert result.returncode == 0, said(result)
    new = json.loads(result.stdout)["superseded_by"]
    assert new != old and set(json.loads(result.stdout)["differs"]) >= {"minimum_effect", "guardrails", "params"}
    early = failwb("seal", cwd=root)
    assert early.returncode == 2 and "was amended since" in said(early)
    assert failwb("propose", cwd=root).returncode == 0
    written = {p.stem for p in (root / "out/propose/plans").glob("*.json")}
    assert written == set(before) - {old} | {new}
    plan = read_json(root / f"out/propose/plans/{new}.json")
    assert plan["minimum_effect"] == 0.2 and plan["amends"] == {"plan": old, "why": "Less is not worth a release."}
    assert failwb("seal", cwd=root).returncode == 0
    stands = {o["plan"]: (o["status"], o["superseded_by"]) for o in plans(root)}
    assert stands[old] == ("superseded", new) and stands[new] == ("sealed", None)
    assert "Less is not worth a release" in failwb_here("plan", "show", new[:8], cwd=root).stdout
    again = {p.name: p.read_bytes() for p in (root / "out/propose").rglob("*.json")}
    assert failwb("propose", cwd=root).returncode == 0
    assert {p.name: p.read_bytes() for p in (root / "out/propose").rglob("*.json")} == again, "sealed, it stays"
    late = failwb_here("plan", "amend", new[:8], "--minimum-effect", "0.3", "--why", "more", cwd=root)
    assert late.returncode == 2 and "never changes" in said(late)


def test_an_unknown_change_is_named(bench):
    root = bench(*PARTS)
    unseal(root)
    (root / "changes.yaml").write_text("alpha: 0.5\nwhy: Quicker.\n")
    result = failwb_here("plan", "amend", plans(root)[0]["plan"][:10], "--file", "changes.yaml", cwd=root)
    assert result.returncode == 2 and "alpha cannot be amended" in said(result) and "minimum_effect" in said(result)

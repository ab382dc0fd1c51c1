"""The doctor finds what is broken, names what mends it, and never breaks down itself; about half a minute."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import crowd
import pytest
from house import failwb, said

from failwb.lab import condition
from failwb.lab.findings import examine


def edit(name: str, old: str, new: str):
    def change(root: Path) -> None:
        text = (root / name).read_text(encoding="utf-8")
        assert old in text
        (root / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def write(name: str, content: bytes):
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return change


def remove(name: str):
    def change(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def damage(pattern: str):
    def change(root: Path) -> None:
        path = sorted(root.glob(pattern))[0]
        path.chmod(0o644)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    return change


def unseal(root: Path) -> None:
    for kind in ("plans", "seals", "rounds"):
        for path in (root / "ledger" / kind).glob("*.json"):
            path.unlink()


def commit(root: Path) -> None:
    who = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
    for words in (["add", "-A"], [*who, "commit", "-qm", "a workbench"]):
        subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)


def dirty(root: Path) -> None:
    commit(root)
    edit("params.yaml", "salt: failwb", "salt: other")(root)


BROKEN = [  # check, what is done to the workbench, level, what is said, what mends it
    (
        "params",
        edit("params.yaml", "  develop: 50", "  devlop: 50"),
        "wrong",
        "split has no parameter devlop",
        "params.yaml",
    ),
    ("params", remove("params.yaml"), "wrong", "params.yaml", ""),
    ("params", write("params.yaml", b"split: ["), "wrong", "not YAML", ""),
    ("contract", edit("contract.yaml", "columns:", "colums:"), "wrong", "contract.yaml", ""),
    ("contract", write("contract.yaml", b"\xff\xfe"), "wrong", "", ""),
    ("contract", None, "warning", "review was due", "review_by"),
    ("pipeline", edit("failwb.lock", "validate: ", "validate: 0"), "wrong", "differs from failwb.lock", "failwb lock"),
    ("pipeline", remove("failwb.lock"), "wrong", "not there", "failwb lock"),
    ("pipeline", edit("dvc.yaml", "failwb detect", "failwb  detect"), "warning", "not what", "failwb lock"),
    ("evidence", remove("data"), "wrong", "not here", "dvc pull data"),
    ("evidence", damage("data/segments/events-*.parquet"), "wrong", "altered", "dvc checkout data"),
    ("evidence", write("data/segments/manifest.json", b"{"), "wrong", "manifest.json", ""),
    ("checkpoints", damage("data/checkpoints/*/model.skops"), "wrong", "altered", "dvc checkout data"),
    (
        "checkpoints",
        edit("data/checkpoints/v1/checkpoint.json", '"numpy": "', '"numpy": "0.'),
        "warning",
        "made with numpy 0.",
        "pip install",
    ),
    ("ledger", write("ledger/triage/x.json", b"{"), "wrong", "triage/x.json cannot be read", ""),
    ("ledger", damage("ledger/plans/*.json"), "wrong", "altered", "git checkout"),
    ("plans", unseal, "warning", "not sealed", "failwb run"),
    ("git", remove(".git"), "warning", "no repository", "git init"),
    ("git", lambda root: None, "warning", "no commit yet", "git commit"),
    ("git", dirty, "warning", "cannot be traced to a commit: params.yaml", "git commit"),
    ("dvc", remove(".dvc"), "wrong", "no DVC project", "dvc init"),
    ("dvc", write("dvc.lock", b"schema"), "wrong", "dvc status", "failwb run"),
    ("dvc", remove("out/gate"), "warning", "gate", "failwb run"),
    ("leftovers", write("data.dvc", b""), "wrong", "data.dvc was cut short", "failwb run"),
    ("leftovers", write(".dvc/tmp/rwlock", b'{"wri'), "warning", "left over", "failwb run"),
    ("leftovers", write("out/.gate.part/x", b"{"), "warning", "out/.gate.part", "failwb run"),
]


@pytest.fixture(scope="module")
def benches(small, tmp_path_factory):
    "Copies of the finished workbench, each to be broken in one way."
    home = tmp_path_factory.mktemp("doctor")
    return lambda: crowd.copy(small.done, home / f"wb {len(list(home.iterdir()))}")


@pytest.mark.parametrize("check, change, level, says, mend", BROKEN)
def test_what_is_broken_is_found(benches, check, change, level, says, mend):
    root = benches()
    if change is None:
        text = (root / "contract.yaml").read_text(encoding="utf-8").splitlines()
        lines = ["review_by: '2020-01-31'" if line.startswith("review_by") else line for line in text]
        (root / "contract.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        change(root)
    found = [f for f in examine([getattr(condition, check)], root) if f.level != "ok"]
    fitting = [f for f in found if f.level == level and says in f.what and mend in f.mend]
    assert fitting, found
    assert [f for f in found if f.level == "wrong" and not f.what] == []


def test_a_sound_workbench_has_nothing_wrong(benches):
    root = benches()
    commit(root)
    result = failwb("doctor", cwd=root)
    assert result.returncode == 0 and " 0 wrong" in f" {said(result)}", said(result)
    assert all(word in result.stdout for word in ("params.yaml", "contract.yaml", "kernel", "disk", "permission"))


def test_everything_broken_at_once_is_still_a_report(benches):
    root = benches()
    for name in (
        "params.yaml",
        "contract.yaml",
        "dvc.yaml",
        "dvc.lock",
        "failwb.lock",
        "data.dvc",
        ".dvc/config",
        ".dvc/tmp/rwlock",
        ".git/HEAD",
    ):
        (root / name).write_bytes(os.urandom(64))
    for folder in ("ledger", "data/segments", "data/checkpoints/v1", "out/propose/plans"):
        for path in [p for p in (root / folder).rglob("*.json")]:
            path.write_bytes(b"\x00[")
    result = failwb("doctor", "--json", cwd=root)
    assert result.returncode == 1 and "Traceback" not in result.stdout + result.stderr, said(result)
    report = json.loads(result.stdout)
    wrong = {f["check"] for f in report["findings"] if f["level"] == "wrong"}
    assert report["wrong"] >= 7 and {"dvc", "ledger", "plans", "leftovers"} <= wrong, wrong


def test_outside_a_workbench_it_looks_at_the_installation(tmp_path):
    result = failwb("doctor", cwd=tmp_path)
    assert result.returncode == 0 and "not inside a workbench" in said(result) and "python" in result.stdout

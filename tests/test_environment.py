"""Full disks, foreign folders, missing programs: a message with exit code 2, and nothing half-made; about a minute."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import crowd
import pytest
from conditions import NOBODY, as_nobody, hand_over
from house import BIN, ONE_THREAD, failwb, run, said

from failwb.remedy.leftovers import half_made

INIT = ("init", "wb", "--table", "crowd.csv", "--label", "left", "--train", "--owner", "ada")


def is_message(result: subprocess.CompletedProcess, *says: str) -> None:
    assert result.returncode == 2, said(result)
    assert "Traceback" not in result.stdout + result.stderr, result.stderr
    assert [s for s in says if s not in said(result)] == [], said(result)


def tree(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*")}


# -- full disks


@pytest.fixture
def small_disk(tmp_path):
    "Mount a file system of `kilobytes` in memory; skipped where this user may not mount."
    place = tmp_path / "small disk"
    place.mkdir()

    def mount(kilobytes: int, options: str = "") -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k{options}", "tmpfs", str(place)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"no file system of a fixed size can be mounted here: {done.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True)


def fill(place: Path, leave: int) -> Path:
    "Fill the disk of `place` but for `leave` bytes."
    filler = place / "filler"
    filler.write_bytes(b"\0" * max(0, shutil.disk_usage(place).free - leave))
    return filler


def test_init_on_a_full_disk_leaves_nothing(small, small_disk):
    disk = small_disk(300)
    shutil.copy(small.table, disk / "crowd.csv")
    result = failwb(*INIT, cwd=disk, TMPDIR=str(disk.parent))
    is_message(result, "Hint: free some space")
    assert tree(disk) == {"crowd.csv"}


@pytest.mark.parametrize("typed", [["detect"], ["enrich"], ["document"], ["run"]], ids=" ".join)
def test_a_full_disk_stops_a_stage_and_the_next_run_is_whole(small, small_disk, typed):
    disk = small_disk(120_000)
    root = crowd.copy(small.done, disk / "wb")
    if typed == ["run"]:
        shutil.rmtree(root / "out")
        shutil.rmtree(root / ".dvc/cache/files")
        (root / "data.dvc").touch()
    filler = fill(disk, 20_000)
    result = failwb(*typed, cwd=root)
    is_message(result, "Hint: free some space")
    assert half_made(root) == []
    if typed == ["document"]:
        assert not (root / "out/document").exists()
        filler.unlink()
        assert failwb("document", cwd=root).returncode == 0
        assert crowd.different(small.done, root) == []


def test_sealing_on_a_full_disk_leaves_no_half_entry(small, small_disk):
    disk = small_disk(120_000)
    root = crowd.copy(small.done, disk / "wb")
    for kind in ("plans", "seals"):
        for path in (root / "ledger" / kind).glob("*.json"):
            path.unlink()
    before = tree(root / "ledger")
    (root / ".failwb/live/run.lock").write_text(" " * 200)
    fill(disk, 0)
    is_message(failwb("seal", cwd=root), "Hint: free some space")
    assert tree(root / "ledger") == before


def test_a_limit_on_the_size_of_files_is_named(small, tmp_path):
    "Works for every user, where nothing can be mounted."
    root = crowd.copy(small.done, tmp_path / "wb")
    result = subprocess.run(
        [BIN / "failwb", "enrich"],
        cwd=root,
        env=os.environ | ONE_THREAD,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
    )
    is_message(result, "larger than is allowed", "ulimit -f")
    assert not (root / "out/enrich").exists() and half_made(root) == []


# -- folders of somebody else's


def as_other(*typed: str, cwd: Path, uid: int = NOBODY, **env: str) -> subprocess.CompletedProcess:
    words = as_nobody(uid)
    if words is None:
        pytest.skip("only root can become another user, and setpriv is needed")
    here = {k: v for k, v in os.environ.items() if k not in ("USER", "LOGNAME")}
    given = here | ONE_THREAD | {"HOME": "/nonexistent", "DVC_SITE_CACHE_DIR": str(cwd / ".site")} | env
    return subprocess.run([*words, str(BIN / "failwb"), *typed], cwd=cwd, env=given, capture_output=True, text=True)


def open_the_way(folder: Path) -> None:
    "Let other users come as far as `folder`; pytest makes its folders for their owner alone."
    for f in (folder, *folder.parents):
        if len(f.parts) > 2:
            f.chmod(f.stat().st_mode | 0o055)


@pytest.fixture(scope="module")
def foreign(small, tmp_path_factory) -> Path:
    "A workbench that belongs to another user than the one who works in it."
    root = crowd.copy(small.done, tmp_path_factory.mktemp("foreign") / "wb")
    open_the_way(root)
    return root


@pytest.mark.parametrize(
    "typed", [["run"], ["seal"], ["round", "close"], ["collect"], ["validate"], ["lock"]], ids=" ".join
)
def test_a_folder_of_somebody_elses_is_named(foreign, typed):
    before = tree(foreign)
    result = as_other(*typed, cwd=foreign)
    is_message(result, str(foreign), "permission was denied", "Hint:")
    assert tree(foreign) == before


def test_a_folder_of_somebody_elses_can_be_read(foreign):
    assert as_other("summary", cwd=foreign).returncode == 0
    result = as_other("doctor", cwd=foreign)
    assert result.returncode == 1 and "cannot be written" in said(result) and "Traceback" not in said(result)


def test_init_where_nothing_may_be_written(small, tmp_path):
    shutil.copy(small.table, tmp_path / "crowd.csv")
    open_the_way(tmp_path)
    is_message(as_other(*INIT, cwd=tmp_path), "permission was denied", "wb")
    assert tree(tmp_path) == {"crowd.csv"}


def test_a_user_without_a_name_has_one_in_the_ledger(small, tmp_path):
    "Containers run under numbers that no user has."
    shutil.copy(small.table, tmp_path / "crowd.csv")
    if as_nobody():
        hand_over(tmp_path)
        for path in (tmp_path, tmp_path / "crowd.csv"):
            os.chown(path, 54321, 54321)
    result = as_other(*INIT[:-2], cwd=tmp_path, uid=54321)
    assert result.returncode == 0, said(result)
    assert "owner: uid-54321" in (tmp_path / "wb/contract.yaml").read_text()


def test_a_read_only_disk_is_named(small, small_disk):
    disk = small_disk(120_000)
    root = crowd.copy(small.done, disk / "wb")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    is_message(failwb("detect", cwd=root), "read-only", "Hint:")
    assert failwb("summary", cwd=root).returncode == 0


# -- what is not installed


def test_without_git_a_workbench_is_made_and_says_so(small, tmp_path):
    shutil.copy(small.table, tmp_path / "crowd.csv")
    nothing = {"PATH": "/nonexistent"}
    result = failwb(*INIT, cwd=tmp_path, **nothing)
    assert result.returncode == 0 and "git is not installed" in said(result), said(result)
    assert not (tmp_path / "wb/.git").exists() and "git add" not in result.stdout
    ran = run(sys.executable, "-m", "dvc", "repro", "split", cwd=tmp_path / "wb", PATH=f"{BIN}{os.pathsep}/bin")
    assert ran.returncode == 0 and (tmp_path / "wb/out/split/summary.json").is_file(), said(ran)


@pytest.fixture(scope="module")
def no_dvc(tmp_path_factory) -> Path:
    "A folder with all installed packages but DVC."
    site = tmp_path_factory.mktemp("site")
    for path in Path(next(p for p in sys.path if p.endswith("site-packages"))).iterdir():
        if not path.name.startswith("dvc"):
            (site / path.name).symlink_to(path)
    return site


@pytest.mark.parametrize("typed", [["run"], [*INIT]], ids=lambda typed: typed[0])
def test_without_dvc_a_command_says_so(small, no_dvc, tmp_path, typed):
    root = crowd.copy(small.done, tmp_path / "done") if typed == ["run"] else tmp_path
    shutil.copy(small.table, root / "crowd.csv")
    before = tree(root) | {".failwb/live/run.lock"}
    import failwb as package

    path = [str(Path(package.__file__).parent.parent), str(no_dvc)]
    program = f"import sys; sys.path += {path!r}; sys.argv[1:] = {typed!r}; from failwb.cli import main; main()"
    result = run(sys.executable, "-S", "-c", program, cwd=root, PYTHONPATH="")
    is_message(result, "DVC is not installed", "pip install dvc")
    assert tree(root) - before <= {".failwb/live/kept", ".failwb/live/kept/dvc.lock", ".failwb/live/kept/data.dvc"}


def test_signs_that_a_terminal_cannot_show_stop_nothing():
    result = failwb("glossary", LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii")
    assert result.returncode == 0, said(result)

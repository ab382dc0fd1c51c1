"The search over levels: equal to counting every slice, wherever the rows are, and whatever dies on the way."

import os
import signal
import threading
import time
from functools import partial
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.utils.estimator_checks import check_estimator

from failwb.discover.blocks import Again, row_groups
from failwb.discover.lattice import Memory, in_blocks, search_levels
from failwb.discover.slices import Levels, SliceSearch
from failwb.discover.spans import Scale, Slice, Span, rank
from failwb.discover.tallies import grid_of


@st.composite
def tables(draw, real: bool):
    "Codes with missing values, levels that no row has, ties (columns twice), losses, and what is asked for."
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(1, 250)), draw(st.integers(1, 5))
    codes = np.column_stack([rng.choice(draw(st.integers(1, 7)), n) for _ in range(m)]).astype(np.uint8)
    codes[codes == 2] = draw(st.sampled_from([2, 9]))  # 9: levels between are empty
    if m > 1 and draw(st.booleans()):
        codes[:, -1] = codes[:, 0]
    losses = (rng.random(n) < draw(st.sampled_from([0.05, 0.3, 0.9]))) * 1.0
    if real:
        losses *= rng.choice([0.1, 0.25, 1 / 3, 7.0], n) if draw(st.booleans()) else rng.exponential(1, n)
    asked = {
        "k": draw(st.integers(1, 12)),
        "max_literals": draw(st.integers(1, 5)),
        "min_rows": draw(st.integers(0, 20)),
        "min_errors": draw(st.sampled_from([0.0, 1.5, 4.0])),
        "alpha": draw(st.sampled_from([0.8, 0.95, 0.99, 1.0])),
    }
    return codes, losses, asked


def brute_force(codes, losses, k, max_literals, min_rows, min_errors, alpha) -> list[Slice]:
    "Count every slice by itself."
    n, worst = len(losses), losses.max()
    if worst == 0:
        return []
    if not np.isin(losses, (0, 1)).all():
        losses = np.round(losses / grid_of(n, worst)) * grid_of(n, worst)
    scale, found = Scale(n, losses.sum(), losses.max(), alpha, min_rows, min_errors), []
    for size in range(1, min(max_literals, codes.shape[1]) + 1):
        for features in combinations(range(codes.shape[1]), size):
            for levels in product(*(range(codes[:, f].max() + 1) for f in features)):
                rows = (codes[:, features] == levels).all(axis=1)
                score = float(scale.score(np.array([rows.sum() * 1.0]), np.array([losses[rows].sum()]))[0])
                if score > 0:
                    spans = tuple(Span(f, v, v + 1) for f, v in zip(features, levels, strict=True))
                    found.append(Slice(spans, score, int(rows.sum()), float(losses[rows].sum())))
    return sorted(found, key=rank)[:k]


@pytest.mark.parametrize("real", [False, True], ids=["0/1", "real-valued"])
def test_the_answer_is_that_of_counting_every_slice(real):
    "The same slices in the same order with the same figures, in one block and in blocks of 64 rows."

    @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(tables(real))
    def equal(case):
        codes, losses, asked = case
        expected = brute_force(codes, losses, **asked)
        for rows in (1 << 18, 64):
            assert search_levels(Memory(in_blocks(codes, losses, rows)), **asked).slices == expected

    equal()


def big_table(n=60_000, real=True):
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 6, size=(n, 8), dtype=np.uint8)
    wrong = rng.random(n) < np.where((codes[:, 1] == 2) & (codes[:, 5] == 0), 0.5, 0.1)
    return codes, wrong * rng.exponential(1, n) if real else wrong * 1.0


def slow_pieces(parts, log: Path, seconds: float) -> list:
    "Pieces that say in which process they are read, and take their time; sent by value, so that workers import little."

    def read(part):
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(seconds)
        return part

    return [partial(read, part) for part in parts]


def kill_a_reader(log: Path, killed: list[int]) -> None:
    "Kill a process in the middle of a piece, once both processes have read some."
    while True:
        readers = log.read_text().split() if log.exists() else []
        if len(readers) > 24 and len(set(readers)) > 1:
            os.kill(int(readers[-1]), signal.SIGKILL)
            killed.append(int(readers[-1]))
            return
        time.sleep(0.01)


@pytest.fixture(scope="module")
def client():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as made,
    ):
        yield made


@pytest.mark.parametrize("real", [False, True], ids=["0/1", "real-valued"])
def test_two_processes_give_the_same_bits_also_when_one_is_killed(tmp_path, client, real):
    "Quietly, and with `kill -9` in the middle of a piece, which Dask then gives to another process."
    codes, losses = big_table(real=real)
    expected = search_levels(Memory([(codes, losses)]), min_rows=100, alpha=0.99).slices
    reads, killed = [], []
    for kill in (False, True):
        client.wait_for_workers(2)
        log = tmp_path / f"killed {kill}"
        pieces = slow_pieces(in_blocks(codes, losses, 6_000), log, 0.03)
        killer = threading.Thread(target=kill_a_reader, args=(log, killed), daemon=True)
        if kill:
            killer.start()
        found = SliceSearch(min_rows=100, alpha=0.99).fit_blocks(pieces, client=client).slices_
        assert found == expected and len(found) == 10
        reads.append(log.read_text().split())
    assert len(killed) == 1 and str(killed[0]) in reads[1] and len(reads[1]) > len(reads[0])


def test_row_groups_of_a_table_with_words_and_gaps_are_one_pass(tmp_path):
    codes, losses = big_table(20_000)
    table = pd.DataFrame(codes[:, :3] * 1.5).add_prefix("number").assign(word=pd.Series(codes[:, 5]).map(str))
    table.loc[codes[:, 7] == 0, "number2"] = np.nan
    table.assign(loss=losses).to_parquet(tmp_path / "rows.parquet", row_group_size=3_000)
    whole = SliceSearch(min_rows=100, alpha=0.99).fit(table, losses)
    groups = row_groups(tmp_path / "rows.parquet", losses="loss")
    blocks = SliceSearch(min_rows=100, alpha=0.99, levels=Levels().fit(table)).fit_blocks(groups)
    assert len(groups) == 7 and len(whole.slices_) == 10
    assert blocks.slices_ == whole.slices_ and list(blocks.get_feature_names_out()) == list(
        whole.get_feature_names_out()
    )
    assert (blocks.transform(table) == whole.transform(table)).all()


def test_blocks_take_the_memory_of_a_block():
    "Rows that are made anew for each question never stand in memory together."
    alive, most = [0], [0]

    class Counted(np.ndarray):
        def __del__(self):
            alive[0] -= self.base is None

    def read(seeds=12):
        for seed in range(seeds):
            codes = np.random.default_rng(seed).integers(0, 5, (5_000, 6), dtype=np.uint8)
            made = np.ndarray.__new__(Counted, codes.shape, dtype=np.uint8)
            made[:] = codes
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            yield made, (codes[:, 0] == 1) & (codes[:, 1] == codes[:, 2])

    assert search_levels(Again(read, None)).slices and most[0] <= 2


def test_scikit_learns_checks():
    results = check_estimator(SliceSearch(), on_fail=None)
    failed = [(r["check_name"], str(r["exception"])) for r in results if r["status"] == "failed"]
    assert failed == [] and sum(r["status"] == "passed" for r in results) > 40


def test_many_features_make_no_id_overflow():
    "A pair that sliceline 0.3.0 loses among twenty features of ten levels, for its ids of candidates pass 2**53."
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 11, size=(10_000, 20), dtype=np.uint8)
    losses = rng.random(10_000) < np.where((codes[:, 0] == 1) & (codes[:, 18] == 1), 0.9, 0.1)
    assert search_levels(Memory([(codes, losses)]), k=1, alpha=0.99).slices[0].spans == (Span(0, 1, 2), Span(18, 1, 2))


@pytest.mark.parametrize("n_features", [600])
def test_wide_tables_prune_at_the_first_level(n_features):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, size=(3_000, n_features), dtype=np.uint8)
    losses = rng.random(3_000) < np.where((codes[:, 100] == 1) & (codes[:, 500] == 2), 0.9, 0.05)
    found = search_levels(Memory([(codes, losses)]), k=1, min_rows=100)
    assert found.slices[0].spans == (Span(100, 1, 2), Span(500, 2, 3))

# ruff: noqa: E501  (programs and tables are wide)
"""Drift by column, a million rows against a million: CPU seconds and peak memory of whole processes, beside nannyml, evidently and exact scipy.

    make bench-drift                                     # 1,000,000 x 1,000,000 rows, 40 numeric and 10 categorical columns
    .venv/bin/python benchmarks/drift.py --rows 50000    # smaller
    .venv/bin/python benchmarks/drift.py --only elec2    # where detectors of streams fire on Elec2 (FAILWB_REAL_DATA names its folder, or it is fetched)
    .venv/bin/python benchmarks/drift.py --only null     # false alarms alone: nothing changed, how often is it said that something did?

Runs of ours and of the peers take turns. A peer that is not installed, fails, or passes its limits of time and memory is reported as such.
The last line is one JSON object of figures by name.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.slices import PEERS, Run, Tool, launched  # noqa: E402

NUMERIC, CATEGORICAL = 40, 10


def table(n: int, seed: int, late: bool):
    "Eight kinds of numeric columns and five of levels; in the later half most of them are bent, some are not."
    import numpy as np
    import pandas as pd

    rng, columns = np.random.default_rng(seed), {}
    for j in range(NUMERIC):
        kind, bend = (
            j % 8,
            late * (j // 8),
        )  # five columns of a kind: none, shifted, spread, rescaled, filled or emptied
        x = [
            lambda: rng.normal(size=n),
            lambda: rng.lognormal(sigma=1.5, size=n),
            lambda: rng.random(n),
            lambda: rng.integers(0, 12, n) * 1.0,
            lambda: np.where(rng.random(n) < 0.4, rng.normal(-3, 0.2, n), rng.normal(2, 1, n)),
            lambda: np.round(rng.gamma(2, 300, n), 2),
            lambda: rng.standard_t(3, n),
            lambda: 1.6e9 + rng.exponential(1e6, n),
        ][kind]()
        spread = 1e6 if kind == 7 else 300.0 if kind == 5 else 1.0
        x = [
            x,
            x + 0.1 * spread,
            x * 1.1,
            x * [2.54, 1000.0][j % 2],
            np.where(rng.random(n) < 0.2, np.float64(x[:1000].mean()), x),
        ][bend]
        x[rng.random(n) < (0.3 if bend == 2 else 0.02)] = np.nan
        columns[f"n{j:02}"] = x
    for j in range(CATEGORICAL):
        size = [2, 8, 50, 400, 10_000][j % 5]
        weights = np.arange(1, size + 1) ** -0.7
        weights = np.roll(weights, late * (j >= 5))
        columns[f"c{j:02}"] = pd.Categorical.from_codes(
            rng.choice(size, n, p=weights / weights.sum()), [f"level {k:05}" for k in range(size)]
        )
    return pd.DataFrame(columns)


SETS = """
import json, sys
from collections import Counter
from failwb.signals.bins import frame_blocks, merged, parquet_blocks, read_reference, reference_bytes, reference_of
from failwb.signals.distances import shift_of
import pyarrow.parquet as pq
before, now, stored = sys.argv[1:4]
texts = [f"c{j:02}" for j in range(10)]
"""

COMPARE = (
    SETS
    + """
reference = read_reference(stored)
print(json.dumps(shift_of(reference, reference.of(parquet_blocks(now, texts)))))
"""
)

WHOLE = (
    SETS
    + """
reference = reference_of(lambda: parquet_blocks(before, texts), pq.read_metadata(before).num_rows)
open(stored, "wb").write(reference_bytes(reference))
print(json.dumps(shift_of(reference, reference.of(parquet_blocks(now, texts)))))
"""
)

PARTS = (
    SETS
    + """
reference, parts, seen = read_reference(stored), [[] for _ in range(50)], Counter()
for block in parquet_blocks(now, texts, rows=7919):  # column by column
    [name] = block
    parts[seen[name] % 50].append(block)
    seen[name] += 1
print(json.dumps(merged(reference.of(p) for p in reversed(parts)) == reference.of(parquet_blocks(now, texts))))
"""
)

SCIPY = """
import json, sys
import numpy as np, pandas as pd
from scipy import stats
before, now = (pd.read_parquet(p) for p in sys.argv[1:3])
found = {}
for c in before:
    if c[0] == "n":
        a, b = (t[c].dropna().to_numpy() for t in (before, now))
        found[c] = {"ks": float(stats.ks_2samp(a, b, method="asymp").statistic), "wasserstein": float(stats.wasserstein_distance(a, b))}
    else:
        rows = pd.concat([t[c].value_counts() for t in (before, now)], axis=1).fillna(0).T.to_numpy(float)
        found[c] = {"chi2": float(stats.chi2_contingency(rows[:, rows.sum(axis=0) > 0], correction=False).statistic)}
print(json.dumps(found))
"""

NANNYML = """
import json, sys
import nannyml as nml, pandas as pd
before, now = (pd.read_parquet(p) for p in sys.argv[1:3])
names = list(before)
drifting = nml.UnivariateDriftCalculator(column_names=names, treat_as_categorical=[n for n in names if n[0] == "c"],
    continuous_methods=["kolmogorov_smirnov", "wasserstein", "jensen_shannon"], categorical_methods=["chi2", "jensen_shannon"], chunk_number=1)
result = drifting.fit(before).calculate(now).filter(period="analysis").to_df()
keys = {"kolmogorov_smirnov": "ks", "wasserstein": "wasserstein", "chi2": "chi2"}
print(json.dumps({n: {keys[m]: float(result[n, m, "value"].iloc[-1]) for m in keys if (n, m, "value") in result.columns} for n in names}))
"""

EVIDENTLY = """
import json, sys
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
before, now = (pd.read_parquet(p) for p in sys.argv[1:3])
names = list(before)
columns = DataDefinition(numerical_columns=[n for n in names if n[0] == "n"], categorical_columns=[n for n in names if n[0] == "c"])
report = Report([DataDriftPreset()]).run(*(Dataset.from_pandas(t, columns) for t in (now, before))).dict()
print(json.dumps({m["config"]["column"]: {} for m in report["metrics"] if m["config"]["type"].endswith("ValueDrift")}))
"""


def tools() -> list[Tool]:
    "Ours first; scipy runs in our own environment."
    own = Path(sys.executable)
    return [
        Tool("ours, stored reference", own, COMPARE),
        Tool("ours, both halves", own, WHOLE),
        Tool("scipy (exact)", own, SCIPY),
        Tool("nannyml", PEERS / "nannyml/bin/python", NANNYML),
        Tool("evidently", PEERS / "evidently/bin/python", EVIDENTLY),
    ]


def errors(exact: dict, found: dict) -> dict[str, float]:
    "Return the largest error of `found`: of KS in itself, of Wasserstein and chi-squared as a share of the exact one."
    worst = {"ks": 0.0, "wasserstein": 0.0, "chi2": 0.0}
    for column, true in exact.items():
        for measure, value in true.items():
            got = found[column].get(measure)
            if got is not None:
                gap = abs(got - value) / (1.0 if measure == "ks" else max(abs(value), 1e-300))
                worst[measure] = max(worst[measure], gap)
    return worst


def without_missing(found: dict) -> dict:
    "Return ours with the chi-squared of levels alone: the exact one knows no missing level, and the tables have none."
    return {c: {k: v for k, v in f.items() if k != "chi2" or f["kind"] == "category"} for c, f in found.items()}


def full(rows: int, rounds: int, peers: list[str], figures: dict) -> None:
    "Compare all tools on the same two files."
    import numpy as np

    with tempfile.TemporaryDirectory() as d:
        before, now, stored = Path(d) / "before.parquet", Path(d) / "now.parquet", Path(d) / "reference.parquet"
        table(rows, 0, late=False).to_parquet(before, index=False)
        table(rows, 1, late=True).to_parquet(now, index=False)
        chosen = [t for t in tools() if t.name.split()[0].strip(",") in ("ours", "scipy", *peers)]
        print(f"{rows:,} rows against {rows:,}, {NUMERIC} numeric and {CATEGORICAL} categorical columns")
        print(
            f"  {'tool':26}{'CPU s':>10}{'peak MB':>10}   largest error: KS, Wasserstein (share), chi-squared (share)"
        )
        args, runs = (before, now, stored), {}
        launched(tools()[1], args, 600, 16)  # makes the stored reference, and compiles what Python compiles once
        for _turn in range(rounds):
            for tool in chosen:
                once = tool.name not in ("ours, stored reference", "ours, both halves")
                if not tool.why_not() and not (once and tool.name in runs):
                    runs.setdefault(tool.name, []).append(launched(tool, args, 3600, 20))
        exact = runs["scipy (exact)"][0].slices
        for tool in chosen:
            tell(tool, runs.get(tool.name), exact, figures)
        ratios(figures)
        figures["stored_reference_bytes"] = stored.stat().st_size
        same: Run = launched(Tool("parts", Path(sys.executable), PARTS), args, 600, 16)
        figures["merge_equal"] = same.slices is True
        print(f"  50 interleaved parts, merged backwards, equal one pass to the bit: {same.slices} {same.said}")
        quarter = Path(d) / "quarter.parquet"
        table(max(rows // 4, 1), 1, late=True).to_parquet(quarter, index=False)
        small = launched(tools()[0], (before, quarter, stored), 600, 16)
        figures["peak_of_a_quarter_mb"] = round(small.peak, 1)
        print(
            f"  peak with a quarter of the rows: {small.peak:.0f} MB (all: {figures['ours_stored_peak_mb']:.0f} MB); the stored reference: {figures['stored_reference_bytes'] / 1e6:.2f} MB"
        )
        assert np.isfinite(small.cpu)


def key_of(tool: Tool) -> str:
    "Return the name of a tool in the figures."
    return {"ours, stored reference": "ours_stored", "ours, both halves": "ours_both"}.get(
        tool.name, tool.name.split()[0]
    )


def tell(tool: Tool, mine: list[Run] | None, exact: dict, figures: dict) -> None:
    "Print the row of a tool, and keep its figures."
    import numpy as np

    if not mine:
        print(f"  {tool.name:26}{'-':>10}{'-':>10}   {tool.why_not()}")
        return
    cpu, peak, last = float(np.median([r.cpu for r in mine])), max(r.peak for r in mine), mine[-1]
    figures |= {
        f"{key_of(tool)}_cpu_s": round(cpu, 3),
        f"{key_of(tool)}_peak_mb": round(peak, 1),
        f"{key_of(tool)}_done": last.slices is not None,
    }
    told = last.said
    if last.slices is not None and key_of(tool) not in ("scipy", "evidently"):
        found = without_missing(last.slices) if tool.name.startswith("ours") else last.slices
        worst = errors(exact, found)
        told = ", ".join(f"{v:.2g}" for v in worst.values())
        figures |= {f"{key_of(tool)}_{k}_error": float(f"{v:.3g}") for k, v in worst.items()}
    print(f"  {tool.name:26}{cpu:10.2f}{peak:10.0f}   {told}")


def ratios(figures: dict) -> None:
    "Print what share of each peer's CPU and memory ours takes."
    for ours in ("ours_stored", "ours_both"):
        for peer in ("scipy", "nannyml", "evidently"):
            if figures.get(f"{peer}_done"):
                cpu, peak = (round(figures[f"{ours}_{k}"] / figures[f"{peer}_{k}"], 4) for k in ("cpu_s", "peak_mb"))
                figures |= {f"{ours}_{peer}_cpu_ratio": cpu, f"{ours}_{peer}_peak_ratio": peak}
                print(f"  {ours.replace('_', ', '):14} / {peer:10} CPU x {cpu:.4f}, peak x {peak:.4f}")


def null(figures: dict, repeats: int = 400, rows: int = 2000, columns: int = 10, level: float = 0.05) -> None:
    "Say how often a table in which nothing changed raises an alarm: by column, and by table after Holm's correction."
    import numpy as np
    import pandas as pd
    from scipy import stats

    from failwb.signals.bins import frame_blocks, reference_of
    from failwb.signals.distances import shift_of
    from failwb.signals.intervals import holm

    rng, single, whole = np.random.default_rng(0), 0, 0
    for _ in range(repeats):
        a, b = (
            pd.DataFrame(
                {f"n{j}": rng.lognormal(size=rows) if j % 2 else rng.normal(size=rows) for j in range(columns - 2)}
                | {f"c{j}": rng.choice(list("abcdefgh"), rows) for j in range(2)}
            )
            for _ in "ab"
        )
        reference = reference_of(lambda a=a: frame_blocks(a), rows)
        p = np.array([f["p"] for f in shift_of(reference, reference.of(frame_blocks(b))).values()])
        single, whole = single + int((p <= level).sum()), whole + int((holm(p) <= level).any())
    for name, hits, tries in (("column", single, repeats * columns), ("table", whole, repeats)):
        chance = float(stats.binomtest(hits, tries, level, alternative="greater").pvalue)
        figures |= {
            f"null_{name}_alarms": hits,
            f"null_{name}_tries": tries,
            f"null_{name}_p_above_nominal": float(f"{chance:.3g}"),
        }
        print(
            f"  nothing changed: {hits} alarms in {tries} tries by {name} ({hits / tries:.1%}, nominal {level:.0%}; p that the true rate is nominal or less: {chance:.2g})"
        )


def elec2(figures: dict) -> None:
    "Say where detectors of streams fire on Elec2, of a model of its first fifth, against the batch dating of the same losses."
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier

    from failwb.lab.datasets import elec2 as read
    from failwb.signals.onset import largest_rise
    from failwb.signals.shift import dated
    from failwb.signals.streams import DETECTORS, detector, fires

    table = read(os.environ.get("FAILWB_REAL_DATA") or None).sort_values("time", kind="stable").reset_index(drop=True)
    X, y, time = table.select_dtypes("number"), table["class"].astype(str), pd.to_datetime(table["time"], utc=True)
    early = len(table) // 5
    model = HistGradientBoostingClassifier(random_state=0).fit(X[:early], y[:early])
    loss, time = (model.predict(X[early:]) != y[early:]).to_numpy(float), time[early:].reset_index(drop=True)
    print(f"  Elec2: {len(loss):,} losses after {time.min():%Y-%m-%d}, error {loss.mean():.1%}")
    rise, change = largest_rise(time, loss, 30, 30, 199, seed=0), dated(time, loss)
    print(
        f"    batch, span of the largest rise: {rise.since[:10]} to {(rise.until or 'the end')[:10]} ({rise.during:.1%} against {rise.otherwise:.1%}, p = {rise.p:.2g})"
    )
    print(
        f"    batch, one change of the mean:   {change['since']} ({change['earliest']} to {change['latest']}; {change['before']:.1%}, then {change['after']:.1%}; p = {change['p']:.2g})"
    )
    figures |= {
        "elec2_since": change["since"],
        "elec2_earliest": change["earliest"],
        "elec2_latest": change["latest"],
        "elec2_rise_since": rise.since[:10],
    }
    for name in DETECTORS:
        at = fires(loss, lambda name=name: detector(name))
        start = pd.Timestamp(rise.since)
        near = [i for i in at if time[i] >= (start if start.tz else start.tz_localize("UTC"))]
        told = f"{len(at)} alarms; first {time[at[0]]:%Y-%m-%d}" if at else "no alarm"
        after = f"; first in or after the span {time[near[0]]:%Y-%m-%d}" if near else ""
        print(f"    {name:12} {told}{after}")
        figures |= {f"elec2_{name}_alarms": len(at)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="runs of ours; a peer runs once")
    parser.add_argument("--peers", default="nannyml,evidently")
    parser.add_argument("--only", choices=["full", "null", "elec2"])
    given, figures = parser.parse_args(), {}
    if given.only in (None, "full"):
        full(given.rows, given.rounds, given.peers.split(","), figures)
    if given.only in (None, "null"):
        null(figures)
    if given.only in (None, "elec2"):
        elec2(figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

"""Does the gate keep its promises? Simulated experiments with known answers go through the real functions; run it with `make bench-gate`."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

from failwb.record.tables import settle
from failwb.remedy.gate import verdicts_of
from failwb.remedy.sequential import entries, evidence, monitor
from failwb.remedy.simulate import Simulation, Size, size
from failwb.remedy.statistics import holm, noninferior, power, round_alpha, sign_flip

ALPHA, TARGET, PERMUTATIONS, UNITS_MINIMUM = 0.05, 0.8, 1999, 12  # of params.yaml, with fewer flips
METRICS = ("error", "cost", "log_loss", "brier", "absolute_error")
EFFECTS = {
    "harmful": -0.2,
    "none": 0.0,
    "traded": 0.0,
    "small": 0.2,
    "large": 0.4,
}  # share of the baseline's loss that the candidate saves
SIZES, EVENTS = (60, 150, 400, 1000), (1, 5)
POINTS = 0.05  # by which realised power may fall short of the planned one
SUSPICION = 0.001  # a promise counts as broken where a figure this bad has at most this chance while it is kept


# -- worlds: losses of baseline and candidate, by subject and event


def scores(rng: np.random.Generator, shape: tuple[int, int]) -> list[np.ndarray]:
    "Return standard normal difficulties (subjects, events) for two models that share subject and row, each with a leaning of its own by subject."
    subject, row = rng.normal(size=(shape[0], 1)), rng.normal(size=shape)
    return [
        np.sqrt(0.25) * subject
        + np.sqrt(0.4) * row
        + np.sqrt(0.1) * rng.normal(size=(shape[0], 1))
        + np.sqrt(0.25) * rng.normal(size=shape)
        for _ in range(2)
    ]


def errors(
    rng: np.random.Generator, shape: tuple[int, int], saved: float, traded: bool
) -> tuple[np.ndarray, np.ndarray]:
    "0/1 losses at 30%; traded: a candidate that hurts 8% of the subjects badly and does the others some good."
    base, candidate = scores(rng, shape)
    rate = np.full((shape[0], 1), 0.3 * (1 - saved))
    if traded:
        rate += np.where(rng.random((shape[0], 1)) < 0.08, 0.35, -0.35 * 0.08 / 0.92)
    return (base < stats.norm.ppf(0.3)).astype(float), (candidate < stats.norm.ppf(rate)).astype(float)


def costs(
    rng: np.random.Generator, shape: tuple[int, int], saved: float, traded: bool
) -> tuple[np.ndarray, np.ndarray]:
    "A missed case (3% of rows) costs 5, a false alarm (12%) costs 1; traded: half the false alarms for 40% more misses."
    (base, candidate), case = map(stats.norm.cdf, scores(rng, shape)), rng.random(shape) < 0.3
    misses, alarms = (0.042, 0.06) if traded else (0.03 * (1 - saved), 0.12 * (1 - saved))
    cost = [
        np.where(case, 5.0 * (rank < miss / 0.3), 1.0 * (rank < alarm / 0.7))
        for rank, miss, alarm in ((base, 0.03, 0.12), (candidate, misses, alarms))
    ]
    return cost[0], cost[1]


def probabilities(
    rng: np.random.Generator, shape: tuple[int, int], traded: bool
) -> tuple[np.ndarray, list[np.ndarray]]:
    "Return labels and the log-odds of two models; traded: an overconfident candidate against a shy baseline."
    truth = 0.8 * rng.normal(size=(shape[0], 1)) + 1.2 * rng.normal(size=shape) - 0.8
    base, candidate = scores(rng, shape)
    return rng.random(shape) < 1 / (1 + np.exp(-truth)), [
        (0.7 if traded else 1.0) * truth + 0.6 * base,
        (1.8 if traded else 1.0) * truth + 0.6 * candidate,
    ]


def log_losses(
    rng: np.random.Generator, shape: tuple[int, int], saved: float, traded: bool
) -> tuple[np.ndarray, np.ndarray]:
    "Log-loss of noisy probabilities."
    label, odds = probabilities(rng, shape, traded)
    base, candidate = (np.logaddexp(0, np.where(label, -z, z)) for z in odds)
    return base, candidate


def briers(
    rng: np.random.Generator, shape: tuple[int, int], saved: float, traded: bool
) -> tuple[np.ndarray, np.ndarray]:
    "Brier score of noisy probabilities."
    label, odds = probabilities(rng, shape, traded)
    base, candidate = ((1 / (1 + np.exp(-z)) - label) ** 2 for z in odds)
    return base, candidate


def distances(
    rng: np.random.Generator, shape: tuple[int, int], saved: float, traded: bool
) -> tuple[np.ndarray, np.ndarray]:
    "Absolute errors of a number, from Student's t with 6 degrees of freedom; traded: a candidate with heavier tails (3)."
    base, candidate = scores(rng, shape)
    base, candidate = (
        np.abs(stats.t.ppf(stats.norm.cdf(z), freedom)) for z, freedom in ((base, 6), (candidate, 3 if traded else 6))
    )
    return base, candidate


WORLDS = dict(zip(METRICS, (errors, costs, log_losses, briers, distances), strict=True))


@dataclass(frozen=True)
class World:
    "Many subjects of one kind; experiments draw theirs from them, so that the truth is known."

    base: np.ndarray  # (subjects, events) loss of the baseline
    candidate: np.ndarray  # (subjects, events) loss of the candidate
    effect: float  # mean gain per row, exact

    @property
    def gain(self) -> np.ndarray:
        "Return the difference that a trial tests."
        return self.base - self.candidate


def centred(base: np.ndarray, candidate: np.ndarray, effect: float, whole: bool) -> World:
    "Make the mean gain `effect`: by a constant, or (losses are counts: `whole`) by leaving out as many subjects as it takes."
    gain = base - candidate
    if not whole:
        return World(base, candidate + gain.mean() - effect, effect)
    surplus = (gain - effect).sum(axis=1)
    sign = np.sign(surplus.sum())
    able = np.flatnonzero(surplus * sign > 0)
    out = able[: np.searchsorted(np.cumsum(surplus[able] * sign), surplus.sum() * sign)]
    keep = np.setdiff1d(np.arange(len(surplus)), out)
    return World(base[keep], candidate[keep], float(gain[keep].mean()))


def world(metric: str, effect: str, events: int, subjects: int) -> World:
    "Return the subjects of a cell."
    rng = np.random.default_rng([METRICS.index(metric), events])
    base, candidate = WORLDS[metric](rng, (subjects, events), EFFECTS[effect], effect == "traded")
    return centred(base, candidate, EFFECTS[effect] * float(base.mean()), metric in ("error", "cost"))


def draw(source: World, rows: int, experiments: int, seed: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Return losses (experiments, rows) of baseline and candidate, and the rows' subjects."
    events = source.base.shape[1]
    pick = np.random.default_rng(seed).integers(0, len(source.base), (experiments, rows // events))
    return (
        source.base[pick].reshape(experiments, -1),
        source.candidate[pick].reshape(experiments, -1),
        np.repeat(np.arange(rows // events), events),
    )


# -- the gate, on many experiments at once


def sized(source: World, rows: int, effect: float, alpha: float) -> Size:
    "Return power and rows needed, as `propose` plans them from open rows."
    events, sums = source.base.shape[1], source.gain.sum(axis=1)
    units = rows // events / (30 / 70)  # confirm holds 30 rows for 70 open ones
    simulation = Simulation(
        effect=effect,
        se=0.0,
        n_select=rows,
        baseline_error=float(source.base.mean()),
        rest=0.0,
        rest_se=0.0,
        saved=0.0,
        harm=0.0,
        n_open=round(units * events),
        units_open=round(units),
        sd_unit=float(sums.std(ddof=1)),
    )
    return size(simulation, effect, alpha, TARGET, 30 / 70, UNITS_MINIMUM)


def plan(metric: str, minimum_effect: float, needed: int, alpha: float, m: int = 1) -> dict:
    "Return what the gate reads of a plan."
    return {
        "pattern": "pattern",
        "remedy": "remedy",
        "cause": "cause",
        "round": 1,
        "metric": metric,
        "minimum_effect": minimum_effect,
        "alpha": alpha,
        "m": m,
        "n_needed": needed,
        "units_minimum": UNITS_MINIMUM,
        "window": {"note": ""},
    }


def trials(test: dict, rails: dict, base: np.ndarray, candidate: np.ndarray) -> Iterator[dict]:
    "Yield each experiment of a batch as the record of its trial, as far as the gate reads it."
    for i in range(len(test["p"])):
        rail = {"metric": "error", "scope": "rest", **{k: v if np.ndim(v) == 0 else v[i] for k, v in rails.items()}}
        yield {
            "status": "done",
            "message": "",
            "rows": test["rows"],
            "units": test["n_units"],
            "guardrails": [rail],
            "baseline_error": float(base[i].mean()),
            "candidate_error": float(candidate[i].mean()),
            **{k: float(test[k][i]) for k in ("effect", "p", "low", "high")},
        }


def rest(rows: int, events: int, experiments: int) -> dict:
    "Judge the guardrail outside the pattern, where the candidate changes 1% of the answers for the better and 1% for the worse."
    rng = np.random.default_rng([7, rows, events])
    move = rng.random((experiments, rows))
    return noninferior(
        np.where(move < 0.01, 1.0, 0.0), np.where(move > 0.99, 1.0, 0.0), np.arange(rows) // events, 0.01, 0.95
    )


def cell(metric: str, effect: str, rows: int, events: int, experiments: int, source: World, rails: dict) -> dict:
    "Run the experiments of one cell; return how often the gate was right."
    alpha, minimum = round_alpha(ALPHA, 1), EFFECTS["large"] * float(source.base.mean())
    base, candidate, units = draw(
        source, rows, experiments, [METRICS.index(metric), list(EFFECTS).index(effect), rows, events]
    )
    test = sign_flip(base - candidate, units, 0, PERMUTATIONS)
    needed = sized(source, rows, minimum, alpha)
    terms = plan(metric, minimum, needed.n_needed, alpha)
    verdicts = [
        verdicts_of({"plan": terms}, {"plan": trial})[0]["verdict"] for trial in trials(test, rails, base, candidate)
    ]
    share = {f"{name}": verdicts.count(name) / experiments for name in ("adopt", "reject", "underpowered", "harmful")}
    planned = power(source.effect * events, float(source.gain.sum(axis=1).std(ddof=1)), rows // events, alpha)
    return {
        "metric": metric,
        "effect": effect,
        "rows": rows,
        "events": events,
        "powered": rows >= needed.n_needed,
        "needed": needed.n_needed,
        "planned": planned,
        "seen": float((test["p"] <= alpha).mean()),
        "covered": float(((test["low"] <= source.effect) & (source.effect <= test["high"])).mean()),
        **share,
    }


def at_size(metric: str, events: int, experiments: int, source: World) -> dict:
    "Return how often the large effect is seen with just as many rows as the plan needs."
    alpha = round_alpha(ALPHA, 1)
    rows = -(-sized(source, 700, source.effect, alpha).n_needed // events) * events
    base, candidate, units = draw(source, rows, experiments, [99, METRICS.index(metric), events])
    planned = power(source.effect * events, float(source.gain.sum(axis=1).std(ddof=1)), rows // events, alpha)
    p = sign_flip(base - candidate, units, 0, PERMUTATIONS)["p"]
    return {"metric": metric, "events": events, "rows": rows, "planned": planned, "seen": float((p <= alpha).mean())}


# -- guardrails, families of plans, and the naive rule


def guarded(rows: int, events: int, traded: float, worsening: float, experiments: int) -> dict:
    "Return how often a guardrail of 0.01 holds and breaks where a candidate mends a share `traded` of rows and spoils that and `worsening` more."
    rng, units = np.random.default_rng([rows, events, round(1000 * traded)]), rows // events
    share = (
        4 * (rng.random((2, experiments, units, 1)) < 0.25) if events > 1 else np.ones((2, 1, 1, 1))
    )  # a quarter of the subjects is touched, four times as often
    spoil, mend = share[0] * (traded + worsening), share[1] * traded
    luck = rng.random(
        (experiments, units, events)
    )  # below `spoil`: the candidate alone is wrong; from the top: the baseline alone, then both
    candidate, base = (luck < spoil) | ((luck > 0.8) & (luck < 0.9)), (luck > 1 - mend) | ((luck > 0.8) & (luck < 0.9))
    rail = noninferior(
        base.reshape(experiments, -1) * 1.0,
        candidate.reshape(experiments, -1) * 1.0,
        np.arange(rows) // events,
        0.01,
        0.95,
    )
    return {
        "rows": rows,
        "events": events,
        "traded": traded,
        "worsening": worsening,
        "holds": float(rail["holds"].mean()),
        "broken": float(rail["broken"].mean()),
    }


def candidates(
    source: World, saved: np.ndarray, rows: int, experiments: int, seed: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    "Return gains (experiments, candidates, rows) on the same rows of candidates of which each mends or, below 0, spoils a share `saved` more than it trades."
    rng, events = np.random.default_rng(seed), source.base.shape[1]
    pick = rng.integers(0, len(source.base), (experiments, rows // events))
    wrong = source.base[pick].reshape(experiments, 1, rows)
    leaning = np.repeat(
        rng.beta(2, 2, (experiments, len(saved), rows // events)), events, axis=-1
    )  # some subjects gain, others lose
    mend, spoil = (
        0.8 * leaning + np.maximum(0, saved)[:, None] / 0.3,
        0.8 * (1 - leaning) * 0.3 / 0.7 + np.maximum(0, -saved)[:, None] / 0.7,
    )
    luck = rng.random((experiments, len(saved), rows))
    return np.where(wrong == 1, 1.0 * (luck < mend), -1.0 * (luck < spoil)), np.repeat(
        np.arange(rows // events), events
    )


def family(rounds: int, m: int, rows: int, events: int, experiments: int) -> dict:
    "Return how often a useless candidate is adopted at least once where each of `rounds` on the same confirm rows tries `m` of them."
    source = world("error", "none", events, 20000)
    gains, units = candidates(source, np.zeros(rounds * m), rows, experiments, [rounds, m, rows, events])
    p = sign_flip(gains, units, 0, PERMUTATIONS)["p"].reshape(experiments, rounds, m)
    by_round = [
        (np.array([holm(list(one)) for one in p[:, r]]).min(axis=1) <= round_alpha(ALPHA, r + 1)) for r in range(rounds)
    ]
    return {
        "rounds": rounds,
        "plans": m,
        "rows": rows,
        "events": events,
        "first": float(by_round[0].mean()),
        "ever": float(np.any(by_round, axis=0).mean()),
    }


def shipments(rows: int, events: int, helpful: int, experiments: int) -> dict:
    "Return what is shipped by the naive rule and by the gate, of ten alternatives of which three do harm, `helpful` help and the rest do nothing."
    saved, alpha = np.array([0.12] * helpful + [-0.03] * 3 + [0.0] * (7 - helpful)), round_alpha(ALPHA, 1)
    source = world("error", "none", events, 20000)
    found, units = candidates(source, saved, rows, experiments, [1, helpful, rows, events])
    confirm, _ = candidates(source, saved, rows, experiments, [2, helpful, rows, events])
    means = found.mean(axis=-1)
    naive = np.where(means.max(axis=1) > 0, means.argmax(axis=1), -1)
    order = np.argsort(-means, axis=1, kind="stable")[:, :2]  # the two most promising are planned
    tests = sign_flip(np.take_along_axis(confirm, order[:, :, None], axis=1), units, 0, PERMUTATIONS)
    adopted = []
    for e, which in enumerate(order):
        plans = {f"{i}": plan("error", 0.12, 0, alpha, 2) for i in which}
        losses = {
            "baseline_error": 0.3,
            "candidate_error": 0.3,
            "guardrails": [],
            "rows": rows,
            "units": rows // events,
        }
        records = {
            f"{i}": {
                "status": "done",
                "message": "",
                **losses,
                **{name: float(tests[name][e, k]) for name in ("effect", "p", "low", "high")},
            }
            for k, i in enumerate(which)
        }
        adopted += [next((int(v["plan"]) for v in verdicts_of(plans, records) if v["selected"]), -1)]
    kinds = {"useless": saved == 0, "harmful": saved < 0, "useful": saved > 0}
    picks = {"naive": naive, "gate": np.array(adopted)}
    share = {
        f"{rule} {kind}": float(np.isin(pick, np.flatnonzero(mark)).mean())
        for rule, pick in picks.items()
        for kind, mark in kinds.items()
    }
    return {"rows": rows, "events": events, "helpful": helpful, **share}


# -- the ladder after rollout


def stream(
    rate: float, rows: int, events: int, ladders: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    "Return 0/1 losses (ladders, rows) at `rate`, and the rows' subjects; each subject has its own rate and comes back among the next subjects' rows."
    subjects = rows // events
    own = rng.beta(3 * rate, 3 * (1 - rate), (ladders, subjects))
    units = (
        np.argsort(np.repeat(np.arange(subjects), events) + 20 * np.tile(np.arange(events), subjects), kind="stable")
        // events
    )
    return (rng.random((ladders, rows)) < own[:, units]) * 1.0, units


def crossings(losses: np.ndarray, units: np.ndarray, bound: float, alpha: float, wait: int) -> np.ndarray:
    "Return for each stream the row at which `monitor` would roll back, or the number of rows where it would not."
    _, at = entries(losses[0], units, wait)
    seen = np.array([entries(row, units, wait)[0] for row in losses])
    refuted = evidence(seen, bound) >= np.log(1 / alpha)
    rows = np.where(refuted.any(axis=1), at[refuted.argmax(axis=1)], losses.shape[1])
    checked = [monitor(row, units, bound, alpha, wait=wait).crossed for row in losses[:2]]
    assert [losses.shape[1] if c is None else c for c in checked] == rows[:2].tolist(), "the batch and `monitor` differ"
    return rows


def ladder(events: int, wait: int, ladders: int, rungs: int = 4, rows: int = 600) -> dict:
    "Return how often a candidate that keeps its promise exactly is ever rolled back on a ladder, looked at after each row."
    rng = np.random.default_rng([events, wait])
    alarms = [
        crossings(*stream(0.12, rows, events, ladders, rng), 0.12, ALPHA / rungs, wait) < rows for _ in range(rungs)
    ]
    return {"events": events, "wait": wait, "alarm": float(np.any(alarms, axis=0).mean())}


def detection(harm: float, events: int, wait: int, ladders: int, rows: int = 4000) -> dict:
    "Return the rows that it takes to roll back a candidate whose error is `harm` above its promise."
    at = crossings(
        *stream(0.12 + harm, rows, events, ladders, np.random.default_rng([9, events, wait])), 0.12, ALPHA / 4, wait
    )
    half, nine = np.quantile(at, [0.5, 0.9])
    return {
        "harm": harm,
        "events": events,
        "wait": wait,
        "half": int(half),
        "nine in ten": int(nine),
        "found": float((at < rows).mean()),
    }


# -- promises


@dataclass(frozen=True)
class Promise:
    "A figure of a cell and the limit that it must keep, beyond the noise of the simulation."

    name: str  # what is promised
    where: str  # the cell
    figure: float  # what was seen
    limit: float  # what is allowed, noise included
    most: bool = True  # `limit` is the most allowed, else the least

    @property
    def kept(self) -> bool:
        "Return whether the figure keeps within its limit."
        return self.figure <= self.limit if self.most else self.figure >= self.limit


def most(nominal: float, experiments: int) -> float:
    "Return the share that is passed by chance with probability `SUSPICION` where the true one is `nominal`."
    return float(stats.binom.isf(SUSPICION, experiments, nominal)) / experiments


def of_cell(found: dict, experiments: int) -> Iterator[Promise]:
    "Yield what the gate promises of one cell."
    alpha, where = (
        round_alpha(ALPHA, 1),
        f"{found['metric']}, {found['effect']}, {found['rows']} rows, {found['events']} events",
    )
    if found["effect"] == "none":
        yield Promise("p at most alpha where nothing is gained", where, found["seen"], most(alpha, experiments))
    if found["effect"] == "traded" and found["powered"]:
        yield Promise(
            "p at most alpha, at most twice as often, where small gains pay for large losses",
            where,
            found["seen"],
            most(2 * alpha, experiments),
        )
    if found["effect"] in ("harmful", "none", "traded"):
        yield Promise("no false adoption", where, found["adopt"], most(alpha, experiments))
    if found["effect"] in ("none", "traded"):
        yield Promise("not called harmful", where, found["harmful"], most(alpha, experiments))
    if found["effect"] in ("small", "large") and found["planned"] >= TARGET:
        yield Promise(
            "power as planned", where, found["seen"], 1 - most(1 - found["planned"] + POINTS, experiments), most=False
        )
    if found["powered"]:
        yield Promise(
            "the interval covers the truth (at least 94%)",
            where,
            found["covered"],
            1 - most(0.06, experiments),
            most=False,
        )
    else:
        yield Promise("nothing adopted with fewer rows than planned", where, found["adopt"], 0.0)


def of_rest(
    sizes: list[dict], rails: list[dict], families: list[dict], ladders: list[dict], experiments: int
) -> Iterator[Promise]:
    "Yield what is promised beside the cells."
    for one in sizes:
        where, least = (
            f"{one['metric']}, {one['events']} events, {one['rows']} rows",
            1 - most(1 - one["planned"] + POINTS, experiments),
        )
        yield Promise("power of a plan with just the rows it needs", where, one["seen"], least, most=False)
    for rail in rails:
        where = f"{rail['rows']} rows, {rail['events']} events, {rail['traded']:.1%} traded, worsening {rail['worsening']:g}"
        yield Promise("a guardrail at its margin is not shown to hold", where, rail["holds"], most(0.05, experiments))
        yield Promise("a guardrail at its margin is not called broken", where, rail["broken"], most(0.05, experiments))
    for one in families:
        where = f"{one['rounds']} rounds of {one['plans']} plans, {one['rows']} rows, {one['events']} events"
        yield Promise(
            "no useless plan adopted in a round", where, one["first"], most(round_alpha(ALPHA, 1), experiments)
        )
        yield Promise("no useless plan adopted in all rounds", where, one["ever"], most(ALPHA, experiments))
    for one in ladders:
        yield Promise(
            "no false alarm on a ladder",
            f"{one['events']} events, wait {one['wait']}",
            one["alarm"],
            most(ALPHA, experiments // 2),
        )


# -- the run


def cells(metrics: list[str], experiments: int, subjects: int) -> tuple[list[dict], list[dict]]:
    "Run the grid; return its cells, and the plans of just the rows they need."
    rails = {(rows, events): rest(4000, events, experiments) for rows, events in product(SIZES, EVENTS)}
    found, sizes = [], []
    for metric, events, effect in product(metrics, EVENTS, EFFECTS):
        source = world(metric, effect, events, subjects)
        found += [cell(metric, effect, rows, events, experiments, source, rails[rows, events]) for rows in SIZES]
        sizes += [at_size(metric, events, experiments, source)] if effect == "large" else []
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found, sizes


def show(title: str, rows: list[dict], columns: dict[str, str]) -> None:
    "Print a table; `columns` are names and formats."
    print(f"\n{title}\n" + "  ".join(f"{name:>14}" for name in columns))
    for row in rows:
        print("  ".join(f"{row[name]:>14{form}}" for name, form in columns.items()))


def by_size(found: list[dict]) -> list[dict]:
    "Return one line for each metric, events and rows, the effects side by side."
    lines: dict[tuple, dict] = {}
    for one in found:
        line = lines.setdefault(
            (one["metric"], one["events"], one["rows"]),
            {"metric": one["metric"], "events": one["events"], "rows": one["rows"], "covered": 1.0},
        )
        line["covered"] = min(line["covered"], one["covered"])
        line[f"{one['effect']} p"], line[f"{one['effect']} adopt"], line[f"{one['effect']} plan"] = (
            one["seen"],
            one["adopt"],
            one["planned"],
        )
        if one["effect"] == "large":
            line["needed"] = one["needed"]
    return list(lines.values())


def report(
    found: list[dict],
    sizes: list[dict],
    rails: list[dict],
    families: list[dict],
    shipped: list[dict],
    ladders: list[dict],
    rising: list[dict],
) -> None:
    "Print every table."
    share, whole = ".3f", "d"
    size = {"rows": whole, "events": whole}
    show(
        "p ≤ 0.025, adoptions, power planned and seen, worst coverage of the 95% interval\n"
        "(needed: rows for power 0.8 at the large effect; with fewer, a plan is underpowered)",
        by_size(found),
        {
            "metric": "",
            **size,
            "needed": whole,
            **dict.fromkeys(
                (
                    "none p",
                    "traded p",
                    "none adopt",
                    "traded adopt",
                    "harmful adopt",
                    "small plan",
                    "small p",
                    "large plan",
                    "large p",
                    "large adopt",
                    "covered",
                ),
                share,
            ),
        },
    )
    show("Just the rows that the plan needs", sizes, {"metric": "", **size, "planned": share, "seen": share})
    show("Guardrails with margin 0.01", rails, size | dict.fromkeys(("traded", "worsening", "holds", "broken"), share))
    show(
        "Many plans and rounds on the same confirm rows, none of them useful",
        families,
        size | {"rounds": whole, "plans": whole, "first": share, "ever": share},
    )
    show(
        "Ten alternatives, three of them harmful: share of worlds in which the pick is shipped",
        shipped,
        size
        | {"helpful": whole}
        | {f"{rule} {kind}": share for rule in ("naive", "gate") for kind in ("harmful", "useless", "useful")},
    )
    show(
        "False alarms on ladders of four rungs of 600 rows, looked at after every row",
        ladders,
        {"events": whole, "wait": whole, "alarm": share},
    )
    show(
        "Rows until a candidate whose error is above its promised 12% is rolled back (at most 4,000)",
        rising,
        {"harm": share, "events": whole, "wait": whole, "half": whole, "nine in ten": whole, "found": share},
    )


def figures(
    found: list[dict],
    sizes: list[dict],
    rails: list[dict],
    families: list[dict],
    shipped: list[dict],
    ladders: list[dict],
    rising: list[dict],
    broken: int,
) -> dict:
    "Return the figures by name."
    named = {"cells": len(found), "promises_broken": broken}
    for metric in dict.fromkeys(one["metric"] for one in found):
        mine = [one for one in found if one["metric"] == metric]
        named |= {
            f"{metric}_type_one": max(one["seen"] for one in mine if one["effect"] == "none"),
            f"{metric}_type_one_traded": max(one["seen"] for one in mine if one["effect"] == "traded"),
            f"{metric}_false_adoption": max(
                one["adopt"] for one in mine if one["effect"] in ("harmful", "none", "traded")
            ),
            f"{metric}_coverage": min(one["covered"] for one in mine if one["powered"]),
            f"{metric}_power_lost": max(
                one["planned"] - one["seen"]
                for one in [*mine, *sizes]
                if one["metric"] == metric and one["planned"] >= TARGET
            ),
        }
    named |= {
        "guardrail_false_pass": max(rail["holds"] for rail in rails),
        "family_one_round": max(one["first"] for one in families),
        "family_all_rounds": max(one["ever"] for one in families),
        "ladder_false_alarm": max(one["alarm"] for one in ladders),
    }
    for one in shipped:
        where = f"{one['rows']}_rows_{one['helpful']}_helpful"
        named |= {
            f"{rule}_{kind}_{where}": one[f"{rule} {kind}"]
            for rule in ("naive", "gate")
            for kind in ("harmful", "useless", "useful")
        }
    return named | {
        f"rows_to_detect_{one['harm']:g}_events_{one['events']}_wait_{one['wait']}": one["half"] for one in rising
    }


def main() -> int:
    "Run every simulation, print the tables, the broken promises and, last, the figures as JSON; return 1 where a promise is broken."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=2000, help="simulated experiments in each cell")
    parser.add_argument("--metrics", nargs="+", choices=METRICS, default=METRICS, help="losses that are simulated")
    asked = parser.parse_args()
    experiments = asked.experiments
    found, sizes = cells(asked.metrics, experiments, 20 * experiments)
    rails = [
        guarded(rows, events, traded, 0.01, experiments)
        for rows, events, traded in product((60, 250, 1000, 4000), EVENTS, (0.0, 0.005, 0.02))
    ]
    families = [
        family(rounds, m, rows, events, experiments)
        for (rounds, m), rows, events in product(((1, 10), (20, 1), (20, 2)), (60, 150), EVENTS)
    ]
    shipped = [
        shipments(rows, events, helpful, experiments)
        for rows, events, helpful in product((60, 150, 400), EVENTS[:1], (0, 1))
    ]
    ladders = [ladder(events, wait, experiments // 2) for events, wait in ((1, 0), (5, 0), (5, 100))]
    rising = [
        detection(harm, events, wait, experiments // 10)
        for (events, wait), harm in product(((1, 0), (5, 0), (5, 100)), (0.02, 0.05, 0.1, 0.2))
    ]
    promises = [promise for one in found for promise in of_cell(one, experiments)] + [
        *of_rest(sizes, rails, families, ladders, experiments)
    ]
    broken = [promise for promise in promises if not promise.kept]
    report(found, sizes, rails, families, shipped, ladders, rising)
    print(f"\n{len(promises) - len(broken)} of {len(promises)} promises kept.")
    for promise in broken:
        print(
            f"BROKEN: {promise.name}: {promise.where}: {promise.figure:.4f}, allowed {'at most' if promise.most else 'at least'} {promise.limit:.4f}"
        )
    named = figures(found, sizes, rails, families, shipped, ladders, rising, len(broken)) | {
        "experiments_per_cell": experiments,
        "promises": len(promises),
    }
    print(json.dumps(settle(named)))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

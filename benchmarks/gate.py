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
from failwb.remedy.gate import RELEVANT, verdicts_of
from failwb.remedy.sequential import entries, evidence, monitor
from failwb.remedy.simulate import Simulation, Size, size
from failwb.remedy.statistics import holm, noninferior, power, round_alpha, sign_flip

ALPHA, TARGET, PERMUTATIONS, UNITS_MINIMUM = 0.05, 0.8, 1999, 12  # of params.yaml, with fewer flips
METRICS = ("error", "cost", "log_loss", "brier", "absolute_error")
EFFECTS = {"harmful": -0.2, "none": 0.0, "traded": 0.0, "small": 0.2, "large": 0.4}  # share of the baseline's loss that the candidate saves
SIZES, EVENTS = (60, 150, 400, 1000), (1, 5)
POINTS = 0.05  # by which realised power may fall short of the planned one
SUSPICION = 0.001  # a promise counts as broken where a figure this bad has at most this chance while it is kept


# -- worlds: losses of baseline and candidate, by subject and event


def scores(rng: np.random.Generator, shape: tuple[int, int]) -> list[np.ndarray]:
    "Return standard normal difficulties (subjects, events) for two models that share subject and row, each with a leaning of its own by subject."
    subject, row = rng.normal(size=(shape[0], 1)), rng.normal(size=shape)
    return [np.sqrt(0.25) * subject + np.sqrt(0.4) * row + np.sqrt(0.1) * rng.normal(size=(shape[0], 1)) + np.sqrt(0.25) * rng.normal(size=shape) for _ in range(2)]


def errors(rng: np.random.Generator, shape: tuple[int, int], saved: float, traded: bool) -> tuple[np.ndarray, np.ndarray]:
    "0/1 losses at 30%; traded: a candidate that hurts 8% of the subjects badly and does the others some good."
    base, candidate = scores(rng, shape)
    rate = np.full((shape[0], 1), 0.3 * (1 - saved))
    if traded:
        rate += np.where(rng.random((shape[0], 1)) < 0.08, 0.35, -0.35 * 0.08 / 0.92)
    return (base < stats.norm.ppf(0.3)).astype(float), (candidate < stats.norm.ppf(rate)).astype(float)


def costs(rng: np.random.Generator, shape: tuple[int, int], saved: float, traded: bool) -> tuple[np.ndarray, np.ndarray]:
    "A missed case (3% of rows) costs 5, a false alarm (12%) costs 1; traded: half the false alarms for 40% more misses."
    (base, candidate), case = map(stats.norm.cdf, scores(rng, shape)), rng.random(shape) < 0.3
    misses, alarms = (0.042, 0.06) if traded else (0.03 * (1 - saved), 0.12 * (1 - saved))
    cost = [np.where(case, 5.0 * (rank < miss / 0.3), 1.0 * (rank < alarm / 0.7)) for rank, miss, alarm in ((base, 0.03, 0.12), (candidate, misses, alarms))]
    return cost[0], cost[1]


def probabilities(rng: np.random.Generator, shape: tuple[int, int], traded: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    "Return labels and the log-odds of two models; traded: an overconfident candidate against a shy baseline."
    truth = 0.8 * rng.normal(size=(shape[0], 1)) + 1.2 * rng.normal(size=shape) - 0.8
    base, candidate = scores(rng, shape)
    return rng.random(shape) < 1 / (1 + np.exp(-truth)), [(0.7 if traded else 1.0) * truth + 0.6 * base, (1.8 if traded else 1.0) * truth + 0.6 * candidate]


def log_losses(rng: np.random.Generator, shape: tuple[int, int], saved: float, traded: bool) -> tuple[np.ndarray, np.ndarray]:
    "Log-loss of noisy probabilities."
    label, odds = probabilities(rng, shape, traded)
    base, candidate = (np.logaddexp(0, np.where(label, -z, z)) for z in odds)
    return base, candidate


def briers(rng: np.random.Generator, shape: tuple[int, int], saved: float, traded: bool) -> tuple[np.ndarray, np.ndarray]:
    "Brier score of noisy probabilities."
    label, odds = probabilities(rng, shape, traded)
    base, candidate = ((1 / (1 + np.exp(-z)) - label) ** 2 for z in odds)
    return base, candidate


def distances(rng: np.random.Generator, shape: tuple[int, int], saved: float, traded: bool) -> tuple[np.ndarray, np.ndarray]:
    "Absolute errors of a number, from Student's t with 6 degrees of freedom; traded: a candidate with heavier tails (3)."
    base, candidate = scores(rng, shape)
    base, candidate = (np.abs(stats.t.ppf(stats.norm.cdf(z), freedom)) for z, freedom in ((base, 6), (candidate, 3 if traded else 6)))
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
    return source.base[pick].reshape(experiments, -1), source.candidate[pick].reshape(experiments, -1), np.repeat(np.arange(rows // events), events)


# -- the gate, on many experiments at once


def sized(source: World, rows: int, effect: float, alpha: float) -> Size:
    "Return power and rows needed, as `propose` plans them from open rows."
    events, sums = source.base.shape[1], source.gain.sum(axis=1)
    units = rows // events / (30 / 70)  # confirm holds 30 rows for 70 open ones
    simulation = Simulation(effect=effect, se=0.0, n_select=rows, baseline_error=float(source.base.mean()), rest=0.0, rest_se=0.0, saved=0.0, harm=0.0,
                            n_open=round(units * events), units_open=round(units), sd_unit=float(sums.std(ddof=1)))
    return size(simulation, effect, alpha, TARGET, 30 / 70, UNITS_MINIMUM)


def plan(metric: str, minimum_effect: float, needed: int, alpha: float, m: int = 1) -> dict:
    "Return what the gate reads of a plan."
    return {"pattern": "pattern", "remedy": "remedy", "cause": "cause", "round": 1, "metric": metric, "minimum_effect": minimum_effect, "alpha": alpha, "m": m,
            "n_needed": needed, "units_minimum": UNITS_MINIMUM, "window": {"note": ""}}


def trials(test: dict, rails: dict, base: np.ndarray, candidate: np.ndarray) -> Iterator[dict]:
    "Yield each experiment of a batch as the record of its trial, as far as the gate reads it."
    for i in range(len(test["p"])):
        rail = {"metric": "error", "scope": "rest", **{k: v if np.ndim(v) == 0 else v[i] for k, v in rails.items()}}
        yield {"status": "done", "message": "", "rows": test["rows"], "units": test["n_units"], "guardrails": [rail],
               "baseline_error": float(base[i].mean()), "candidate_error": float(candidate[i].mean()), **{k: float(test[k][i]) for k in ("effect", "p", "low", "high")}}


def rest(rows: int, events: int, experiments: int) -> dict:
    "Judge the guardrail outside the pattern, where the candidate changes 1% of the answers for the better and 1% for the worse."
    rng = np.random.default_rng([7, rows, events])
    move = rng.random((experiments, rows))
    return noninferior(np.where(move < 0.01, 1.0, 0.0), np.where(move > 0.99, 1.0, 0.0), np.arange(rows) // events, 0.01, 0.95)


def cell(metric: str, effect: str, rows: int, events: int, experiments: int, source: World, rails: dict) -> dict:
    "Run the experiments of one cell; return how often the gate was right."
    alpha, minimum = round_alpha(ALPHA, 1), EFFECTS["large"] * float(source.base.mean())
    base, candidate, units = draw(source, rows, experiments, [METRICS.index(metric), list(EFFECTS).index(effect), rows, events])
    test = sign_flip(base - candidate, units, 0, PERMUTATIONS)
    needed = sized(source, rows, minimum, alpha)
    terms = plan(metric, minimum, needed.n_needed, alpha)
    verdicts = [verdicts_of({"plan": terms}, {"plan": trial})[0]["verdict"] for trial in trials(test, rails, base, candidate)]
    share = {f"{name}": verdicts.count(name) / experiments for name in ("adopt", "reject", "underpowered", "harmful")}
    planned = power(source.effect * events, float(source.gain.sum(axis=1).std(ddof=1)), rows // events, alpha)
    return {"metric": metric, "effect": effect, "rows": rows, "events": events, "powered": rows >= needed.n_needed, "needed": needed.n_needed, "planned": planned,
            "seen": float((test["p"] <= alpha).mean()), "covered": float(((test["low"] <= source.effect) & (source.effect <= test["high"])).mean()), **share}

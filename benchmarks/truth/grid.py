"""Which cases are run: grounds, faults, strengths and seeds, all fixed before the loop looked at them.

*Development* seeds are there to be looked at, again and again; *report* seeds are used for the page and for
nothing else. Nothing was tuned on them. As many runs have no fault as have some.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from failwb.faults.registry import FAULTS
from failwb.record.tables import canonical, sha

ROLES = {"development": 1_000, "report": 900_000}  # first seed of a role
DIALS = ("weak", "medium", "strong")
TOGETHER = (1, 3, 5)  # faults at once


@dataclass(frozen=True, slots=True)
class Case:
    "One run of the loop with known answers."

    role: str  # development or report
    ground: str  # name of the table
    kinds: tuple[str, ...]  # faults planted; none: nothing is wrong
    dial: str  # their strength
    seed: int
    n: int = 16_000  # predictions
    n_reference: int = 12_000  # training rows
    peers: bool = False  # whether other tools look at the same rows

    @property
    def key(self) -> str:
        "Name of its result."
        return sha(canonical(asdict(self)))[:16]


def faulty(role: str, grounds: Sequence[str], families: Sequence[str], rounds: int, n: int) -> Iterator[Case]:
    "Yield `rounds` of: every family alone at every dial, then a third as many draws of three and of five families."
    seed = ROLES[role]
    for turn in range(rounds):
        for i, kind in enumerate(families):
            for j, dial in enumerate(DIALS):
                seed += 1
                yield Case(role, grounds[(turn + i + 2 * j) % len(grounds)], (kind,), dial, seed, n)
        slices = [
            kind for kind in families if not FAULTS[kind].everywhere
        ]  # what is everywhere has no place beside others
        for together in TOGETHER[1:]:
            for j in range(len(families) // 3):
                seed += 1
                drawn = np.random.default_rng(seed).choice(len(slices), together, replace=False)
                yield Case(
                    role,
                    grounds[(turn + j) % len(grounds)],
                    tuple(slices[k] for k in drawn),
                    DIALS[1 + j % 2],
                    seed,
                    n,
                )


def faultless(role: str, grounds: Sequence[str], runs: int, n: int) -> Iterator[Case]:
    "Yield `runs` cases in which nothing is wrong."
    for k in range(runs):
        yield Case(role, grounds[k % len(grounds)], (), "none", ROLES[role] + 50_000 + k, n)


SIZES = (4_000, 8_000, 32_000)


def sized(role: str, grounds: Sequence[str], families: Sequence[str]) -> Iterator[Case]:
    "Yield every family alone, at medium strength, in less and in more traffic."
    for i, kind in enumerate(families):
        for j, n in enumerate(SIZES):
            yield Case(role, grounds[(i + j) % len(grounds)], (kind,), "medium", ROLES[role] + 80_000 + 10 * i + j, n)


def compared(role: str, grounds: Sequence[str], families: Sequence[str], n: int) -> Iterator[Case]:
    "Yield every family alone, strong, for other tools to look at as well; and as many cases without a fault."
    for i, kind in enumerate(families):
        yield Case(role, grounds[i % len(grounds)], (kind,), "strong", ROLES[role] + 90_000 + i, n, peers=True)
        yield Case(role, grounds[i % len(grounds)], (), "none", ROLES[role] + 95_000 + i, n, peers=True)


def cases(
    role: str, grounds: Sequence[str], families: Sequence[str], rounds: int, nulls: int | None, n: int
) -> list[Case]:
    "Return the grid: `rounds` of faulty cases, and `nulls` faultless ones (as many as there are faulty ones)."
    some = list(faulty(role, grounds, families, rounds, n))
    return some + list(faultless(role, grounds, len(some) if nulls is None else nulls, n))

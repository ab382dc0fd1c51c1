"""The figures as text, and the floors below which a run fails."""

from collections.abc import Mapping
from typing import Any

FLOORS = {  # of the fixed sample of the development grid; a change that falls below one is no improvement
    "pattern recall@10": 0.75,
    "pattern precision@10": 0.9,
    "category macro-F1": 0.8,
    "right remedy in the first three": 0.85,
    "right remedy adopted": 0.7,
    "share of the possible repair": 0.7,
}

ASKED = [  # of the report seeds, set before they were looked at: score, of which cases, at least
    ("pattern recall@10", "all", 0.9),
    ("pattern precision@10", "all", 0.8),
    ("category macro-F1", "one fault", 0.85),
    ("category macro-F1", "three faults", 0.7),
    ("right remedy in the first three", "all", 0.85),
    ("share of the possible repair", "all", 0.7),
    ("right remedy adopted", "strong", 0.8),
]
RARE = {"no fault: any adoption": 0.05, "no fault: any confirmed pattern": 0.05}  # at most: gate.alpha, discover.fdr
HARM, ENOUGH = 0.05, 300  # the upper bound of harmful adoptions, over at least as many


def cell(figure: Mapping[str, float]) -> str:
    "Return a score with its interval."
    if figure["value"] != figure["value"]:
        return ""
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


def table(headers: list[str], rows: list[list[str]]) -> str:
    "Return a table in Markdown, its columns aligned."
    widths = [max(len(r[k]) for r in [headers, *rows]) for k in range(len(headers))]
    lines = [" | ".join(v.ljust(w) for v, w in zip(r, widths, strict=True)) for r in [headers, *rows]]
    return "\n".join([lines[0], " | ".join("-" * w for w in widths), *lines[1:]])


def text(figures: Mapping[str, Any]) -> str:
    "Return all figures as two tables."
    parts = list(figures["scores"])
    names = list(next(iter(figures["scores"].values()), {}))
    scores = table(["score", *parts], [[n, *(cell(figures["scores"][p][n]) for p in parts)] for n in names])
    rare = [[n, f"{f['k']} of {f['n']}", cell(f)] for n, f in figures["promises"].items()]
    cost = f"{figures['cases']} cases, {figures['cpu_seconds']} CPU s each"
    return "\n\n".join([scores, table(["must stay rare", "cases", "share (95% interval)"], rare), cost])


def reached(figures: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a row for each figure that was asked for: what was asked, what came, and whether that is enough.

    *Within noise* is a figure on the wrong side whose interval holds what was asked.
    """
    rows = []
    for name, part, least in ASKED:
        if (found := figures["scores"].get(part, {}).get(name)) is None:
            continue
        enough = "yes" if found["value"] >= least else "within noise" if found["high"] >= least else "no"
        rows.append((f"{name}, {part}", f"at least {least:.2f}", cell(found), enough))
    for name, most in RARE.items():
        found = figures["promises"][name]
        enough = "yes" if found["value"] <= most else "within noise" if found["low"] <= most else "no"
        rows.append((name, f"at most {most:.2f}", f"{found['k']} of {found['n']}", enough))
    harm = figures["promises"]["harmful adoptions"]
    enough = "yes" if harm["high"] <= HARM and harm["n"] >= ENOUGH else "no"
    came = f"{harm['k']} of {harm['n']}: {harm['high']:.3f}"
    rows.append(("harmful adoptions, upper bound", f"at most {HARM:.2f} over {ENOUGH}", came, enough))
    return [dict(zip(("figure", "asked for", "reached (95% interval)", "enough"), row, strict=True)) for row in rows]


def floors_broken(figures: Mapping[str, Any]) -> list[str]:
    "Return a line for each score below its floor."
    found = figures["scores"]["all"]
    return [
        f"  {name}: {found[name]['value']:.2f}, at least {least:.2f} is asked for"
        for name, least in FLOORS.items()
        if not found[name]["value"] >= least
    ]

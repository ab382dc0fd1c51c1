"""pysubgroup: subgroups by weighted relative accuracy, depth-first, up to three selectors; its own five intervals."""

import numpy as np
import pandas as pd
import pysubgroup as ps

from .exchange import TOP, Rows, answer, literal, pattern


def written(selector: ps.SelectorBase) -> dict:
    "Return a selector as a literal; its intervals hold the lower bound and not the upper, as ours."
    if isinstance(selector, ps.IntervalSelector):
        return literal(selector.attribute_name, "in", low=selector.lower_bound, high=selector.upper_bound)
    value = selector.attribute_value
    if pd.isna(value):
        return literal(selector.attribute_name, "missing")
    if isinstance(value, float | int | np.number):
        return literal(selector.attribute_name, "in", low=float(value), high=float(np.nextafter(value, np.inf)))
    return literal(selector.attribute_name, "==", value)


def find(rows: Rows) -> dict:
    "Return the top subgroups of the rows with an error."
    table = rows.X
    for n in rows.task["categorical"]:
        table[n] = table[n].where(table[n].notna(), np.nan)
    space = ps.create_selectors(table)
    table = table.assign(error=rows.error == 1)
    task = ps.SubgroupDiscoveryTask(
        table, ps.BinaryTarget("error", True), space, result_set_size=TOP, depth=3, qf=ps.WRAccQF()
    )
    result = ps.DFS(ps.BitSetRepresentation).execute(task)
    found = sorted(result.results, key=lambda o: -o[0])
    return {"patterns": [pattern([written(s) for s in rule.selectors], quality) for quality, rule, *_ in found]}


if __name__ == "__main__":
    answer(find)

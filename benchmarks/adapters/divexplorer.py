"""divexplorer: itemsets by the divergence of their error rate, pruned as its documentation does (0.01, t over 2)."""

from divexplorer import DivergenceExplorer, DivergencePatternProcessor

from .exchange import TOP, Rows, answer, levels, pattern


def find(rows: Rows) -> dict:
    "Return the most divergent itemsets; numbers come in ten quantiles, since it takes discrete values alone."
    table, meaning = levels(rows)
    attributes = list(table.columns)
    explorer = DivergenceExplorer(table.assign(**{"(error)": rows.error}))
    support = rows.minimum / len(table)
    found = explorer.get_pattern_divergence(support, attributes=attributes, boolean_outcomes=["(error)"])
    found = DivergencePatternProcessor(found, "(error)").redundancy_pruning(th_redundancy=0.01)
    found = found[found["(error)_t"] > 2].sort_values("(error)_div", ascending=False, kind="stable").head(TOP)
    items = {f"{n}={v}": m for n, known in meaning.items() for v, m in known.items()}  # as it names its columns
    shown = zip(found["itemset"], found["(error)_div"], strict=True)
    return {"patterns": [pattern([items[o] for o in sorted(itemset)], div) for itemset, div in shown]}


if __name__ == "__main__":
    answer(find)

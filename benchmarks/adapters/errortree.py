"""errortree: a decision tree of depth three on the errors (scikit-learn), as error analysis tools draw it.

Its leaves are ranked by errors above average.
"""

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeClassifier

from .exchange import TOP, Rows, answer, literal


def columns(rows: Rows) -> tuple[pd.DataFrame, dict[str, tuple[str, str]]]:
    "Return numbers as they are and one column per level, and what each of these columns means."
    X, table, level = rows.X, {}, {}
    for n in rows.task["numeric"]:
        table[n] = X[n]
    for n in rows.task["categorical"]:
        for v in sorted(X[n].dropna().unique(), key=str):
            table[f"{n} = {v}"] = (X[n] == v).astype(float)
            level[f"{n} = {v}"] = (n, v)
    return pd.DataFrame(table), level


def paths(tree, node: int = 0, steps: tuple = ()) -> dict[int, tuple]:
    "Return the way to each leaf: (column, threshold, whether above)."
    if tree.children_left[node] < 0:
        return {node: steps}
    column, threshold = int(tree.feature[node]), float(tree.threshold[node])
    below = paths(tree, tree.children_left[node], (*steps, (column, threshold, False)))
    return below | paths(tree, tree.children_right[node], (*steps, (column, threshold, True)))


def predicate(steps: tuple, names: list[str], level: dict) -> list[dict] | None:
    "Return a leaf's conditions, or nothing where one of them is `is not` a level, which no literal says."
    equal, spans = {}, {}
    for column, threshold, above in steps:
        name = names[column]
        if name in level:
            if not above:
                return None
            equal[level[name][0]] = literal(level[name][0], "==", level[name][1])
            continue
        low, high = spans.get(name, (-np.inf, np.inf))
        edge = np.nextafter(threshold, np.inf)  # the tree asks x <= threshold, a literal x < high
        spans[name] = (max(low, edge), high) if above else (low, min(high, edge))
    return [*equal.values(), *(literal(n, "in", low=low, high=high) for n, (low, high) in spans.items())]


def find(rows: Rows) -> dict:
    "Return the leaves with more errors than average, each with its rows: missing values go to a side of their own."
    X, level = columns(rows)
    error = rows.error
    tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=rows.minimum, random_state=0).fit(X, error)
    leaf, found = tree.apply(X), []
    for node, steps in paths(tree.tree_).items():
        inside = leaf == node
        above = float((error[inside] - error.mean()).sum())
        if above > 0:
            said = predicate(steps, list(X.columns), level)
            found.append(({"predicate": said} if said else {}) | {"score": above, "rows": rows.ids(inside)})
    return {"patterns": sorted(found, key=lambda o: -o["score"])[:TOP]}


if __name__ == "__main__":
    answer(find)

"""sliceline: the exact top slices by SliceLine's score (alpha 0.95, as its documentation), up to three literals."""

from sliceline.slicefinder import Slicefinder

from .exchange import TOP, Rows, answer, levels, pattern


def find(rows: Rows) -> dict:
    "Return the top slices; numbers come in ten quantiles, since every level is a column of its own."
    table, meaning = levels(rows)
    finder = Slicefinder(alpha=0.95, k=TOP, max_l=3, min_sup=rows.minimum, verbose=False)
    finder.fit(table.to_numpy(dtype=object), rows.error)
    slices = zip(finder.top_slices_, finder.top_slices_statistics_, strict=True)
    found = [
        pattern([meaning[n][v] for n, v in zip(table.columns, s, strict=True) if v is not None], told["slice_score"])
        for s, told in slices
    ]
    return {"patterns": found[:TOP]}


if __name__ == "__main__":
    answer(find)

"""failwb: from a failing prediction to a proven fix, reproducibly."""

__version__ = "0.1.0"


def open(path="."):
    "Open the workbench that `path` is in, for work in a notebook."
    from .lab.workspace import open as open_workspace

    return open_workspace(path)

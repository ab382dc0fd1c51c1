"""Results do not depend on threads, seeds, zones, languages, homes or users; about two minutes.

The whole list, one by one and on the sample, is `make reproducible-everywhere`.
"""

import conditions
import crowd
import pytest
from conditions import EVERYTHING, OLDER_CPU, Condition

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "condition", [EVERYTHING, Condition("another user", nobody=True), OLDER_CPU], ids=lambda c: c.name
)
def test_the_results_are_the_same(small, tmp_path, condition):
    if condition.nobody and conditions.as_nobody() is None:
        pytest.skip("only root can become another user, and setpriv is needed")
    root = crowd.copy(small.done, tmp_path / "elsewhere")
    result = conditions.reproduce(root, condition)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    found = conditions.compare(condition)(small.done / "out", root / "out")
    assert found["files"] == [] and found["compared"] > 20

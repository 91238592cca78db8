"""In what order several workers run the tests."""

import itertools

from tests.support.distribution import SECONDS, dearest_first


def test_the_dearest_file_comes_first_and_none_is_torn_apart():
    tests = [("a", ()), ("b", ("long",)), ("a", ()), ("c", ("long", "process")), ("c", ())]
    assert dearest_first(tests) == [3, 4, 1, 0, 2]
    mixed = [(name, ()) for name in "abcabcab"]
    ordered = [mixed[number][0] for number in dearest_first(mixed)]
    assert [name for name, _ in itertools.groupby(ordered)] == ["a", "b", "c"]


def test_every_kind_that_is_kept_has_its_seconds():
    from tests.support.costs import KINDS

    assert set(SECONDS) == set(KINDS)

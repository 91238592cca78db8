"""Where and when workers run the tests."""

from tests.support.distribution import Seen, distributed

CHEAP: frozenset[str] = frozenset()


def test_a_test_that_costs_goes_alone_and_first_and_the_others_stay_with_their_file():
    tests = [
        Seen("a", CHEAP, False),
        Seen("a", frozenset({"long"}), False),
        Seen("b", CHEAP, False),
        Seen("a", CHEAP, False),
        Seen("b", frozenset({"process"}), False),
        Seen("b", frozenset({"compiles", "long"}), False),
    ]
    assert distributed(tests) == [(4, None), (5, None), (1, None), (0, "a"), (3, "a"), (2, "b")]


def test_what_shares_a_fixture_that_costs_stays_together_at_the_place_of_the_dearest():
    tests = [
        Seen("a", frozenset({"long"}), False),
        Seen("a", frozenset({"long"}), True),
        Seen("a", CHEAP, False),
        Seen("a", frozenset({"process"}), True),
    ]
    assert distributed(tests) == [(1, "a shared"), (3, "a shared"), (0, None), (2, "a")]

import pytest

from experiments.tokenizations.encoding import lines, predicted_units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n", ["a\n"]),
        ("\n\na b\nc", ["\n", "\n", "a b\n", "c"]),
        ("a\x0bb\u2028c\x85d\n", ["a\x0bb\u2028c\x85d\n"]),
    ],
)
def test_only_a_newline_ends_a_line(text, expected):
    assert lines(text) == expected
    assert "".join(lines(text)) == text


@pytest.mark.parametrize(
    ("given", "words", "characters"),
    [
        (0, 6, 13),
        (1, 6, 12),  # "t": the word's end is still to come
        (3, 5, 10),  # "the"
        (4, 5, 9),  # "the "
        (7, 4, 6),  # "the cat"
        (8, 3, 5),  # and the end of its line
        (9, 2, 4),
        (10, 2, 3),
        (13, 0, 0),
    ],
)
def test_a_word_counts_where_its_end_is_predicted(given, words, characters):
    assert predicted_units("the cat\n\nsat\n", given) == (words, characters)

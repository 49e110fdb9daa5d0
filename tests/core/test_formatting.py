import pytest

from cxr.core.formatting import describe_p_value, format_count, format_duration, format_p_value


@pytest.mark.parametrize(
    ("p", "cell", "phrase"),
    [
        (0.0, "< 0.001", "p < 0.001"),
        (0.000999, "< 0.001", "p < 0.001"),
        (0.001, "0.001", "p = 0.001"),
        (0.0123, "0.012", "p = 0.012"),
        (1.0, "1.000", "p = 1.000"),
        (None, "not estimable", "p not estimable"),
    ],
)
def test_p_values_have_three_decimals_or_are_below_0001(p, cell, phrase):
    """One format for tables and sentences; what is smaller than 0.001 is not written as 0.000."""
    assert format_p_value(p) == cell
    assert describe_p_value(p) == phrase


@pytest.mark.parametrize(
    ("count", "things", "phrase"),
    [
        (0, "images", "0 images"),
        (1, "images", "1 image"),
        (1, "pictures of other kinds", "1 picture of other kinds"),
        (5856, "images", "5,856 images"),
    ],
)
def test_counts_agree_with_their_noun(count, things, phrase):
    """The noun is singular for one, and thousands are separated."""
    assert format_count(count, things) == phrase


@pytest.mark.parametrize(
    ("seconds", "phrase"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min")]
)
def test_durations_are_rounded_before_they_are_divided(seconds, phrase):
    """No duration reads "60 s" or "60 min"."""
    assert format_duration(seconds) == phrase

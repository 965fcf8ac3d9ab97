"""The grammar of input patterns and spans read out of names."""

from __future__ import annotations

import contextlib
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctd.core.spans import PatternError, Span, SpanPattern, hidden


def read(pattern: str, path: str) -> Span | None:
    """The span that the pattern reads out of a path below its base, level by level, as the lister does."""
    parsed = SpanPattern.parse(pattern)
    names = path.removeprefix(parsed.base).strip("/").split("/")
    found: dict[str, str] = {}
    for component, name in zip(parsed.components[: parsed.root + 1], names, strict=True):
        digits = component.match(name)
        if digits is None:
            return None
        found |= digits
    return parsed.read(found)


@pytest.mark.parametrize(
    ("pattern", "path", "span"),
    [
        pytest.param("/d/{SPAN}", "/d/42", Span(42), id="a number"),
        pytest.param("/d/{SPAN}", "/d/0042", Span(42), id="zeros in front need no width"),
        pytest.param("/d/{SPAN:3}", "/d/007", Span(7), id="exactly three digits"),
        pytest.param("/d/{SPAN:3}", "/d/07", None, id="two digits are not three"),
        pytest.param("/d/{SPAN:3}", "/d/0007", None, id="four digits are not three"),
        pytest.param("/d/{SPAN}", "/d/1_0", None, id="underscores are no digits"),
        pytest.param("/d/{SPAN}", "/d/-4", None, id="a sign is no digit"),
        pytest.param("/d/{SPAN}", "/d/٤٢", None, id="digits of other scripts are strays"),
        pytest.param("/d/span-{SPAN}/v{VERSION}", "/d/span-3/v2", Span(3, 2), id="versions in folders of their own"),
        pytest.param("/d/{SPAN}.{VERSION}.csv", "/d/3.2.csv", Span(3, 2), id="both in a file's name"),
        pytest.param("/d/{SPAN:2}{VERSION:2}", "/d/0304", Span(3, 4), id="widths part what nothing separates"),
        pytest.param("/d/{YYYY}-{MM}-{DD}", "/d/1970-01-02", Span(1), id="days since 1970"),
        pytest.param("/d/{YYYY}-{MM}-{DD}", "/d/2023-12-09", Span(19700), id="a day of ours"),
        pytest.param("/d/{YYYY}-{MM}-{DD}", "/d/1969-12-31", Span(-1), id="a day before 1970"),
        pytest.param("/d/{YYYY}/{MM}/{DD}", "/d/2024/02/29", Span(19782), id="a date over three levels"),
        pytest.param("/d/{DD}.{MM}.{YYYY}-{VERSION}", "/d/02.01.1970-7", Span(1, 7), id="any order"),
        pytest.param("/d/*-{SPAN}", "/d/trips-42", Span(42), id="a star beside a token"),
        pytest.param("/d/*{SPAN}*", "/d/v42b", Span(42), id="the whole run of digits belongs to the token"),
        pytest.param("/d/?{SPAN}", "/d/x42", Span(42), id="one character"),
        pytest.param("/d/?{SPAN}", "/d/42", None, id="a question mark takes no digit of the token"),
        pytest.param("/d/a[b]^{SPAN}$|.csv", "/d/a[b]^1$|.csv", Span(1), id="other characters stand for themselves"),
        pytest.param("/d/{SPAN}.csv", "/d/1xcsv", None, id="a point is a point"),
        pytest.param(
            "/d/year={YYYY}/month={MM}/day={DD}", "/d/year=2024/month=2/day=29", Span(19782), id="Hive's days"
        ),
        pytest.param("/d/year={YYYY}/month={MM}/day={DD}", "/d/year=2024/month=02/day=29", Span(19782), id="padded"),
        pytest.param("/d/year={YYYY}/month={MM}", "/d/year=1970/month=2", Span(1), id="Hive's months"),
        pytest.param("/d/dt={YYYY}-{MM}-{DD}/hour={HH}", "/d/dt=1970-01-02/hour=7", Span(31), id="Hive's hours"),
        pytest.param("/d/dt={YYYY}-{MM}-{DD}", "/d/dt=1970-1-2", None, id="two digits within a name"),
        pytest.param("/d/{YYYY}/{MM}", "/d/1970/2", None, id="two digits without Hive's column"),
        pytest.param("/d/year={YYYY}/month={MM}", "/d/year=1970/month=002", None, id="no three digits"),
        pytest.param("/d/trips", "/d/trips", Span(0), id="no token is span 0"),
        pytest.param("/d/trips.csv", "/d/trips.csv", Span(0), id="one file is span 0"),
    ],
)
def test_a_span_is_read_out_of_a_path(pattern: str, path: str, span: Span | None) -> None:
    assert read(pattern, path) == span


@pytest.mark.parametrize(
    ("pattern", "base", "names", "root"),
    [
        ("/data/taxi/{SPAN}", "/data/taxi", ["{SPAN}"], 0),
        ("/data/{SPAN}/v{VERSION}", "/data", ["{SPAN}", "v{VERSION}"], 1),
        ("/data/{SPAN}/train/*.csv", "/data", ["{SPAN}", "train", "*.csv"], 0),
        ("/data/*/x/{SPAN}.csv", "/data", ["*", "x", "{SPAN}.csv"], 2),
        ("/data/*.csv", "/", ["data", "*.csv"], 0),
        ("/data/trips", "/data", ["trips"], 0),
        ("data//./{SPAN}", "data", ["{SPAN}"], 0),
        ("{SPAN}", ".", ["{SPAN}"], 0),
        ("/{SPAN}", "/", ["{SPAN}"], 0),
    ],
)
def test_a_pattern_has_a_fixed_base_and_a_root(pattern: str, base: str, names: list[str], root: int) -> None:
    parsed = SpanPattern.parse(pattern)
    assert (parsed.base, [c.text for c in parsed.components], parsed.root) == (base, names, root)


@pytest.mark.parametrize(
    ("pattern", "message", "hint"),
    [
        ("", "names no files", "../data/{SPAN}"),
        ("/d/{SPAN}/{SPAN}", "{SPAN} occurs 2 times", "once"),
        ("/d/{SPAN}-{SPAN}", "{SPAN} occurs 2 times", "once"),
        ("/d/{YYYY}/{YYYY}-{MM}-{DD}", "{YYYY} occurs 2 times", "once"),
        ("/d/{SPAN}/{YYYY}-{MM}-{DD}", "exclude each other", "A date is the span"),
        ("/d/{SPAN}/{HH}", "exclude each other", "{HH} besides for hours"),
        ("/d/{YYYY}-{MM}-{DD}/{SPAN}", "exclude each other", "{HH} besides for hours"),
        ("/d/{YYYY}", "lacks {MM}", "for months"),
        ("/d/{YYYY}-{DD}", "lacks {MM}", "for days"),
        ("/d/{DD}", "lacks {YYYY} and {MM}", "for days"),
        ("/d/{HH}", "lacks {YYYY} and {MM} and {DD}", "for hours"),
        ("/d/{YYYY}-{MM}-{DD}/{mm}", "lacks {HH}", "for minutes"),
        ("/d/{YYYY}-{MM}/{HH}", "lacks {DD}", "for hours"),
        ("/d/{YYYY}-W{WW}", "{GGGG} and {WW} are a week", "for weeks"),
        ("/d/{GGGG}-W{WW}/{DD}", "{GGGG} and {WW} are a week", "for weeks"),
        ("/d/{GGGG}", "lacks {WW}", "for weeks"),
        ("/d/{HH:2}", "has 2 digits anyway", "{HH}"),
        ("/d/{hh}", "{hh} is no token", "Did you mean {HH}?"),
        ("/d/{VERSION}", "needs a span or a date", "{SPAN}"),
        ("/d/{span}", "{span} is no token", "Did you mean {SPAN}?"),
        ("/d/{DAY}", "{DAY} is no token", "The tokens are"),
        ("/d/{SPAN:0}", "width must be a number", "{SPAN:3}"),
        ("/d/{SPAN:x}", "width must be a number", "{SPAN:3}"),
        ("/d/{VERSION:}", "width must be a number", "{VERSION:3}"),
        ("/d/{YYYY:4}-{MM}-{DD}", "has 4 digits anyway", "{YYYY}"),
        ("/d/{SPAN}{VERSION}", "nothing says where {SPAN} ends", "widths"),
        ("/d/**/{SPAN}", "`**`", "once per level"),
        ("/d/*a*b*c*d*{SPAN}", "more than 4 `*`", "Name more"),
        ("/d/{SPAN}/../x", "`..` cannot stand", "without"),
        ("/*.csv", "must begin with a folder", "data/*.csv"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(pattern: str, message: str, hint: str) -> None:
    with pytest.raises(PatternError) as refused:
        SpanPattern.parse(pattern)
    assert message in str(refused.value)
    assert hint in refused.value.hint


@pytest.mark.parametrize("name", ["2024-02-30", "2023-02-29", "2024-13-01", "0000-01-01", "2024-00-10"])
def test_a_day_that_never_was_is_refused(name: str) -> None:
    with pytest.raises(PatternError, match=f"no day {name}"):
        read("/d/{YYYY}-{MM}-{DD}", f"/d/{name}")


def test_a_number_that_metadata_cannot_hold_is_refused() -> None:
    assert read("/d/{SPAN}", f"/d/{2**63 - 1}") == Span(2**63 - 1)
    with pytest.raises(PatternError, match="too large"):
        read("/d/{SPAN}", f"/d/{2**63}")


@pytest.mark.parametrize(
    ("component", "name", "stray"),
    [
        ("span-{SPAN}", "span-tmp", True),
        ("span-{SPAN}", "span-", True),
        ("span-{SPAN}", "span-7", False),
        ("span-{SPAN}", "other", False),
        ("{YYYY}-{MM}-{DD}", "2024-1-2", True),
        ("{SPAN:3}.csv", "07.csv", True),
        ("{SPAN:3}.csv", "readme.txt", False),
        ("{SPAN}", "year=2024", True),
    ],
)
def test_a_stray_looks_like_a_span_but_is_not(component: str, name: str, stray: bool) -> None:
    assert SpanPattern.parse(f"/d/{component}").components[0].stray(name) is stray


def test_spans_are_ordered_by_number_then_version() -> None:
    spans = [Span(2, 1), Span(10), Span(2), Span(2, 10), Span(-1)]
    assert sorted(spans) == [Span(-1), Span(2), Span(2, 1), Span(2, 10), Span(10)]


def test_spans_are_named_by_number_or_by_day() -> None:
    assert (Span(42).label, Span(42, 2).label) == ("42", "42.v2")
    assert SpanPattern.parse("/d/{YYYY}{MM}{DD}/{VERSION}").say(Span(19700, 3)) == "2023-12-09.v3"
    assert SpanPattern.parse("/d/{SPAN}").say(Span(19700)) == "19700"
    assert SpanPattern.parse("/d/{YYYY}{MM}{DD}").say(Span(10**9)) == "1000000000"


@given(st.dates())
def test_a_day_is_the_days_since_1970_and_survives_the_way_to_a_path_and_back(day: date) -> None:
    number = (day - date(1970, 1, 1)).days
    pattern = SpanPattern.parse("/d/{YYYY}/x{MM}.{DD}")
    assert read(pattern.text, pattern.path_of(Span(number))) == Span(number)
    assert pattern.say(Span(number)) == day.isoformat()


@pytest.mark.parametrize(
    ("pattern", "path", "number", "name"),
    [
        pytest.param("{YYYY}/{MM}/{DD}/{HH}", "1970/01/01/05", 5, "1970-01-01T05", id="hours over four levels"),
        pytest.param("{YYYY}-{MM}-{DD}T{HH}", "2026-11-29T23", 498_887, "2026-11-29T23", id="an hour of ours"),
        pytest.param(
            "dt={YYYY}-{MM}-{DD}/hour={HH}", "dt=1969-12-31/hour=23", -1, "1969-12-31T23", id="as Hive has it"
        ),
        pytest.param(
            "trips-{YYYY}{MM}{DD}{HH}.csv", "trips-2026112923.csv", 498_887, "2026-11-29T23", id="a file's name"
        ),
        pytest.param("{YYYY}-{MM}-{DD}T{HH}{mm}", "1970-01-01T0115", 75, "1970-01-01T01:15", id="minutes"),
        pytest.param("{YYYY}-{MM}", "1970-02", 1, "1970-02", id="months"),
        pytest.param("{GGGG}-W{WW}", "1970-W02", 1, "1970-W02", id="weeks: the first holds 1970-01-01"),
        pytest.param("{GGGG}W{WW}", "2020W53", 2661, "2020-W53", id="a year of 53 weeks"),
    ],
)
def test_hours_minutes_weeks_and_months_are_consecutive_from_1970(
    pattern: str, path: str, number: int, name: str
) -> None:
    parsed = SpanPattern.parse(f"/d/{pattern}")
    assert read(parsed.text, f"/d/{path}") == Span(number)
    assert parsed.path_of(Span(number)) == f"/d/{path}"
    assert parsed.say(Span(number)) == name


@pytest.mark.parametrize(
    ("pattern", "path", "message"),
    [
        ("{YYYY}-{MM}-{DD}T{HH}", "2026-11-29T24", "there is no hour 2026-11-29T24"),
        ("{YYYY}-{MM}-{DD}T{HH}-{mm}", "2026-11-29T23-60", "there is no minute 2026-11-29T23:60"),
        ("{YYYY}-{MM}", "2026-13", "there is no month 2026-13"),
        ("{GGGG}-W{WW}", "2026-W54", "there is no week 2026-W54"),
        ("{GGGG}-W{WW}", "2026-W00", "there is no week 2026-W00"),
    ],
)
def test_a_time_that_never_was_is_refused(pattern: str, path: str, message: str) -> None:
    with pytest.raises(PatternError, match=message):
        read(f"/d/{pattern}", f"/d/{path}")


LITERAL = st.text(st.characters(exclude_characters="/{}*?\0", exclude_categories=["Cs", "Nd"]), max_size=5)


@given(LITERAL, LITERAL, st.integers(0, 2**63 - 1), st.none() | st.integers(0, 10**6), st.integers(0, 19))
def test_a_path_made_for_a_span_is_read_as_that_span(
    before: str, after: str, number: int, version: int | None, width: int
) -> None:
    token = f"{{SPAN:{width}}}" if width >= len(str(number)) else "{SPAN}"
    text = f"/d/x{before}{token}{after}" + ("/v{VERSION}" if version is not None else "")
    pattern = SpanPattern.parse(text)
    span = Span(number, version)
    assert read(text, pattern.path_of(span)) == span


@pytest.mark.parametrize(
    ("pattern", "span"),
    [("/d/{SPAN:2}", Span(100)), ("/d/{SPAN}", Span(-1)), ("/d/{SPAN}", Span(1, 1)), ("/d/{SPAN}/{VERSION}", Span(1))],
)
def test_a_span_that_a_pattern_cannot_say_has_no_path(pattern: str, span: Span) -> None:
    with pytest.raises(PatternError):
        SpanPattern.parse(pattern).path_of(span)


@given(st.text(st.sampled_from("/{}SPANVERIOYMD:0123*?.[]^$|x"), max_size=30), st.text(max_size=12))
def test_any_text_is_a_pattern_or_refused_and_no_name_ever_raises(text: str, name: str) -> None:
    with contextlib.suppress(PatternError):
        for component in SpanPattern.parse(text).components:
            assert not (component.match(name) is not None and component.stray(name))
            component.passes_over(name)


@pytest.mark.parametrize("name", [".x", "_SUCCESS", "_temporary", "a.csv~", "a.csv.part", "a.tmp", ".a.csv.swp"])
def test_hidden_and_temporary_names_are_no_data(name: str) -> None:
    assert hidden(name)
    assert not hidden(name.strip("._~") + ".csv")
    assert SpanPattern.parse("/d/*{SPAN}").components[0].passes_over(name)


def test_a_pattern_that_asks_for_hidden_names_gets_them() -> None:
    assert not SpanPattern.parse("/d/_{SPAN}").components[0].passes_over("_7")

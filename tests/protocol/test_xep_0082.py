"""XEP-0082 Date and Time Profiles."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from dynxmpp.protocol.timestamps import (
    InvalidTimestamp,
    format_seconds,
    format_us,
    format_utc,
    parse_legacy_utc,
    parse_us,
    parse_utc,
)

MOON = datetime(1969, 7, 21, 2, 56, 15, tzinfo=UTC)


class Parsing(TestCase):
    def test_both_spellings_of_the_example_are_one_moment(self) -> None:
        self.assertEqual(MOON, parse_utc("1969-07-21T02:56:15Z"))
        self.assertEqual(MOON, parse_utc("1969-07-20T21:56:15-05:00"))

    def test_fractions_below_the_microsecond_are_cut_off(self) -> None:
        for text, microsecond in [
            (".1", 100000),
            (".000001", 1),
            (".0000009", 0),
            (".999999999", 999999),
            (".123456789012345678901234567890", 123456),
        ]:
            self.assertEqual(MOON.replace(microsecond=microsecond), parse_utc(f"1969-07-21T02:56:15{text}Z"), text)

    def test_what_xml_schema_allows(self) -> None:
        self.assertEqual(datetime(2020, 3, 1, tzinfo=UTC), parse_utc("2020-02-29T24:00:00Z"))
        self.assertEqual(datetime(2020, 1, 1, 10, tzinfo=UTC), parse_utc("2020-01-02T00:00:00+14:00"))
        self.assertEqual(datetime(2020, 1, 2, tzinfo=UTC), parse_utc("2020-01-02T00:00:00-00:00"))

    def test_what_is_no_moment(self) -> None:
        for text in [
            "",
            "1969-07-21",
            "02:56:15Z",
            "1969-07-21T02:56:15",
            "1969-07-21 02:56:15Z",
            "1969-07-21T02:56:15z",
            "1969-07-21t02:56:15Z",
            "1969-07-21T02:56Z",
            "1969-07-21T02:56:15.Z",
            "1969-07-21T02:56:15,5Z",
            "1969-02-29T02:56:15Z",
            "1969-13-01T02:56:15Z",
            "1969-00-01T02:56:15Z",
            "1969-07-21T24:00:01Z",
            "1969-07-21T25:00:00Z",
            "1969-07-21T02:60:15Z",
            "1969-07-21T02:56:60Z",
            "1969-07-21T02:56:15+14:01",
            "1969-07-21T02:56:15+01:60",
            "1969-07-21T02:56:15+0100",
            "1969-07-21T02:56:15+1:00",
            "-1969-07-21T02:56:15Z",
            "19690-07-21T02:56:15Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T24:00:00Z",
            "9999-12-31T23:59:59-01:00",
            " 1969-07-21T02:56:15Z",
            "1969-07-21T02:56:15Z\n",
            "١٩٦٩-07-21T02:56:15Z",
            "1969-07-21T02:56:15." + "1" * 1000 + "Z",
        ]:
            self.assertRaises(InvalidTimestamp, parse_utc, text)
            self.assertRaises(InvalidTimestamp, parse_us, text)

    def test_the_old_spelling_is_read_where_asked_for(self) -> None:
        self.assertEqual(datetime(2002, 9, 10, 23, 8, 25, tzinfo=UTC), parse_legacy_utc("20020910T23:08:25"))
        self.assertEqual(MOON, parse_legacy_utc("1969-07-21T02:56:15Z"))
        self.assertRaises(InvalidTimestamp, parse_utc, "20020910T23:08:25")
        self.assertRaises(InvalidTimestamp, parse_legacy_utc, "20021310T23:08:25")


class Formatting(TestCase):
    def test_another_zone_is_written_in_utc(self) -> None:
        local = MOON.astimezone(timezone(-timedelta(hours=5)))
        self.assertEqual("1969-07-21T02:56:15Z", format_utc(local))

    def test_digits_are_cut_off_and_never_rounded_up(self) -> None:
        late = datetime(2020, 12, 31, 23, 59, 59, 999999, UTC)
        self.assertEqual("2020-12-31T23:59:59Z", format_utc(late))
        self.assertEqual("2020-12-31T23:59:59.9Z", format_utc(late, 1))
        self.assertEqual("2020-12-31T23:59:59.999Z", format_utc(late, 3))
        self.assertEqual("2020-12-31T23:59:59.999999Z", format_utc(late, 6))

    def test_early_years_have_four_digits(self) -> None:
        self.assertEqual("0005-01-01T00:00:00Z", format_utc(datetime(5, 1, 1, tzinfo=UTC)))

    def test_counts_since_1970(self) -> None:
        self.assertEqual("1970-01-01T00:00:00Z", format_seconds(0))
        self.assertEqual("2006-12-19T17:58:35.250Z", format_seconds(1166551115.25, 3))
        self.assertEqual("2006-12-19T17:58:35.000001Z", format_us(1166551115000001))


class RoundTrip(TestCase):
    @given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.just(UTC)))
    def test_a_moment_survives_in_both_units(self, moment: datetime) -> None:
        self.assertEqual(moment, parse_utc(format_utc(moment, 6)))
        text = format_utc(moment, 6)
        self.assertEqual(text, format_us(parse_us(text)))

    @given(st.text(max_size=40))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            parse_utc(text)
        except InvalidTimestamp:
            return
        self.assertRegex(text, r"\A\d{4}-")

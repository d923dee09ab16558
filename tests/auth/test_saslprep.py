"""SASLprep against the examples of RFC 4013 and the rules behind them."""

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from dynxmpp.auth.base import MAX_PASSWORD_BYTES, InvalidPassword, prepare_given_password, prepare_new_password
from dynxmpp.auth.saslprep import SaslprepError, saslprep

# What makes the rules meet: spaces, composing and decomposing letters, both directions, joiners, unassigned ones.
_AWKWARD = st.sampled_from(
    "aA1 \u00a0\u200b\u00ad\u2168\u00aa\u0301\u0308\ufb01\u0627\u05d0\ufefb\u0661\u0b47\u0b3e\u0300\u1100\u1161\u11a8"
    "\u034f\u0345\u037a\U0001f600\u0221\u200c\u2028\uac00\u09c7\u09be\u0bc6"
)
_TEXTS = st.one_of(st.text(), st.text(_AWKWARD))


class ExamplesTests(TestCase):
    """RFC 4013 section 3."""

    def test_soft_hyphen_is_mapped_to_nothing(self) -> None:
        self.assertEqual(saslprep("I\u00adX", stored=True), "IX")

    def test_ascii_stays_as_it_is(self) -> None:
        for text in ("user", "USER", " lots  of spaces ", "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"):
            self.assertEqual(saslprep(text, stored=True), text)

    def test_compatibility_characters_are_decomposed(self) -> None:
        self.assertEqual(saslprep("\u00aa", stored=True), "a")
        self.assertEqual(saslprep("\u2168", stored=True), "IX")

    def test_control_character_is_prohibited(self) -> None:
        with self.assertRaises(SaslprepError):
            saslprep("\u0007", stored=False)

    def test_mixed_directions_are_refused(self) -> None:
        with self.assertRaises(SaslprepError):
            saslprep("\u0627\u0031", stored=False)


class RulesTests(TestCase):
    def test_each_space_becomes_the_ascii_one(self) -> None:
        self.assertEqual(saslprep("a\u00a0b\u3000c\u200bd", stored=True), "a b c d")

    def test_case_is_kept(self) -> None:
        self.assertEqual(saslprep("\u00c4\u00e4", stored=True), "\u00c4\u00e4")

    def test_combining_characters_are_composed(self) -> None:
        self.assertEqual(saslprep("u\u0308", stored=True), "\u00fc")

    def test_right_to_left_text_between_right_to_left_letters(self) -> None:
        self.assertEqual(saslprep("\u0627\u0031\u0628", stored=True), "\u0627\u0031\u0628")

    def test_right_to_left_and_left_to_right_letters_do_not_mix(self) -> None:
        with self.assertRaises(SaslprepError):
            saslprep("\u0627a\u0628", stored=True)

    def test_unassigned_code_points_are_for_queries_only(self) -> None:
        self.assertEqual(saslprep("\u0221", stored=False), "\u0221")
        with self.assertRaises(SaslprepError):
            saslprep("\u0221", stored=True)

    def test_each_prohibited_table(self) -> None:
        for character in "\x00\x7f\u0080\u2028\ue000\ufdd0\ud800\ufffd\u2ff0\u200e\U000e0001":
            with self.assertRaises(SaslprepError, msg=hex(ord(character))):
                saslprep(character, stored=False)

    def test_errors_do_not_quote_the_password(self) -> None:
        with self.assertRaises(SaslprepError) as caught:
            saslprep("sesame\x07", stored=True)
        self.assertNotIn("sesame", str(caught.exception))

    @given(_TEXTS, st.booleans())
    @example("\u0b47\u0300\u0b3e", False)
    @example("\u1100\u0300\u1161", False)
    def test_preparing_again_changes_nothing(self, text: str, stored: bool) -> None:
        try:
            prepared = saslprep(text, stored=stored)
        except SaslprepError:
            return
        self.assertEqual(saslprep(prepared, stored=stored), prepared)

    @given(_TEXTS)
    def test_what_may_be_stored_may_be_asked_for(self, text: str) -> None:
        try:
            prepared = saslprep(text, stored=True)
        except SaslprepError:
            return
        self.assertEqual(saslprep(text, stored=False), prepared)


class PasswordTests(TestCase):
    def test_new_passwords_that_are_refused(self) -> None:
        for password in ("", "\u00ad", "\x07", "\u0221", "\ud800", "x" * (MAX_PASSWORD_BYTES + 1), "\u00e4" * 512):
            with self.assertRaises(InvalidPassword, msg=ascii(password)):
                prepare_new_password(password)

    def test_new_password_is_prepared(self) -> None:
        self.assertEqual(prepare_new_password("\u2168\u00ad"), "IX")
        self.assertEqual(prepare_new_password("x" * MAX_PASSWORD_BYTES), "x" * MAX_PASSWORD_BYTES)

    def test_given_password_that_nobody_can_have(self) -> None:
        for password in ("", "\u00ad", "\x07", "\ud800", "x" * (MAX_PASSWORD_BYTES + 1)):
            self.assertIsNone(prepare_given_password(password))

    def test_given_password_is_prepared(self) -> None:
        self.assertEqual(prepare_given_password("\u2168"), "IX")
        self.assertEqual(prepare_given_password("\u0221"), "\u0221")

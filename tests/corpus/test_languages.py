"""Text of other languages as sentences: passages with the traps of each, what is noted, and what decides a key.

The passages were written for these tests; a sentence a line, which joined is the paragraph.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sentemb
from sentemb.corpus import Corpus, open_corpus
from sentemb.corpus.books import paragraphs
from sentemb.corpus.language_fit import STOP_WORDS, misfit
from sentemb.corpus.multilingual import split_text
from sentemb.corpus.sentences import LONGEST, split_sentences
from sentemb.inspection.cli import main
from sentemb.languages import LANGUAGES, check_language
from sentemb.pipeline.settings_of_run import resumed_settings

PASSAGES = {
    "de": """
Am 3. Oktober fuhr Dr. Weber mit Hr. Lang nach Bonn.
Sie wohnten im 2. Stock eines Hauses, z. B. wegen der Aussicht.
„Kommen Sie herein!“, rief die Wirtin.
„Setzen Sie sich.
Es gibt Brot, Käse usw.“
Danach schwieg sie… und der Regen fiel weiter.
War das schon alles?
Im Zimmer 12.
Dann wurde es still.
»Gute Nacht.«
Die Uhr schlug zehn.
""",
    "fr": """
M. Dupont et Mme. Leroy sont arrivés le 1er mai.
« Où est la gare ? » demanda-t-il.
Personne ne répondit !
Elle posa son livre, cf. p. 12, et sourit.
« Venez.
Il est tard. »
Le Dr. Petit habite près de St. Jean, p. ex. avec sa sœur.
J. P. Morel attendait dehors…
Puis la pluie tomba.
""",
    "es": """
El Sr. Molina y la Dra. Vega viven en la calle Mayor, núm. 8.
¿Quién ha llamado?
¡Nadie, por Dios!
—¿Vienes mañana? —preguntó Ana.
—Claro que sí.
Compra fruta, p. ej. Manzanas de Asturias.
«No sé», dijo él.
«Quizá más tarde.
O nunca.»
D. Luis calló.
""",
    "it": """
Il sig. Ferri e la dott.ssa Longo partirono alle 8.
«Vieni anche tu?» chiese lei.
«No.
Resto a casa.»
Comprò pane, latte, ecc.
Poi tornò indietro.
Si veda pag. 12 del libro.
L'avv. Sala abita lì da anni…
È una bella casa!
""",
    "nl": """
Dhr. Bakker en mevr. Smit woonden in een dorp, bijv. Oudeland.
“Waar is de sleutel?” vroeg hij.
Niemand wist het, d.w.z. Niemand zei iets.
Ze kochten brood, kaas enz.
Daarna regende het.
Zie blz. 4 van het boek!
Prof. De Wit zweeg.
""",
    "ru": """
Мы жили на ул. Садовой, д. 5, рядом с г. Тверь.
— Куда ты идёшь? — спросил он.
— Домой.
«Я устал», — сказал А. П. Волков.
«Подожди.
Уже поздно!»
Купили хлеб, сыр и т. д.
Потом все ушли.
Это был я.
Дождь шёл… и никто не спорил, т. е. Все молчали.
""",
    "el": """
Ο κ. Νίκου και η κα. Δήμου μένουν στην οδ. Ερμού.
Τι ώρα είναι;
Κανείς δεν απάντησε.
«Έλα μέσα», είπε εκείνη.
«Κάθισε.
Είναι αργά!»
Δες τη σελ. 12 του βιβλίου.
Γεννήθηκε το 50 π.Χ. στην Πάτρα.
""",
    "pt": """
O Sr. Lopes e a Dra. Nunes moram na Av. Central, n.º 8.
— Quem chegou? — perguntou ela.
— Ninguém!
Veja a pág. 12 do livro.
«Não sei», disse ele.
«Talvez amanhã.
Ou nunca.»
Trouxe fruta, p. ex. Laranjas do Algarve.
Depois choveu.
""",
    "ja": """
昨日は雨でした。
「一緒に行こう。」と彼は言った。
「本当？」
母は驚いた。
荷物は3.5キロもある！
「待って。
まだ早いよ。」
とても静かな夜だった（たぶん。）。
""",
    "zh": """
昨天下雨了。
“你去哪里？”他问。
“回家！
太晚了。”
价格是3.5元，不贵。
她看了《春天》这本书……然后走了。
真的吗？
没有人知道。
""",
    "ar": """
وصل د. سامي إلى البيت مساء أمس.
هل رأيته هناك؟
نعم، كان يقرأ كتابا!
قال: «تعال غدا.
الوقت متأخر.»
ثم خرج الجميع.
""",
    "hi": """
डॉ. वर्मा कल शाम को घर आए।
क्या तुमने उन्हें देखा?
वे श्री. गुप्ता से मिले थे!
उसने कहा, “बैठो।
अभी देर है।”
फिर सब चले गए।
""",
    "ko": """
어제는 비가 왔다.
“어디에 가니?”
그가 물었다.
짐은 3.5킬로나 된다!
아무도 몰랐다.
""",
}
CASES = {code: passage.strip().split("\n") for code, passage in PASSAGES.items()}


def joined(code: str, sentences: list[str]) -> str:
    return ("" if code in ("ja", "zh") else " ").join(sentences)


@pytest.mark.parametrize("code", CASES)
def test_sentences_end_where_a_reader_of_the_language_ends_them(code):
    assert split_text(joined(code, CASES[code]), code) == CASES[code]


@pytest.mark.parametrize("code", CASES)
def test_no_letter_is_lost_and_a_long_paragraph_is_cut_before_it_is_split(code):
    text = joined(code, CASES[code] * (2 * LONGEST // len(joined(code, CASES[code]))))
    sentences = split_text(text, code)
    assert len(text) > LONGEST and max(map(len, sentences)) < 200
    assert "".join("".join(sentences).split()) == "".join(text.split())


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_every_language_ends_sentences_at_its_full_stops(code):
    """Of a plain text of two words: its scripts' marks, with a space or without where it writes none."""
    mark = {"han": "。", "kana": "。", "devanagari": "।", "bengali": "।", "ethiopic": "።", "armenian": "։",
            "myanmar": "။", "gurmukhi": "।"}.get(LANGUAGES[code].scripts[0], ".")  # fmt: skip
    letter = {"latin": "A", "cyrillic": "Б", "greek": "Β", "arabic": "ب", "hebrew": "ב", "han": "山", "kana": "か",
              "hangul": "가", "devanagari": "क", "bengali": "ক", "ethiopic": "ሀ", "armenian": "Բ", "myanmar": "က",
              "gurmukhi": "ਕ", "gujarati": "ક", "kannada": "ಕ", "malayalam": "ക", "tamil": "க",
              "telugu": "క"}[LANGUAGES[code].scripts[0]]  # fmt: skip
    word = letter + letter.lower() * 4
    sentences = [f"{word}{' ' * LANGUAGES[code].has_spaces}{word}{mark}"] * 3
    assert split_text((" " * LANGUAGES[code].has_spaces).join(sentences), code) == sentences


def test_english_is_split_as_ever_and_others_are_not_split_by_its_rules():
    text = '"It was I. Chapter 2 was ill," said Mr. Hale. "No. Fed." He left.'
    assert split_text(text, "en") == split_text(text) == split_sentences(text)
    assert split_text("Chapter 2 Die Reise begann. Dann kam Art. 5 dran.", "de")[0] == "Chapter 2 Die Reise begann."


def test_lines_of_japanese_join_without_spaces_and_end_paragraphs_at_full_stops():
    wrapped = "昨日は朝から雨が\n降っていました。今日は\nよく晴れています。"
    assert paragraphs(wrapped, "ja") == ["昨日は朝から雨が降っていました。今日はよく晴れています。"]
    a_line_each = "\u3000彼は朝早く家を出た。\n「どこへ行くの」\n\u3000母は聞いた。"
    assert paragraphs(a_line_each, "ja") == ["彼は朝早く家を出た。", "「どこへ行くの」", "母は聞いた。"]


# ---- codes


@pytest.mark.parametrize(
    ("code", "near"),
    [("german", "de"), ("German", "de"), ("pt-BR", "pt"), ("zh_Hant", "zh"), ("fra", "fr"), ("japanes", "ja"),
     ("EN", "en"), ("ge", "de"), ("jp", "ja"), ("ger", "de"), ("spa", "es"), ("klingon", None), ("", None)],
)  # fmt: skip
def test_an_unknown_code_is_refused_with_the_nearest(code, near):
    with pytest.raises(sentemb.InputError) as refused:
        check_language(code)
    assert str(refused.value).startswith(f"unknown language {code!r}" + (f" (did you mean {near!r}, " if near else ";"))
    assert "valid: am, ar, " in str(refused.value)


def test_an_unknown_code_is_refused_before_anything_heavy_is_imported(tmp_path):
    code = """
import sys
from pathlib import Path
from {module} import main
try:
    main({arguments})
except SystemExit as stopped:
    print(stopped.code, sorted({{"torch", "datasets", "sentence_transformers", "sentencex"}} & set(sys.modules)))
"""
    recipe = code.format(module="recipes.train_bookcorpus", arguments=["--language", "german"])
    inspection = code.format(module="sentemb.inspection.cli", arguments=["x.txt", "--language", "german"])
    for script in (recipe, inspection):
        command = [sys.executable, "-c", script]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert ended.stdout == "2 []\n", ended.stderr
        assert ended.stderr.startswith("error: unknown language 'german' (did you mean 'de', German?); valid: am, ")


# ---- corpora


BOOK = "\n\n".join(" ".join(CASES["de"]) for _ in range(10))


def sentences_of(corpus: Corpus) -> list[str]:
    return corpus.sentences(slice(None))


@pytest.mark.parametrize("kind", ["folder", "book", "table", "data set", "documents", "Dataset"])
def test_the_language_reaches_all_that_splits_text(tmp_path, kind):
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text(BOOK, encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": BOOK}) + "\n", encoding="utf-8")
    from datasets import Dataset

    spec = {
        "folder": str(tmp_path / "books"),
        "book": f"books:path={tmp_path / 'books' / 'a.txt'}",
        "table": f"table:path={tmp_path / 'rows.jsonl'},split_sentences=true",
        "data set": f"hub:name={tmp_path / 'rows.jsonl'},split_sentences=true",
        "documents": [BOOK],
        "Dataset": Dataset.from_dict({"text": [BOOK]}),
    }[kind]
    german = open_corpus(spec, progress=False, language="de")
    assert sentences_of(german) == CASES["de"] * 10 and german.notes == () and german.language == "de"
    english = open_corpus(spec, progress=False)
    assert english.fingerprint != german.fingerprint and sentences_of(english) != sentences_of(german)
    (note,) = english.notes
    assert "is mostly in German words" in note and "split by the rules of English; give --language de" in note


def test_a_language_is_in_no_key_where_nothing_is_split_and_in_none_of_english(tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(CASES["de"]), encoding="utf-8")
    for spec in (str(lines), [CASES["de"], CASES["de"]], [("a b", "c d"), ("e f", "g h")]):
        german, plain = open_corpus(spec, False, "de"), open_corpus(spec, False)
        assert german.fingerprint == plain.fingerprint and plain.notes == ()
        assert german.notes == (f"language de has no effect: no text of {german.name} is split by it",)
    from sentemb.corpus.multilingual import splitter_of
    from sentemb.corpus.sentences import SPLITTER

    assert splitter_of("en") == SPLITTER != splitter_of("de") != splitter_of("fr")


# ---- notes


ENGLISH = [
    "The boat lay on the sand, and nobody took it out that morning.",
    "He had promised his sister that they would sail with the tide.",
    "Not a cloud was to be seen from the wall of the garden.",
    "Which way does the wind blow, this evening or the next?",
]
PROSE = {code: CASES[code] for code in STOP_WORDS if code != "en"} | {"en": ENGLISH}


def test_stop_words_of_one_language_are_no_stop_words_of_another():
    words = [word for text in STOP_WORDS.values() for word in text.split()]
    assert sorted(set(words)) == sorted(words) and all(len(text.split()) == 12 for text in STOP_WORDS.values())


@pytest.mark.parametrize("code", PROSE)
@pytest.mark.parametrize("chosen", PROSE)
def test_words_of_another_language_are_noted_and_those_of_the_chosen_one_are_not(code, chosen):
    noted = misfit(PROSE[code] * 3, chosen)
    assert noted == (None if code == chosen else (f"{LANGUAGES[code].name} words", code))


@pytest.mark.parametrize(
    ("code", "what", "first"),
    [("ru", "Cyrillic", "ru"), ("el", "Greek", "el"), ("ar", "Arabic", "ar"), ("hi", "Devanagari", "hi"),
     ("ja", "Kana", "ja"), ("zh", "Han", "zh"), ("ko", "Hangul", "ko")],
)  # fmt: skip
def test_letters_of_another_script_are_noted(code, what, first):
    what_it_is = (f"{what} letters", first)
    for chosen in ("en", "de", *(other for other in ("ru", "ja", "ar", "ko") if other != code)):
        noted = misfit(CASES[code] * 5, chosen)
        expected = None if (chosen, code) == ("ko", "zh") else what_it_is  # (hanja)
        assert (noted and (noted[0], noted[1].split()[0])) == expected
    assert misfit(CASES[code] * 5, code) is None
    assert misfit(ENGLISH * 5, code) == ("Latin letters", "en")
    assert misfit(CASES["de"] * 5, code) == ("Latin letters", "de")


def test_a_text_with_some_words_of_another_language_gets_no_note():
    assert misfit(ENGLISH * 4 + CASES["fr"], "en") is None
    assert misfit(ENGLISH * 4 + CASES["ru"], "en") is None
    assert misfit(["1 2 3", "--"] * 100, "en") is None
    assert misfit(CASES["de"][:4], "en") is None  # too little to say anything


def test_the_note_is_of_an_evenly_spread_sample_of_each_source(tmp_path):
    for name, text in (("a", " ".join(ENGLISH)), ("b", " ".join(CASES["de"]))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text("\n\n".join([text] * 400), encoding="utf-8")
    corpus = open_corpus(f"{tmp_path / 'a'} + {tmp_path / 'b'}", progress=False)
    (note,) = corpus.notes
    assert note.startswith("folder b (1 book) is mostly in German words")
    again = open_corpus(f"{tmp_path / 'a'} + {tmp_path / 'b'}", progress=False)
    assert again.notes == corpus.notes


# ---- runs


def test_the_command_shows_what_the_language_does(tmp_path, capsys):
    (tmp_path / "a.txt").write_text(BOOK, encoding="utf-8")
    arguments = [f"books:path={tmp_path / 'a.txt'}", "--no-time", "--tokenizer", "learned:300"]
    main([*arguments, "--language", "de"])
    german = capsys.readouterr().out
    assert f"sentences                         {10 * len(CASES['de'])}\n" in german and "--language" not in german
    main(arguments)
    assert "give --language de" in capsys.readouterr().out.replace("\n", " ")


def test_an_old_run_is_english_and_a_run_resumes_in_its_language(tmp_path):
    def begun_with(settings: dict[str, object]) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"settings": settings}), encoding="utf-8")

    defaults = {"language": "en", "corpus": "sample", "encoder": "rnn", "init": None}
    begun_with({"corpus": "sample"})  # (0.1.0 had no language)
    assert resumed_settings({}, defaults, tmp_path, True)["language"] == "en"
    assert resumed_settings({"language": "en"}, defaults, tmp_path, True)["language"] == "en"
    with pytest.raises(sentemb.InputError, match="was started with --language en, not de; leave --language out"):
        resumed_settings({"language": "de"}, defaults, tmp_path, True)
    begun_with({"corpus": "sample", "language": "de"})
    assert resumed_settings({}, defaults, tmp_path, True)["language"] == "de"
    with pytest.raises(sentemb.InputError, match="was started with --language de, not en"):
        resumed_settings({"language": "en"}, defaults, tmp_path, True)


def test_train_takes_the_language_and_goes_on_in_it(tmp_path):
    quick = {"encoder": "rnn:embeddings=random,vocabulary=300,hidden=8", "batch_size": 8, "workers": 0}
    run = sentemb.train([BOOK] * 3, language="de", out=tmp_path / "run", max_steps=2, save_every=1, **quick)
    config = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert config["settings"]["language"] == "de"
    assert config["corpus"]["fingerprint"] == open_corpus([BOOK] * 3, False, "de").fingerprint
    assert run.log.index[-1] == 2
    resumed = sentemb.train([BOOK] * 3, out=tmp_path / "run", resume=True)
    assert resumed.log.index[-1] == 2
    with pytest.raises(sentemb.InputError, match="was started with"):
        sentemb.train([BOOK] * 3, language="en", out=tmp_path / "run", resume=True)
    with pytest.raises(sentemb.InputError, match="was opened with language='en', not 'de'"):
        sentemb.train(open_corpus([BOOK] * 3, False), language="de")
    with pytest.raises(sentemb.InputError, match="did you mean 'de', German"):
        sentemb.train([BOOK] * 3, language="german")


def test_the_guide_lists_every_code_and_word():
    page = (Path(__file__).parents[2] / "docs" / "corpora.md").read_text(encoding="utf-8")
    table = page.partition("| codes |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.split("\n")[2:]]
    codes = [code for row, _ in rows for code in re.findall(r"`(\w\w)`", row)]
    assert sorted(codes) == sorted(LANGUAGES)
    for row, rules in rows:
        borrowed = {LANGUAGES[code].rules for code in re.findall(r"`(\w\w)`", row)} - {""}
        assert all(LANGUAGES[code].name in rules for code in borrowed), row
    checked = {code for row, rest in rows[:4] for code in re.findall(r"`(\w\w)`", row)}
    assert checked == {"en", *CASES}
    for code, words in STOP_WORDS.items():
        assert f"| `{code}` | {words} |" in page

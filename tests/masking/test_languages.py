"""Sentences and words of other languages than English."""

import pytest
from punkt import PunktSentenceTokenizer, load_model

from raysweep.config.data_settings import MaskingConfig
from raysweep.corpus.documents import Documents
from raysweep.masking.ilm_files import draw_examples
from raysweep.masking.languages import PUNKT_MODELS
from raysweep.masking.segmentation import hierarchy_of, segment

TEXTS = {
    "de": "Ich fahre am 3. Oktober nach Köln. Dr. Müller, d. h. mein Arzt, wohnt in der Str. Nr. 5. Schön, oder?",
    "it": "Il dott. Rossi è qui. L'amico di ieri, sig. Bianchi, non c'è. Perché? Non lo so!",
    "cs": "Dnes je hezky. Bydlím v Praze, tj. v hlavním městě, např. u řeky. Máš čas? Ano.",
    "es": "El Sr. García vive en EE. UU. desde 2010. ¿Por qué? ¡No lo sé! La Dra. López también.",
    "pt": "O Sr. Silva mora em Lisboa. A Dra. Costa não está. Por quê? Não sei, p. ex. hoje.",
    "fr": "M. Dupont habite à Paris. C'est l'ami de Mme. Durand, etc. Pourquoi ? Je ne sais pas !",
    "sv": "Jag bor i Malmö. Det är t.ex. kallt, dvs. inte varmt, bl.a. i januari. Varför? Vet inte.",
}


def sentences_of(text, language):
    return [
        [text[first : first + length] for first, length, _ in paragraph[2]]
        for paragraph in hierarchy_of(segment([text], language), 0)[2]
    ]


def words_of(text, language):
    return [
        text[first : first + length]
        for paragraph in hierarchy_of(segment([text], language), 0)[2]
        for sentence in paragraph[2]
        for first, length in sentence[2]
    ]


@pytest.mark.parametrize("language", TEXTS)
def test_sentences_equal_those_of_the_languages_punkt_model(language):
    """Against the library itself, which looks at the whole text and not at one mark after the other."""
    tokenizer = PunktSentenceTokenizer(load_model(PUNKT_MODELS[language]))
    assert sentences_of(TEXTS[language], language) == [list(tokenizer.tokenize(TEXTS[language]))]


def test_each_language_has_its_own_abbreviations():
    """An English model ends sentences at German abbreviations; each language keeps its own decisions."""
    text = "Die Stadt hat 2 Mio. Einwohner und mehr."
    german = sentences_of(text, "de")
    assert german == [[text]]
    assert sentences_of(text, "en") == [["Die Stadt hat 2 Mio.", "Einwohner und mehr."]]
    assert sentences_of(text, "de") == german


@pytest.mark.parametrize(
    ("language", "text", "sentences"),
    [
        ("ja", "今日は晴れです。明日は雨？はい！", ["今日は晴れです。", "明日は雨？", "はい！"]),
        ("zh", "我住在北京。 你呢？\n很好！", ["我住在北京。", "你呢？", "很好！"]),
        ("hi", "मैं घर जाता हूँ। वह आती है।", ["मैं घर जाता हूँ।", "वह आती है।"]),
        ("ar", "أنا هنا. أين أنت؟ في البيت.", ["أنا هنا.", "أين أنت؟", "في البيت."]),
    ],
)
def test_other_languages_have_the_sentences_of_sentencex(language, text, sentences):
    """Offsets after spaces and line breaks are correct too."""
    assert [sentence for paragraph in sentences_of(text, language) for sentence in paragraph] == sentences


def test_each_character_is_a_word_in_scripts_without_spaces():
    """Other characters stay together, and marks stay with their character."""
    assert words_of("我有2本book，你呢", "zh") == ["我", "有", "2", "本", "book，", "你", "呢"]
    assert words_of("日本語です", "ja") == ["日", "本", "語", "で", "す"]
    assert words_of("ที่บ้าน", "th") == ["ที่", "บ้า", "น"]
    assert words_of("Ich habe 2 Bücher.", "hu") == ["Ich", "habe", "2", "Bücher", "."]


@pytest.mark.parametrize("language", ["de", "ja", "hu"])
def test_segments_are_nested_and_cover_all_characters_except_white_space(language):
    """Emoji, half surrogate pairs, empty documents and blank lines included."""
    texts = ["", " \n", "Hi 👋🏽. 日本\u3000語。\n\nx", "a\ud800b. c", "…?!", "word " * 50, "你好" * 40]
    for text in texts:
        covered = [False] * len(text)
        for p_first, p_length, sentences in hierarchy_of(segment([text], language), 0)[2]:
            for s_first, s_length, words in sentences:
                assert p_first <= s_first <= s_first + s_length <= p_first + p_length
                for first, length in words:
                    assert length > 0
                    assert s_first <= first <= first + length <= s_first + s_length
                    assert not any(covered[first : first + length])
                    covered[first : first + length] = [True] * length
        assert all(done or character.isspace() for done, character in zip(covered, text, strict=True))


def test_masks_do_not_depend_on_neighbouring_documents_in_any_language():
    """As for English, the masks of a document depend on nothing else."""
    texts = ["今日は晴れです。明日は雨です。", "我住在北京。"]
    policy = MaskingConfig(sentence=0.5, word=0.3)

    def drawn(indices):
        documents = Documents(
            ids=[f"d{i}" for i in indices], levels=["A1"] * len(indices), splits=["train"] * len(indices),
            texts=[texts[i] for i in indices],
        )  # fmt: skip
        return draw_examples(documents, policy, seed=0, language="ja")

    assert drawn([0, 1]) == [*drawn([0]), *drawn([1])]
    assert any(masks for document in drawn([0, 1]) for masks in document.masks)

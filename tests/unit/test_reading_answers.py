"""Reading answers: the responses by format, text around a response or in its place, and the folder of answers."""

# ruff: noqa: RUF001

import json
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.files import write_json
from amalgam.llm.request import write_answers
from amalgam.synthesis.answers import parse_answer, read_answer, read_responses
from amalgam.synthesis.asking import build_response_format
from amalgam.synthesis.grading import parse_grade
from amalgam.tasks.texts import fold_text

GOOD = "The soup was cold, again."
REFUSED = "I'm sorry, but I can't assist with that."
FORMATS = ("text", "lines", "json")


@pytest.mark.parametrize(
    ("text", "finish_reason", "faults"),
    [  # faults of the formats text, lines and json, or of all
        (GOOD, "stop", ("", "", "malformed")),
        ("👍", "stop", ("", "", "malformed")),
        ('{"response": ""}', "stop", ("empty",)),
        (f'{{"response": "{REFUSED}"}}', "stop", ("refusal",)),
        ('{"error": {"message": "Rate limit reached"}}', "stop", ("", "", "malformed")),
        ("[" * 100_000, "stop", ("", "", "malformed")),
        (f'{{"response": "{GOOD}"}}', "error", ("error",)),
        (GOOD, "refusal", ("refusal",)),
        (REFUSED, "length", ("refusal",)),
        (GOOD, "length", ("cut_off",)),
        ('{"response": "One.', "length", ("cut_off",)),
        ("", "stop", ("empty",)),
        ("<|im_end|>\n<|im_start|>user\nAnother one.", "stop", ("empty",)),
        ("<|user|>\nWrite.", "stop", ("empty",)),
        ("Sure! Here it is:\n\n", "stop", ("announcement",)),
        ("**Comment:**", "stop", ("announcement",)),
    ],
)
def test_an_answer_without_a_response_has_a_fault(text: str, finish_reason: str, faults: tuple[str, ...]) -> None:
    for format, fault in zip(FORMATS, cycle(faults), strict=False):
        responses, found = parse_answer(text, finish_reason, format, 3)
        assert (found, bool(responses)) == (fault, not fault), format


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nOkay, the user wants me to write",
        "<think></think>\n\n<|im_end|>",
        "<|channel|>analysis<|message|>We need a comment.<|end|>",
        "Okay, so the user wants me to write a short comment.",
    ],
)
def test_nothing_but_thinking_has_a_fault_of_its_own(text: str) -> None:
    for format in FORMATS:
        assert parse_answer(text, "stop", format, 2) == ([], "thinking")
        assert parse_answer(text, "length", format, 2) == ([], "cut_off")
    assert parse_grade(text, ["bad", "good"]) == ""


LISTS = {
    "plain": "One.\nTwo!\nThree?",
    "bullets": "- One.\n* Two!\n• Three?",
    "quotes": '"One."\n“Two!”\n`Three?`',
    "numbers alone": "1.\nOne.\n2.\nTwo!\n3.\nThree?",
    "announced": "Here are three comments:\n\n1. One.\n2. Two!\n3. Three?",
    "closed": "1. One.\n2. Two!\n3. Three?\n\nDo you want more of them?",
    "code block": "```text\n1. One.\n2. Two!\n3. Three?\n```",
    "too many": "One.\nTwo!\nThree?\nFour.",
    "cut off": "1. One.\n2. Two!\n3. Three?\n4. Fo",
    "cut off behind a number": "Here are ten:\n1. One.\n2. Two!\n3. Three?\n4.",
    "cut off json": '{"response_1": "One.", "response_2": "Two!", "response_3": "Three?", "response_4": "Fo',
    "json with a comma at the end": '{"response_1": "One.", "response_2": "Two!", "response_3": "Three?",}',
    "json with a line break": '{"response_1": "One.", "response_2": "Two!\n", "response_3": "Three?"}',
    "json with null": '{"response_1": "One.", "response_2": null, "response_3": "Two!", "response_4": "Three?"}',
    "json with keys of its own": '{"comment1": "One.", "comment2": "Two!", "comment3": "Three?"}',
    "json in json": '{"reviews": [{"text": "One."}, {"text": "Two!"}, {"text": "Three?"}]}',
    "json array": '{"responses": ["One.", "Two!", "Three?"]}',
    "json objects": '[{"response": "One."}, {"response": "Two!"}, {"response": "Three?"}]',
    "json between": 'So: {"response_1": "\\"One.\\"", "response_2": "Two!\\n", "response_3": "Three?"} I hope so.',
    "json with others": f'{{"responses": ["One.", "{REFUSED}", " \\"\\" ", "Two!", "Three?"]}}',
}


@pytest.mark.parametrize("name", LISTS)
def test_several_responses_are_read_however_they_are_listed(name: str) -> None:
    finish_reason = "length" if name.startswith("cut off") else "stop"
    for format in ("lines", "json") if "json" in name else ("lines",):
        if format == "json" or LISTS[name].startswith(("{", "[")):
            assert parse_answer(LISTS[name], finish_reason, format, 3) == (["One.", "Two!", "Three?"], "")


@pytest.mark.parametrize(
    "lines",
    [
        ["3.5 stars for the screen", "2 batteries died", "10:30 and still no picture", "-10 degrees and it works"],
        ["1995. What a year", "$20 too much", "#1 in my book", "*sigh* broke again"],
        ["It does one thing: nothing.", "My verdict:", "Too dear.", "OK :)"],
    ],
)
def test_a_response_keeps_what_is_its_own(lines: list[str]) -> None:
    assert parse_answer("\n".join(lines), "stop", "lines", 4)[0] == lines
    numbered = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
    assert parse_answer(numbered, "stop", "lines", 4)[0] == lines


PIECES = ["1. ", "\n", "\n\n", "- ", ":", '"', "{", "}", '{"response": ', ",", "One.", "```", "\ud83d", "\u2028"]
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from([*PIECES, REFUSED])).map("".join))
REASONS = st.sampled_from(["stop", "length", "error", "refusal", "content_filter", "", "tool_calls"])


@settings(max_examples=300)
@given(TEXTS, REASONS, st.sampled_from(FORMATS), st.integers(1, 4))
@example("One.\u2028Two!\x85Three?", "stop", "lines", 2)
@example('{"response": "\\ud83d"}', "stop", "json", 1)
def test_any_text_gives_responses_or_a_fault(raw: str, finish_reason: str, format: str, responses: int) -> None:
    texts, fault = parse_answer(raw, finish_reason, format, responses)
    assert fault in ("", "error", "refusal", "cut_off", "thinking", "announcement", "empty", "malformed")
    assert bool(texts) == (fault == "")
    assert len(texts) <= responses
    assert not texts or finish_reason not in ("error", "refusal", "content_filter")
    for text in texts:
        assert fold_text(text)
        assert [text] == text.splitlines() == [" ".join(text.split())]
        assert text.encode()


@pytest.mark.parametrize("responses", [1, 12])
def test_the_schema_asks_for_what_is_read(responses: int) -> None:
    described = build_response_format(responses)["json_schema"]
    keys = [*described["schema"]["properties"]]
    answer = json.dumps({key: f"So {number}." for number, key in enumerate(keys)})
    assert parse_answer(answer, "stop", "json", responses)[0] == [f"So {number}." for number in range(responses)]
    # What strict mode requires of a schema, here and at Azure, which knows no other keywords.
    properties = {key: {"type": "string"} for key in keys}
    schema = {"type": "object", "properties": properties, "required": keys, "additionalProperties": False}
    assert described == {"name": "responses", "strict": True, "schema": schema}


SURROUNDED = {
    "thinking": "<think>\nOkay, one comment.\n\nShort.\n</think>\n\n{}",
    "square brackets": "[THINK]One.[/THINK]{}",
    "tokens of thinking": "<|START_THINKING|>One.<|END_THINKING|><|START_RESPONSE|>{}<|END_RESPONSE|>",
    "channels": "<|channel|>analysis<|message|>One.<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
    "channels whose tokens were dropped": "analysisOne comment is wanted.assistantfinal{}",
    "a wrapped answer with a kind": "<customer_comment>{}</customer_comment>",
    "a wrapped answer with a number": "<response_1>{}</response_1>",
    "a wrapped answer": "<think>One.</think>\n<answer>\n{}\n</answer>",
    "the end of a turn": "{}<|im_end|>",
    "another turn with thinking": "{}<end_of_turn>\n<start_of_turn>model\n<think>Two.</think>Too salty.",
    "a turn without tokens": "{}\nUser: Another one.\nAssistant: Too salty.",
    "a turn of Llama 3 whose tokens were dropped": "{}assistant\n\nToo salty.",
    "the beginning of a sequence": "<s>{}</s>",
}


@pytest.mark.parametrize("around", SURROUNDED.values(), ids=SURROUNDED)
def test_what_is_said_is_read_alike_in_all_formats(around: str) -> None:
    assert parse_answer(around.replace("{}", GOOD), "stop", "text", 1) == ([GOOD], "")
    assert parse_answer(around.replace("{}", f"1. {GOOD}\n2. Too salty!"), "stop", "lines", 2)[0][0] == GOOD
    assert parse_answer(around.replace("{}", json.dumps({"response": GOOD})), "stop", "json", 1) == ([GOOD], "")
    assert parse_grade(around.replace("{}", '{"label": "good"}'), ["bad", "good"]) == "good"


ANNOUNCED = [
    'Here is a comment from a student:\n\n"{}"',
    "Certainly!\n\n{}",
    "Response 1: {}\n\nResponse 2: Too salty.",
    "Here are two comments:\n\n**Option 1:** {}\n\n**Option 2:** Too salty.",
    "**A cold soup**\n\n{}",
    "# A cold soup\n{}",
    "Question: How was it?\n\nAnswer: {}",
    "以下是一条评论：\n\n「{}」",
    "**Comment:** {}",
    "The student's comment (negative): {}",
    "评论：{}",
    "```text\n{}\n```\n\nThis comment is negative.",
    '"**Comment:** {}"',
    "{}\n\nLet me know if you'd like another!",
    '```json\n{"customer_comment": "{}"}\n```',
    "{}\n---\nThis comment expresses dissatisfaction.",
    '"{}\n\nNever again."',
]


def test_a_letter_is_more_than_its_greeting() -> None:
    letter = "Dear support team,\n\nMy headphones stopped working after two days.\n\nKind regards,\nAnna"
    assert parse_answer(f"Here is a letter:\n\n{letter}", "stop", "text", 1) == ([" ".join(letter.split())], "")


@pytest.mark.parametrize("around", ANNOUNCED)
def test_a_response_is_taken_out_of_what_stands_around_it(around: str) -> None:
    assert parse_answer(around.replace("{}", GOOD), "stop", "text", 1) == ([GOOD], "")


OWN = [  # some only begin like a refusal; a learner may have no answer
    "The answer is 42: everybody knows.",
    '"Good" soup, they said, and "fresh" bread',
    "«Гарно» і «смачно»",
    "The users' tags: <b>bold</b> and x < 3 > 2",
    "Sure.",
    "The user wants a menu that works.",
    "There are three reasons:\n- the soup\n- the bread\n- the queue",
    "It looks better(:",
    f"{'The solution is long. ' * 20}It is this:",
    "i can't help but love it",
    "As a language teacher I like its dictionary.",
    "I'm sorry, but I can't recommend it.",
    "This product violates every rule of taste.",
    "Es tut mir leid, aber ich kann es nicht empfehlen.",
    "Je suis désolé, mais je ne peux pas le recommander.",
    "Lo siento, pero no puedo recomendarlo.",
    "Sorry, maar ik kan dit niet aanraden.",
    "Tyvärr, jag kan inte rekommendera den.",
    "Maaf, saya tidak bisa memberi lima bintang.",
    "Извините, но я не могу это рекомендовать.",
    "抱歉，我无法推荐这款手机。",
    "죄송하지만 추천하고 싶지 않아요.",
    "I can't answer this question because we never did it in class.",
    "I am not able to complete this sentence",
    "Ich kann diese Frage nicht beantworten",
    "je ne peux pas répondre à cette question",
    "No puedo responder a esta pregunta porque no estudié",
    "Non posso rispondere a questa domanda",
    "我无法回答这个问题",
    "Λυπάμαι, αλλά δεν μπορώ να το συστήσω σε κανέναν.",
    "Sajnos nem tudok jót mondani róla.",
    "Îmi pare rău, dar nu pot recomanda acest produs.",
    "Valitettavasti en voi suositella tätä.",
    "אני מצטערת, אבל אני לא יכולה להמליץ על זה.",
    "متأسفم، نمی‌توانم این گوشی را توصیه کنم.",
    "ขอโทษนะ แต่ฉันแนะนำร้านนี้ไม่ได้",
]


@pytest.mark.parametrize(
    "text",
    [
        "Label: off_topic\nComment: {}",
        "Category: **Off topic**\n\n{}",
        "**Off topic:** {}",
        "[off topic] {}",
        "### Off topic\n\n{}",
        "Off_topic\n\n{}",
        "{}\n\nLabel: off topic",
        "{} (Sentiment: off topic)",
        "| Label | Comment |\n|---|---|\n| off_topic | {} |",
    ],
)
def test_the_label_that_was_asked_for_is_no_part_of_a_response(text: str) -> None:
    assert parse_answer(text.format(GOOD), "stop", "text", 1, "off_topic") == ([GOOD], "")
    lines = f"1. [off topic] {GOOD}\n2. **Off topic:** {GOOD}"
    assert parse_answer(lines, "stop", "lines", 2, "off_topic") == ([GOOD, GOOD], "")


@pytest.mark.parametrize(
    "text", ["No: I never went there.", "No.", "No, and I feel no: nothing at all.", "I said (yes)"]
)
def test_words_of_the_label_that_are_a_responses_own_stay(text: str) -> None:
    assert parse_answer(text, "stop", "text", 1, "no") == ([text], "")


@pytest.mark.parametrize("text", ["* " * 3000, '" ' * 3000, "off topic: " * 1000])
def test_a_model_that_repeats_itself_ends_no_run(text: str) -> None:
    for format in FORMATS:
        responses, fault = parse_answer(text, "stop", format, 2, "off_topic")
        assert bool(responses) == (fault == "")


REFUSALS = [
    "I'm sorry, but I can't assist with that request.",
    "I’m sorry—but I can’t help with that.",
    "Sorry, I can’t help write hateful content.",
    "I'm not going to write a hateful tweet.",
    "Es tut mir leid, aber ich kann Ihnen dabei nicht helfen.",
    "Je suis désolé, mais je ne peux pas vous aider avec cette demande.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "Desculpe, mas não posso ajudar com isso.",
    "Mi dispiace, ma non posso aiutarti con questa richiesta.",
    "Sorry, maar ik kan je daar niet mee helpen.",
    "Przepraszam, ale nie mogę pomóc w tej sprawie.",
    "Извините, но я не могу помочь с этим запросом.",
    "Üzgünüm, bu konuda yardımcı olamam.",
    "Jag är ledsen, men jag kan inte hjälpa till med det.",
    "Beklager, men jeg kan ikke hjelpe med det.",
    "Omlouvám se, ale s tím vám nemohu pomoci.",
    "Вибачте, але я не можу допомогти з цим запитом.",
    "Maaf, saya tidak dapat membantu dengan permintaan itu.",
    "Xin lỗi, tôi không thể giúp bạn với yêu cầu đó.",
    "抱歉，我无法提供这样的内容。",
    "申し訳ありませんが、そのリクエストにはお応えできません。",
    "죄송합니다. 그 요청은 도와드릴 수 없습니다.",
    "عذراً، لا أستطيع مساعدتك في ذلك.",
    "क्षमा करें, मैं इसमें आपकी सहायता नहीं कर सकता।",
    "Λυπάμαι, αλλά δεν μπορώ να βοηθήσω με αυτό το αίτημα.",
    "Sajnálom, de ebben nem tudok segíteni.",
    "Îmi pare rău, dar nu pot să te ajut cu această solicitare.",
    "Olen pahoillani, mutta en voi auttaa tässä.",
    "אני מצטער, אבל אני לא יכול לעזור בבקשה זו.",
    "متأسفم، اما نمی‌توانم در این مورد کمک کنم.",
    "ขออภัย ฉันไม่สามารถช่วยเหลือคำขอนี้ได้",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_known_in_many_languages(text: str) -> None:
    for format in FORMATS:
        assert parse_answer(text, "stop", format, 2) == ([], "refusal")
    assert parse_answer(f'<think>No.</think>"{text}"', "stop", "text", 1) == ([], "refusal")


@pytest.mark.parametrize("text", OWN)
def test_what_is_a_responses_own_stays(text: str) -> None:
    assert read_answer(text, "stop") == (text, "")
    assert parse_answer(text, "stop", "text", 1) == ([" ".join(text.split())], "")
    if "\n" not in text:
        assert parse_answer(text, "stop", "lines", 1) == ([text], "")
        assert parse_answer(f"{GOOD}\n{text}", "stop", "lines", 2) == ([GOOD, text], "")


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        ("", "stop STOP eos end_turn stop_sequence eos_token COMPLETE tool_calls FINISH_REASON_STOP"),
        ("cut_off", "length LENGTH max_tokens MAX_TOKENS model_length max_output_tokens FinishReason.MAX_TOKENS"),
        ("refusal", "content_filter SAFETY RECITATION PROHIBITED_CONTENT BLOCKLIST SPII safety guardrail_intervened"),
        ("refusal", "refusal content_filtered ERROR_TOXIC sensitive IMAGE_SAFETY"),
        ("error", "error abort network_error"),
    ],
)
def test_why_a_model_stopped_has_many_names(fault: str, reasons: str) -> None:
    for reason in reasons.split():
        assert parse_answer(GOOD, reason, "text", 1) == (([], fault) if fault else ([GOOD], "")), reason
        assert parse_answer("", reason, "text", 1) == ([], fault or "empty"), reason
    assert parse_answer(GOOD, "", "text", 1) == ([GOOD], "")
    for format in ("text", "lines"):  # a cut after the turn does not matter
        assert parse_answer(f"{GOOD}<|im_end|>\n<|im_start|>user\nAnother", "length", format, 1) == ([GOOD], "")
        assert parse_answer(f"<think>One.</think>{GOOD[:-5]}", "MAX_TOKENS", format, 1) == ([], "cut_off")


def test_responses_are_read_out_of_the_folder_of_answers(tmp_path: Path) -> None:
    kept = {"sample": 0, "label": "bad", "question": "", "finish_reason": "stop", "format": "text", "responses": 1}
    several = {"id": "b0", "text": "1. first\n2. second", "responses": 3, "format": "lines", "shots": ["h1", "h2"]}
    cut = {"id": "b1", "text": "half a sen", "finish_reason": "length"}
    write_answers(tmp_path, [kept | several, kept | cut])
    write_json(tmp_path / "summary.json", {"answers": 2})
    responses = read_responses(tmp_path)
    assert list(responses) == ["id", "label", "sample", "question", "shots", "text", "fault"]
    assert responses.to_numpy().tolist() == [
        ["b0-1", "bad", 0, "", "h1 h2", "first", ""],
        ["b0-2", "bad", 0, "", "h1 h2", "second", ""],
        ["b1", "bad", 0, "", "", "half a sen", "cut_off"],
    ]
    write_json(tmp_path / "summary.json", {"answers": 3})
    with pytest.raises(DataError, match="holds 2 of 3 answers: run `dvc checkout` or `dvc repro synthesize`"):
        read_responses(tmp_path)
    with pytest.raises(DataError, match=r"summary\.json is missing"):
        read_responses(tmp_path / "none")

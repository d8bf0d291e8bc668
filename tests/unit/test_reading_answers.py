"""What stands around a response, and what stands in its place."""

# ruff: noqa: RUF001

import json

import pytest

from amalgam.synthesis.answers import parse_answer, read_answer
from amalgam.synthesis.grading import parse_grade

GOOD = "The soup was cold, again."

SURROUNDED = {
    "thinking": "<think>\nOkay, one comment.\n\nShort.\n</think>\n\n{}",
    "square brackets": "[THINK]One.[/THINK]{}",
    "tokens of thinking": "<|START_THINKING|>One.<|END_THINKING|><|START_RESPONSE|>{}<|END_RESPONSE|>",
    "channels": "<|channel|>analysis<|message|>One.<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
    "channels whose tokens were dropped": "analysisOne comment is wanted.assistantfinal{}",
    "a wrapped answer": "<think>One.</think>\n<answer>\n{}\n</answer>",
    "the end of a turn": "{}<|im_end|>",
    "another turn with thinking": "{}<end_of_turn>\n<start_of_turn>model\n<think>Two.</think>Too salty.",
    "a turn without tokens": "{}\nUser: Another one.\nAssistant: Too salty.",
    "the beginning of a sequence": "<s>{}</s>",
}


@pytest.mark.parametrize("around", SURROUNDED.values(), ids=SURROUNDED)
def test_what_is_said_is_read_alike_in_all_formats(around: str) -> None:
    assert parse_answer(around.replace("{}", GOOD), "stop", "text", 1) == ([GOOD], "")
    assert parse_answer(around.replace("{}", f"1. {GOOD}\n2. Too salty!"), "stop", "lines", 2)[0][0] == GOOD
    assert parse_answer(around.replace("{}", json.dumps({"response": GOOD})), "stop", "json", 1) == ([GOOD], "")
    assert parse_grade(around.replace("{}", '{"label": "good"}'), ["bad", "good"]) == "good"


@pytest.mark.parametrize("format", ["text", "lines", "json"])
@pytest.mark.parametrize(
    "text",
    [
        "<think>\nOkay, the user wants me to write",
        "<think></think>\n\n<|im_end|>",
        "<|channel|>analysis<|message|>We need a comment.<|end|>",
        "Okay, so the user wants me to write a short comment.",
    ],
)
def test_nothing_but_thinking_has_a_fault_of_its_own(text: str, format: str) -> None:
    assert parse_answer(text, "stop", format, 2) == ([], "thinking")
    assert parse_answer(text, "length", format, 2) == ([], "cut_off")
    assert parse_grade(text, ["bad", "good"]) == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<|im_end|>\n<|im_start|>user\nAnother one.", "empty"),
        ("<|user|>\nWrite.", "empty"),
        ("Here is a comment from a student:", "announcement"),
        ("Sure! Here it is:\n\n", "announcement"),
        ("**Comment:**", "announcement"),
    ],
)
def test_a_turn_of_the_user_and_an_announcement_alone_are_no_response(text: str, fault: str) -> None:
    assert parse_answer(text, "stop", "text", 1) == ([], fault)


ANNOUNCED = [
    "Here is a comment from a student:\n\n{}",
    'Here is a comment from a student:\n\n"{}"',
    "Certainly!\n\n{}",
    "以下是一条评论：\n\n「{}」",
    "**Comment:** {}",
    "The student's comment (negative): {}",
    "评论：{}",
    "```text\n{}\n```\n\nThis comment is negative.",
    '"**Comment:** {}"',
    "{}\n\nLet me know if you'd like another!",
    "{}\n---\nThis comment expresses dissatisfaction.",
    '"{}\n\nNever again."',
]


@pytest.mark.parametrize("around", ANNOUNCED)
def test_a_response_is_taken_out_of_what_stands_around_it(around: str) -> None:
    assert parse_answer(around.replace("{}", GOOD), "stop", "text", 1) == ([GOOD], "")


OWN = [
    "The answer is 42: everybody knows.",
    '"Good" soup, they said, and "fresh" bread',
    "«Гарно» і «смачно»",
    "The users' tags: <b>bold</b> and x < 3 > 2",
    "Sure.",
    "The user wants a menu that works.",
    "There are three reasons:\n- the soup\n- the bread\n- the queue",
    "It looks better(:",
    f"{'The solution is long. ' * 20}It is this:",
]


@pytest.mark.parametrize("text", OWN)
def test_what_is_a_responses_own_stays(text: str) -> None:
    assert parse_answer(text, "stop", "text", 1) == ([" ".join(text.split())], "")
    if "\n" not in text and not text.startswith("-"):
        assert parse_answer(text, "stop", "lines", 1) == ([text], "")


REFUSALS = [
    "I'm sorry, but I can't assist with that request.",
    "Es tut mir leid, aber ich kann Ihnen dabei nicht helfen.",
    "Je suis désolé, mais je ne peux pas vous aider avec cette demande.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "Desculpe, mas não posso ajudar com isso.",
    "Mi dispiace, ma non posso aiutarti con questa richiesta.",
    "Sorry, maar ik kan je daar niet mee helpen.",
    "Przepraszam, ale nie mogę pomóc w tej sprawie.",
    "Извините, но я не могу помочь с этим запросом.",
    "Üzgünüm, bu konuda yardımcı olamam.",
    "抱歉，我无法提供这样的内容。",
    "申し訳ありませんが、そのリクエストにはお応えできません。",
    "죄송합니다. 그 요청은 도와드릴 수 없습니다.",
    "عذراً، لا أستطيع مساعدتك في ذلك.",
    "क्षमा करें, मैं इसमें आपकी सहायता नहीं कर सकता।",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_known_in_many_languages(text: str) -> None:
    for format in ("text", "lines", "json"):
        assert parse_answer(text, "stop", format, 2) == ([], "refusal")
    assert parse_answer(f'<think>No.</think>"{text}"', "stop", "text", 1) == ([], "refusal")


ORDINARY = [
    "i can't help but love it",
    "As a language teacher I like its dictionary.",
    "I'm sorry, but I can't recommend it.",
    "This product violates every rule of taste.",
    "Es tut mir leid, aber ich kann es nicht empfehlen.",
    "Je suis désolé, mais je ne peux pas le recommander.",
    "Lo siento, pero no puedo recomendarlo.",
    "Sorry, maar ik kan dit niet aanraden.",
    "Извините, но я не могу это рекомендовать.",
    "抱歉，我无法推荐这款手机。",
    "죄송하지만 추천하고 싶지 않아요.",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_what_only_begins_like_a_refusal_in_any_language_is_a_response(text: str) -> None:
    assert parse_answer(text, "stop", "text", 1) == ([text], "")
    assert read_answer(text, "stop") == (text, "")
    assert parse_answer(f"{text}\n{GOOD}", "stop", "lines", 2) == ([text, GOOD], "")


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


@pytest.mark.parametrize("format", ["text", "lines"])
def test_what_is_cut_off_behind_the_turn_is_no_matter(format: str) -> None:
    assert parse_answer(f"{GOOD}<|im_end|>\n<|im_start|>user\nAnother", "length", format, 1) == ([GOOD], "")
    assert parse_answer(f"<think>One.</think>{GOOD[:-5]}", "MAX_TOKENS", format, 1) == ([], "cut_off")

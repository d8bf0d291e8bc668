"""What an answer says: without thinking, without control tokens, and without the turns that a model makes up.

Endpoints part the thinking from what is said, stop at the end of a turn, and say why they stopped. Many do so only
half: for a model that they do not know, behind a proxy, or by names of their own.
"""

import re

# Why the model stopped, by parts of the names that endpoints have for it.
_FILTERED = re.compile(
    r"refus|filter|safety|recitation|prohibit|block|spii|guardrail|toxic|moderat|sensitive|policy|violation|language"
)
_CUT_OFF = re.compile(r"length|max\w*tokens|limit|window|truncat|incomplete")
_FAILED = re.compile(r"^error|_error$|abort|insufficient_system|cancel")

_NAMES = (
    r"(?:\w+:)?(?:think(?:ing)?|thoughts?|thought_process|reason(?:ing)?|reflection|analysis|scratchpad|rationale|"
    r"(?:inner_|internal_)?monologue|chain_of_thought|cot|planning|deliberation)"
)
_OPENING = re.compile(
    rf"<\s*{_NAMES}(?:\s[^<>]*)?>|\[think\]|\N{{WHITE LEFT-POINTING TRIANGLE}}think\N{{WHITE RIGHT-POINTING TRIANGLE}}"
    r"|<\|(?:start|begin)_?(?:of_)?(?:thinking|thought)\|>|<\|inner_prefix\|>|<\|channel>\s*\w+",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"<\s*/\s*{_NAMES}\s*>|\[/think\]|\N{{WHITE LEFT-POINTING TRIANGLE}}/think\N{{WHITE RIGHT-POINTING TRIANGLE}}"
    r"|<\|end_?(?:of_)?(?:thinking|thought)\|>|<\|inner_suffix\|>|<channel\|>",
    re.IGNORECASE,
)
# Thinking that lost its marks on the way, and speaks of the request. Narrow: a customer, too, may say "the user".
_BARE_THINKING = re.compile(
    r"(?:(?:okay|ok|alright|so|hmm+|let's see|first)[,.]? )+(?:so,? )?the user (?:wants|asked|asks|is asking|needs)\b"
    r"|the user (?:wants|asked|asks|is asking|needs) me to\b"
    r"|we need to (?:produce|generate|output|craft) (?:\w+ ){0,3}(?:comment|response|answer|review)",
    re.IGNORECASE,
)
# gpt-oss: channels, one of which is what is said; a decoder that drops special tokens leaves their names.
_CHANNEL = re.compile(r"<\|channel\|>")
_FINAL = re.compile(r"<\|channel\|>\s*final\b.*?<\|message\|>", re.DOTALL)
_BARE_CHANNEL = re.compile(r"\s*(?:analysis|commentary)(?:(?=[A-Z\W]).*?assistant\n?final|(?=[A-Z]).*)", re.DOTALL)

_TOKEN = re.compile(
    r"<\|[\w:./ -]{1,40}\|>"
    r"|<\N{FULLWIDTH VERTICAL LINE}[^<>\n]{1,40}\N{FULLWIDTH VERTICAL LINE}>"
    r"|\A\s*<s>|</s>|</?(?:bos|eos|pad|unk|eot)>|</?(?:start|end)_of_(?:turn|utterance|text)>"
    r"|\[/?INST\]|<</?SYS>>|\[(?:BOS|EOS|PAD)\]|<\|turn>|<turn\|>",
    re.IGNORECASE,
)
# Whose turn begins: by the token itself, or by the word behind it.
_OTHERS_TOKEN = re.compile(r"[^\w/]*(?:user|human|system|tool|inst|sys)\W*", re.IGNORECASE)
_OTHERS_TURN = re.compile(r"\s*(?:user|human|system|tool)\b\s*(?::|\n|$)", re.IGNORECASE)
_OWN_TURN = re.compile(r"\s*(?:assistant|model)\b[ \t]*(?::|\n|$)", re.IGNORECASE)
_NEXT_TURN = re.compile(
    r"\n\s*(?:#+ ?|\*\*)?(?:user|human|assistant|system|instructions?)(?:\*\*)?:"
    r"|\n\s*#{2,} ?(?:user|human|instructions?|input|question)\b",
    re.IGNORECASE,
)
_WRAPPED = re.compile(
    r"<(answer|response|output|result|final|final_answer|solution|comment|review|reply|text|message)>(.*?)(?:</\1>|\Z)",
    re.DOTALL | re.IGNORECASE,
)


def read_answer(text: str, finish_reason: str) -> tuple[str, str]:
    """Take out of an answer what it says; it never raises.

    Args:
        text: the answer as it came.
        finish_reason: why the model stopped, by whatever name the endpoint has for it.

    Returns:
        What is said, and what is wrong with the whole of it: `error`, `refusal` (also by a filter), `thinking` (it
        holds nothing else), `cut_off` (the end is missing), or "".
    """
    stopped = _name_reason(finish_reason)
    if "&lt;" in text:  # texts that went through a web page
        text = text.replace("&lt;", "<").replace("&gt;", ">")
    said, is_complete, has_thought = _find_turn(text)
    if stopped == "cut_off" and is_complete:
        stopped = ""  # only what came after its turn was cut off
    if not stopped and has_thought and not said.strip():
        stopped = "thinking"
    return said, stopped


def _name_reason(finish_reason: str) -> str:
    name = finish_reason.casefold()
    kinds = {"refusal": _FILTERED, "cut_off": _CUT_OFF, "error": _FAILED}
    return next((kind for kind, pattern in kinds.items() if pattern.search(name)), "")


def _find_turn(text: str) -> tuple[str, bool, bool]:
    """Return what the model's first turn says, whether the turn came to its end, and whether there was thinking."""
    has_thought = False
    if _CHANNEL.search(text):
        final = _FINAL.search(text)
        has_thought = True
        text = text[final.end() :] if final else ""
    elif bare := _BARE_CHANNEL.match(text):
        has_thought = True
        text = text[bare.end() :]
    text = _CLOSING.sub("</think>", _OPENING.sub("<think>", text))
    tokens = [*_TOKEN.finditer(text)]
    starts = [0, *(token.end() for token in tokens)]
    ends = [*(token.start() for token in tokens), len(text)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        part = text[start:end]
        if number:
            if _OTHERS_TOKEN.fullmatch(tokens[number - 1][0]) or _OTHERS_TURN.match(part):
                break
            part = _OWN_TURN.sub("", part, count=1) if _OWN_TURN.match(part) else part
        said, thought = _drop_thinking(part)
        has_thought |= thought
        if said.strip():
            following = _NEXT_TURN.search(said.rstrip())
            said = said[: following.start()] if following else said
            wrapped = [found[2] for found in _WRAPPED.finditer(said)]
            is_complete = number < len(tokens) or following is not None
            return ("\n\n".join(wrapped) if wrapped else said), is_complete, has_thought
    return "", False, has_thought


def _drop_thinking(text: str) -> tuple[str, bool]:
    """Return what stands behind all thinking, "" where that does not end, and whether there was any."""
    _, closed, said = text.rpartition("</think>")
    if "<think>" in said or (not closed and _BARE_THINKING.match(text.lstrip())):
        return "", True
    return said, bool(closed)

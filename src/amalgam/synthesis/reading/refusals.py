"""Refusals: a narrow list of how models say that they will not write what was asked for.

Narrow on purpose: a response may well begin with "I'm sorry, but I can't recommend it" or "I can't help but wonder". So
each form names what is refused (help, the request, a text of some kind), not only that somebody cannot do something.
What the list does not know, an endpoint may still say by its finish reason.
"""
# ruff: noqa: RUF001

import re

_GAP = r"[^.!?\n]{0,40}?"
_THING = (
    r"(?:comment|content|response|review|text|request|answer|statement|message|example|feedback|material|language|"
    r"sentence|post|tweet|query|question|prompt|topic)s?"
)
_ENGLISH = (
    r"(?:(?:unfortunately|regrettably),? )?"
    r"(?:(?:i.?m |i am )?(?:very |so |really |truly )?(?:sorry|afraid)[,.;:]?(?: but)? |"
    r"i apologi[sz]e[,.;:]?(?: but)? |(?:my )?apologies[,.;:]?(?: but)? )?"
)
_ENGLISH_CANNOT = (
    r"(?:that )?(?:i(?: am|.?m)?|we(?: are|.?re)?) (?:just |simply |currently )?"
    r"(?:can.?t|cannot|can not|unable to|not able to|won.?t(?: be able to)?|will not(?: be able to)?|"
    r"(?:not allowed|not permitted) to|(?:must|have to) (?:respectfully |politely )?(?:decline|refuse) to)"
)
_WRITE = r"(?:write|provide|create|generate|produce|compose|draft|craft|offer|share)"
_AI = (
    r"an? (?:artificial intelligence|ai|(?:large )?language model|(?:ai |virtual |digital )assistant|chatbot)"
    r"(?= ?[,.;:]|,? i\b| (?:\w+ )?(?:language|model|assistant|system|chatbot|program)\b|"
    r" (?:developed|created|trained|designed|made)\b)"
)
_FORMS = (
    # English
    rf"{_ENGLISH}{_ENGLISH_CANNOT} (?:assist|comply|fulfil|help (?:you )?with|"
    rf"(?:engage|participate) (?:in|with) (?:this|that|such)|(?:respond|reply) to (?:this|that|your|such)|"
    rf"(?:answer|continue|complete|support|discuss) (?:this|that|your|the|such an?|such) (?:\w+ ){{0,2}}(?:{_THING}|"
    rf"conversation|discussion)\b|{_WRITE} (?:that|this|(?:\w+ ){{0,4}}{_THING})\b)",
    rf"{_ENGLISH}{_ENGLISH_CANNOT} do (?:that|this)[.!]*$",
    rf"{_ENGLISH}i (?:must|have to|need to|respectfully) (?:respectfully |politely )?(?:decline|refuse)"
    rf"(?: (?:this|that|your|the) request\b|[.!]*$)",
    rf"{_ENGLISH}i(?: am|.?m| do|.?d| would)?(?: not|n.?t)? (?:feel )?(?:comfortable|rather not|prefer not to) "
    rf"(?:{_WRITE}|writing|providing|creating|generating|producing|composing) (?:that|this|(?:\w+ ){{0,4}}{_THING})\b",
    rf"{_ENGLISH}(?:this|that|your|the) (?:request|prompt|topic|content) (?:violates|goes against|conflicts with|"
    rf"is against|falls outside) ",
    rf"{_ENGLISH}it(?: is not|.?s not| isn.?t| would not be| wouldn.?t be| would be in| is in) ?appropriate "
    rf"for me to {_WRITE}",
    rf"{_ENGLISH}it(?: is|.?s) against my (?:programming|guidelines|policy|policies)",
    rf"{_ENGLISH}(?:as|being|i am(?: just| only)?|i.?m(?: just| only)?) {_AI}",
    # German
    rf"(?:(?:es )?tut mir (?:sehr |wirklich )?leid|entschuldigung|leider|verzeihung|ich bedaure)?[,.;:]? ?"
    rf"(?:(?:aber|doch|dass) )?(?:ich kann|kann ich|ich darf|darf ich|ich werde|ich bin nicht in der lage)\b"
    rf"(?:{_GAP}(?:dir|ihnen|euch|dabei|damit|hierbei)\b{_GAP}\bnicht (?:weiter)?helfen|"
    rf"{_GAP}\b(?:dies\w*|ihre[rnm]?|deine[rnm]?|solche\w*|ein\w*|kein\w*)\b(?=[^.!?\n]*\b(?:nicht|kein\w*)\b)?{_GAP}"
    rf"\b(?:anfrage|bitte|aufforderung|inhalte?|kommentare?|texte?|antwort(?:en)?|bewertung(?:en)?)\b{_GAP}"
    rf"\b(?:nachkommen|entsprechen|erfüllen|schreiben|erstellen|verfassen|generieren|beantworten|bereitstellen)\b|"
    rf" (?:das|dies) (?:leider )?nicht (?:schreiben|verfassen|erstellen)\b)",
    r"(?:als|ich bin(?: nur)?) (?:eine? )?(?:ki|künstliche intelligenz|(?:großes )?sprachmodell)\b",
    # French
    rf"(?:(?:je suis )?(?:vraiment )?désolée?|malheureusement|je regrette|je m.excuse|toutes mes excuses)?[,.;:]? ?"
    rf"(?:mais )?je (?:ne (?:peux|suis pas|pourrai|saurais)|refuse)\b{_GAP}(?:\b(?:vous|t.) ?aider\b|"
    rf"\b(?:répondre|accéder|donner suite) à (?:cette|votre|ta)\b|\bsatisfaire\b|"
    rf"\b(?:écrire|rédiger|créer|générer|produire|fournir)\b{_GAP}\b(?:contenus?|commentaires?|réponses?|textes?|avis|"
    rf"critiques?|messages?|cela|ça)\b)",
    r"en tant qu.(?:ia|intelligence artificielle|assistant|modèle de langage)\b",
    # Spanish
    rf"(?:lo siento(?: mucho)?|lo lamento|disculpa|perdón|lamentablemente|desafortunadamente)?[,.;:]? ?(?:pero )?"
    rf"(?:no (?:puedo|podré|me es posible)|no (?:estoy|soy) capaz de)\b{_GAP}(?:\bayudarte\b|\bayudarle\b|"
    rf"\bayudar(?:te|le)? (?:con|en) (?:eso|esto|esa|esta|tu|su)\b|\b(?:cumplir|responder|atender|satisfacer)\b{_GAP}"
    rf"\b(?:solicitud|petición|pregunta)\b|\b(?:escribir|crear|generar|proporcionar|redactar|producir|ofrecer)\b{_GAP}"
    rf"\b(?:contenidos?|comentarios?|respuestas?|textos?|reseñas?|mensajes?|eso|esto)\b)",
    r"como (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje)\b",
    # Portuguese
    rf"(?:desculpe|desculpa|sinto muito|lamento|infelizmente)?[,.;:]? ?(?:mas )?(?:eu )?"
    rf"(?:não (?:posso|poderei|consigo)|não sou capaz de)\b{_GAP}(?:\bajudá-l[oa]\b|\bajudar(?:-te)? com "
    rf"(?:isso|isto|ess[ae]|est[ae])\b|\b(?:atender|cumprir|responder)\b{_GAP}\b(?:solicitação|pedido|pergunta)\b|"
    rf"\b(?:escrever|criar|gerar|fornecer|produzir|oferecer)\b{_GAP}\b(?:conteúdos?|comentários?|respostas?|textos?|"
    rf"avaliaç(?:ão|ões)|mensage(?:m|ns)|isso|isto)\b)",
    r"como (?:uma? )?(?:ia|inteligência artificial|modelo de linguagem)\b",
    # Italian
    rf"(?:mi (?:dispiace|spiace)|spiacente|purtroppo|mi scuso|scusa)?[,.;:]? ?(?:ma )?"
    rf"(?:non (?:posso|potrò)|non sono in grado di)\b{_GAP}(?:\baiutart[ie]\b|\baiutarl[ao]\b|\bassistert[ie]\b|"
    rf"\b(?:soddisfare|rispondere|esaudire)\b{_GAP}\b(?:richiesta|domanda)\b|"
    rf"\b(?:scrivere|creare|generare|fornire|produrre)\b{_GAP}\b(?:contenut[oi]|comment[oi]|rispost[ae]|test[oi]|"
    rf"recension[ei]|messagg[io]+|questo|ciò)\b)",
    r"(?:come|in quanto) (?:una? )?(?:ia|intelligenza artificiale|modello linguistico)\b",
    # Dutch
    rf"(?:het spijt me|sorry|helaas|excuses)?[,.;:]? ?(?:maar )?(?:ik kan|kan ik)\b{_GAP}(?:\b(?:je|u|jou|hiermee|"
    rf"daarmee|daarbij|hierbij)\b{_GAP}\bniet\b{_GAP}\bhelpen\b|\b(?:verzoek|inhoud|reacties?|tekst)\b{_GAP}"
    rf"\bniet\b{_GAP}\b(?:voldoen|schrijven|maken|genereren)\b)",
    # Polish, Russian, Turkish
    rf"(?:przepraszam|przykro mi|niestety)[,.;:]? ?(?:ale )?nie (?:mogę|jestem w stanie)\b{_GAP}\b(?:pomóc|spełnić|"
    rf"napisać|wygenerować|stworzyć|odpowiedzieć)\b",
    rf"(?:извини(?:те)?|прости(?:те)?|к сожалению|прошу прощения|мне (?:очень )?жаль)[,.;:]? ?(?:но )?(?:я )?"
    rf"не (?:могу|в состоянии|имею возможности)\b{_GAP}\b(?:помочь|выполнить|ответить на|написать|создать|"
    rf"предоставить|сгенерировать)\b",
    r"(?:я не могу (?:вам |тебе )?(?:с этим )?помочь|как (?:ии|искусственный интеллект|языковая модель))\b",
    rf"(?:üzgünüm|maalesef|özür dilerim)[,.;:]? ?{_GAP}\b(?:yardımcı olam|yazam|oluşturam|yerine getirem)\w*",
    # Chinese, Japanese, Korean
    r"(?:(?:非常|很|十分)?(?:抱歉|遗憾|遺憾)|对不起|對不起|不好意思)[,。!;\s]*(?:但是?)?我?(?:们|們)?(?:无法|無法|不能|"
    r"没办法|沒辦法|不可以)[^。!?\n]{0,12}?(?:帮助|幫助|帮你|帮您|协助|協助|提供|满足|滿足|完成|回答|回应|回應|生成|撰写|撰寫|"
    r"编写|創作|创作|处理|處理|讨论|討論|继续|繼續|写这|写此|写出)",
    r"我?(?:无法|無法|不能)(?:提供|满足|滿足|协助|協助|生成|回答)(?:这|這|此|您|你|该|該|相关|相關)",
    r"(?:作为|作為|身为)(?:一(?:个|個|名|款))?(?:ai|人工智能|人工智慧|语言模型|語言模型|大(?:型)?语言模型)",
    r"(?:申し訳(?:ござい|あり)ません|申し訳ない|すみません|ごめんなさい|恐れ入ります|残念ながら)[^。!?\n]{0,3}[、。,.]?[^。!?\n]{0,40}?"
    r"(?:手伝い|お?応え|お?答え|応じ|対応|提供|作成|生成|支援|力になる)[^。!?\n]{0,10}?(?:できません|出来ません|できかねます|"
    r"かねます|いたしかねます|られません)(?!でし|と)",
    r"(?:죄송합니다|죄송하지만|미안하지만|미안합니다|유감스럽게도)[^.!?\n]{0,3}[.,]?[^.!?\n]{0,40}?"
    r"(?:도와|도움|제공|작성|생성|응답|답변|수행)[^.!?\n]{0,10}?(?:수 없|수는 없|어렵습니다|불가)",
    # Arabic, Hindi
    rf"(?:عذر\w*|آسف\w*|أعتذر|للأسف|معذرة)[،,. ]*{_GAP}(?:لا أستطيع|لا يمكنني|لا أقدر|لن أتمكن)\b{_GAP}"
    rf"(?:مساعد|تقديم|كتابة|إنشاء|تلبية)",
    r"(?:माफ़? ?की(?:जिए|जिएगा)|क्षमा करें|मुझे (?:खेद|माफ़ करें)|खेद है)[^।\n]{0,60}(?:सहायता|मदद|लिख|प्रदान|उत्तर)[^।\n]{0,20}"
    r"(?:नहीं|असमर्थ)",
)
_REFUSAL = re.compile("|".join(f"(?:{form})" for form in _FORMS), re.IGNORECASE)
_FULL_WIDTH = str.maketrans("\N{FULLWIDTH COMMA}\N{FULLWIDTH EXCLAMATION MARK}\N{FULLWIDTH SEMICOLON}", ",!;")


def is_refusal(text: str) -> bool:
    """Say whether a text, cleaned, is a refusal in one of the known forms."""
    return _REFUSAL.match(text.translate(_FULL_WIDTH)) is not None

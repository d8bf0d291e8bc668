"""A task on which every stage takes seconds: invented comments on a bakery, and an encoder with random weights."""

import random
from pathlib import Path

import pandas as pd

LABELS = ("complaint", "praise")
# Parts of a comment, separated by comma and blank; so many that two comments are hardly ever near-duplicates.
_OPENINGS = "To be honest, As a regular, With two children, For the third time, Like everybody here, By pure chance"
_NOUNS = (
    "rye bread, croissant, apple tart, coffee, cheese roll, almond cake, baguette, window table, young waiter, "
    "morning queue, lemon pie, oat cookie, bread basket, plum jam, breakfast plate, hot chocolate, walnut loaf, "
    "paper bag, corner seat, cinnamon bun, lunch menu, card machine, terrace, pear crumble, seed roll"
)
_TIMES = (
    "on Monday, last week, before noon, this spring, twice now, on my birthday, at closing time, in the rain, "
    "after the concert, on the first visit, all summer, during the holidays, yesterday, an hour before work"
)
_ADJECTIVES = {
    "complaint": "stale, burnt, overpriced, cold, soggy, rude, dirty, tiny, bitter, broken, greasy, slow",
    "praise": "fresh, crisp, lovely, warm, generous, friendly, spotless, huge, sweet, perfect, light, quick",
}
_ENDS = {
    "complaint": (
        "I asked for my money back, nobody said sorry, half of it went into the bin, we left without paying a tip, "
        "my stomach hurt for hours, the manager only shrugged, we waited forty minutes, I will warn my neighbours, "
        "it tasted of old oil, the receipt was wrong again"
    ),
    "praise": (
        "I came back the next day, everyone smiled at us, my daughter asked for another, we stayed until the evening, "
        "it was worth every cent, the owner gave us a sample, I told all of my friends, nothing was left on the plate, "
        "it smelled like my grandmother's kitchen, the service could not be better"
    ),
}

_TASK = """\
name: toy
title: Does a guest's comment praise or criticise the bakery?
response: guest comment
licence: CC0-1.0
citation: Invented for a test.
ordinal: false
scenarios:
  - A guest of a small bakery was asked how it was.
labels:
  - name: complaint
    definition: The comment criticises something.
    examples: [the rolls were stale and nobody cared.]
    personas: [a guest in a hurry, a disappointed regular]
  - name: praise
    definition: The comment praises something.
    examples: [the rolls were fresh and everyone smiled.]
    personas: [a happy guest, a tourist]
source:
  kind: file
  files: [responses.csv]
  obtain: write the file
columns:
  group: guest
  raters: [first, second]
"""


def write_comment(label: str, draw: random.Random) -> str:
    """Draw one of some hundred thousand comments that are typical of a label."""
    parts = (_OPENINGS, _NOUNS, _ADJECTIVES[label], _TIMES, _ENDS[label])
    opening, noun, adjective, time, end = (draw.choice(part.split(", ")) for part in parts)
    return f"{opening}, I found the {noun} {adjective} {time}, and {end}."


def guess_label(text: str) -> str:
    """Return the label whose words occur in a text, or the first where none does."""
    hits = {label: sum(end in text for end in ends.split(", ")) for label, ends in _ENDS.items()}
    return max(LABELS, key=hits.__getitem__)


def make_rows(count: int) -> list[dict[str, str]]:
    """Draw coded rows: two guests in three wrote two comments, and two raters mostly agree."""
    draw = random.Random("rows")
    rows = []
    for number in range(count):
        label = LABELS[number % 2]
        first, second = (label if draw.random() < 0.9 else draw.choice(LABELS) for _ in range(2))
        row = {"id": f"c{number:03d}", "guest": f"g{number * 2 // 3:03d}", "text": write_comment(label, draw)}
        rows.append(row | {"label": label, "first": first, "second": second})
    return rows


def write_task(folder: Path) -> None:
    """Write the task's folder: task.yaml and responses.csv with 160 rows."""
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(_TASK, encoding="utf-8")
    pd.DataFrame(make_rows(160)).to_csv(folder / "responses.csv", index=False, lineterminator="\n")


def write_encoder(folder: Path) -> None:
    """Write a BERT of two layers with seeded weights, most of them random, with the toy task's words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    draw = random.Random("words")
    texts = [write_comment(label, draw) for label in LABELS for _ in range(300)]
    words = sorted({word for text in texts for word in text.lower().replace(",", " ").replace(".", " ").split()})
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = list(dict.fromkeys([*pieces, *words]))
    tokenizer = BertTokenizer(vocab={piece: number for number, piece in enumerate(vocabulary)}, model_max_length=64)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **sizes)
    torch.manual_seed(0)
    model = BertModel(config)
    # As in a trained encoder, words of one kind are close together; a teacher does not change the word embeddings.
    for label, shift in zip(LABELS, (-0.04, 0.04), strict=True):
        for word in _ADJECTIVES[label].split(", "):
            model.embeddings.word_embeddings.weight.data[vocabulary.index(word), ::2] += shift
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

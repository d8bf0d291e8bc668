"""What the tests of training share: settings under which a tiny encoder learns the toy comments in a second."""

from amalgam.params import Distillation, Teacher

TEACHER = Teacher(
    model="toy",
    max_length=24,
    learning_rate=5e-3,
    batch_size=8,
    steps=60,
    warmup=0.1,
    weight_decay=0.01,
    evaluate_every=20,
    patience=9,
    train_embeddings=True,
    pooling="cls",
    head="random",
    order="joint",
    human_weight=1.0,
    synthetic_weights="none",
    soft_labels=0.0,
    class_weights=False,
    blend=False,
    guard=False,
    guard_folds=3,
    ensemble=False,
)
DISTILLATION = Distillation(
    student="layers",
    layers=1,
    temperature=2.0,
    alpha=0.75,
    hidden=0.0,
    relations=0.0,
    left_out=100,
    learning_rate=3e-3,
    batch_size=8,
    steps=30,
    warmup=0.1,
    weight_decay=0.0,
    evaluate_every=10,
    patience=9,
    train_embeddings=True,
)

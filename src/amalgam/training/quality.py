"""The dial `quality` of params.yaml: what its keys mean that are null, from small and fast to large and good.

A value that the file gives always wins. Nothing but this fills a key in, so the rest of the code sees values alone. The
layers of the `best` student alone stay null: the size of its transfer set decides (`student.choose_depth`).
"""

from typing import Any, Literal

Quality = Literal["best", "whole", "small", "fast"]
_MPNET = {"teacher.model": "all-mpnet-base-v2", "teacher.trained_layers": 6}
_MINILM = {"teacher.model": "all-minilm-l6-v2", "teacher.trained_layers": 6}
_OWN = {"distillation.student": "layers"}
_SMALL = {"distillation.layers": 4, "distillation.trained_layers": 4}
# By dotted key. A stage that reads one of them lists `quality` among its params in dvc.yaml.
PRESETS: dict[Quality, dict[str, Any]] = {
    "best": _MPNET | _OWN | {"distillation.layers": None, "distillation.trained_layers": None},
    "whole": _MPNET | _OWN | {"distillation.layers": 12, "distillation.trained_layers": 6},
    "small": _MPNET | {"distillation.student": "all-minilm-l6-v2"} | _SMALL,
    "fast": _MINILM | _OWN | _SMALL,
}


def fill_in(values: Any) -> Any:
    """Return what params.yaml holds with the preset's values in place of null; what is wrong in it stays as it is.

    An unknown `quality` counts as `best`, so that the check of the values finds that one fault and none that follows.
    """
    if not isinstance(values, dict):
        return values
    preset = next((keys for name, keys in PRESETS.items() if name == values.get("quality")), PRESETS["best"])
    filled = {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
    for key, value in preset.items():
        section, name = key.split(".")
        keys = filled.get(section)
        if isinstance(keys, dict) and name in keys and keys[name] is None:
            keys[name] = value
    return filled

"""YAML whose scalars are all text, and whose keys are there once."""

from typing import Any

import yaml


class DoubledKeyError(yaml.MarkedYAMLError):
    """A key stands twice in one mapping."""


class TextLoader(yaml.BaseLoader):
    """Reads every scalar as text, and refuses a doubled key, of which YAML would take the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping."""
        keys = set()
        for key, _ in node.value:
            if key.value in keys:
                raise DoubledKeyError(problem=f"the key `{key.value}` stands there twice", problem_mark=key.start_mark)
            keys.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)

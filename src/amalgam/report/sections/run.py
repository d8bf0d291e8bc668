"""What exactly was run."""

from typing import Any

from amalgam.report.content import Content
from amalgam.report.tables.run import tabulate_pairs


def build_run(content: Content) -> dict[str, Any]:
    """Collect params, base models, hashes of inputs and versions."""
    tables = [tabulate_pairs("Params that the results depend on", "Key", "Value", content.params)]
    tables += [tabulate_pairs(role, "Key", "Value", values) for role, values in content.base_models.items()]
    if content.inputs:
        tables.append(tabulate_pairs("Files that decide the results", "File", "SHA-256", content.inputs))
    if content.versions:
        tables.append(tabulate_pairs("Versions where this page was written", "Package", "Version", content.versions))
    return {"tables": tables}

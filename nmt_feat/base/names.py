"""Names of classes as settings and tables write them."""

import re


def to_snake_case(class_name: str) -> str:
    """The name of a method in settings and tables: `WordGate` is word_gate, `DME` is dme."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name).lower()

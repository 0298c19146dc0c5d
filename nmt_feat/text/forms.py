"""Where the forms of words stand in the text that they make up."""

from __future__ import annotations

from collections.abc import Sequence

from nmt_feat.errors import UserError, short_repr


def locate_forms(forms: Sequence[str], text: str, where: str, hint: str) -> list[tuple[int, int]]:
    """The span of each form in a text, which consists of the forms and white space.

    Args:
        forms: the forms, in order; their white space may differ from the text's.
        text: the text.
        where: begins the `UserError` if the forms do not make up the text.
        hint: ends it.
    """
    spans, behind = [], 0
    for form in forms:  # the usual case: only white space between the forms
        start = text.find(form, behind)
        if start < 0 or text[behind:start].strip() or form != form.strip():
            break
        spans.append((start, behind := start + len(form)))
    else:
        if not text[behind:].strip():
            return spans
    # White space inside of forms: compare without it.
    positions = [i for i, character in enumerate(text) if not character.isspace()]
    without_space = "".join(text[i] for i in positions)
    spans, count = [], 0  # of characters so far
    for form in forms:
        characters = "".join(form.split())
        if not without_space.startswith(characters, count):
            start = positions[count] if count < len(positions) else len(text)
            problem = f"{short_repr(form)} is not at character {start} ({text[start:][:20]!r} ...)"
            raise UserError(f"{where}: {problem}; {hint}")
        spans.append((positions[count], positions[count + len(characters) - 1] + 1))
        count += len(characters)
    if count < len(positions):
        start = positions[count]
        problem = f"no word covers {text[start:][:20]!r} at character {start}"
        raise UserError(f"{where}: {problem}; {hint}")
    return spans

"""Draw the pictures of README and docs: how a word and its features become one vector, and where
features enter the model.

python tools/draw_picture.py            # writes docs/images/{combine,methods}-{light,dark}.svg
python tools/draw_picture.py --check    # exit with 1 if the files are not what it would write
"""

import argparse
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
WIDTH, HEIGHT = 784, 236
ROWS = {  # the name of each row, and its values for the four words
    "word": ("I", "saw", "her", "duck"),
    "upos": ("PRON", "VERB", "PRON", "VERB"),
    "deprel": ("nsubj", "root", "obj", "xcomp"),
}
METHODS = ("concat", "add", "average", "gate", "yours")
STAGES = {  # stages of the model, with the methods that bring in features there
    "source": ("interleave",),
    "embedding": ("embedding", "(a combiner)"),
    "encoder": ("tree_attention", "tree_distance"),
    "its output": ("output_gate", "encoders_concat", "encoders_sum"),
    "decoder": ("encoders_serial", "encoders_parallel"),
}
PREDICTING = "multitask"  # the method that predicts features from the encoder's output
CELLS = 6  # in the drawing of a vector
THEMES = {
    "light": {
        "text": "#1f2328",
        "faint": "#656d76",
        "line": "#8c959f",
        "word": "#0969da",
        "upos": "#bf8700",
        "deprel": "#1a7f37",
        "merged": "#8250df",
        "box": "#f6f8fa",
    },
    "dark": {
        "text": "#e6edf3",
        "faint": "#9198a1",
        "line": "#6e7681",
        "word": "#4493f8",
        "upos": "#d29922",
        "deprel": "#3fb950",
        "merged": "#ab7df8",
        "box": "#21262d",
    },
}


def write_text(x: float, y: float, text: str, fill: str, style: str = "") -> str:
    """Text that begins at `x`, or that `style` anchors there."""
    return f'<text x="{x}" y="{y}" fill="{fill}" {style}>{text}</text>'


def draw_vector(x: float, y: float, fill: str) -> str:
    """Cells side by side, each with another opacity, so that they look like numbers."""
    return "".join(
        f'<rect x="{x + 13 * i}" y="{y}" width="11" height="18" rx="2" fill="{fill}" '
        f'fill-opacity="{0.35 + 0.6 * ((i * 5 + len(fill) + int(y)) % 7) / 6:.2f}"/>'
        for i in range(CELLS)
    )


def draw_arrow(x: float, y: float, end_x: float, end_y: float, stroke: str) -> str:
    """A curve from left to right with a head."""
    middle = (x + end_x) / 2
    return (
        f'<path d="M{x} {y} C{middle} {y} {middle} {end_y} {end_x} {end_y}" fill="none" '
        f'stroke="{stroke}" stroke-width="1.5"/><path d="M{end_x} {end_y - 4} l7 4 l-7 4 z" '
        f'fill="{stroke}"/>'
    )


def draw_box(x: float, y: float, width: float, height: float, colors: dict[str, str]) -> str:
    """A rounded box."""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{colors["box"]}" '
        f'stroke="{colors["line"]}"/>'
    )


def draw(colors: dict[str, str]) -> str:
    """The picture: the annotated sentence, the vectors of its last word, the combiner."""
    middle = 'text-anchor="middle"'
    small = 'font-size="12"'
    parts = [write_text(0, 24, "What is known about each word", colors["faint"], small)]
    parts.append(
        write_text(
            314, 24, "embeddings of <tspan font-style='italic'>duck</tspan>", colors["faint"], small
        )
    )
    for number, (name, values) in enumerate(ROWS.items()):
        y = 68 + 56 * number
        color = colors[name]
        parts.append(write_text(0, y, name, color, 'font-weight="600"'))
        for column, value in enumerate(values):
            weight = 'font-weight="600"' if column == 3 else ""
            fill = color if column == 3 else colors["text"]
            parts.append(write_text(88 + 53 * column, y, value, fill, f"{middle} {weight}"))
        parts.append(draw_arrow(284, y - 5, 301, y - 5, colors["line"]))
        parts.append(draw_vector(314, y - 14, color))
        parts.append(draw_arrow(396, y - 5, 437, 119 + 14 * (number - 1), colors["line"]))
    parts.append(draw_box(446, 54, 96, 130, colors))
    parts.append(write_text(494, 46, "combiner", colors["text"], f'{middle} font-weight="600"'))
    for number, method in enumerate(METHODS):
        style = f'{middle} font-size="13"'
        if method == "yours":
            style += ' font-style="italic"'
        parts.append(write_text(494, 79 + 23 * number, method, colors["text"], style))
    parts.append(draw_arrow(542, 119, 559, 119, colors["line"]))
    parts.append(draw_vector(572, 110, colors["merged"]))
    parts.append(write_text(610, 150, "one vector", colors["faint"], f"{middle} {small}"))
    parts.append(draw_arrow(652, 119, 667, 119, colors["line"]))
    parts.append(draw_box(676, 96, 104, 46, colors))
    parts.append(write_text(728, 124, "Transformer", colors["text"], middle))
    parts.append(
        write_text(782, 218, "Ich sah sie sich ducken.", colors["text"], 'text-anchor="end"')
    )
    parts.append(
        f'<path d="M728 142 V190" stroke="{colors["line"]}" stroke-width="1.5"/>'
        f'<path d="M724 190 l4 7 l4 -7 z" fill="{colors["line"]}"/>'
    )
    parts.append(
        write_text(
            0, 218, "Tagged as a noun, it would be: Ich sah ihre Ente.", colors["faint"], small
        )
    )
    title = "A word and its features become one vector, which the Transformer reads"
    return frame_picture(parts, HEIGHT, title)


def draw_methods(colors: dict[str, str]) -> str:
    """The model from left to right, and below each stage the methods that bring features there."""
    middle, step, width = 'text-anchor="middle"', 158, 118
    parts = []
    for number, (stage, methods) in enumerate(STAGES.items()):
        x = 4 + step * number
        center = x + width / 2
        parts.append(draw_box(x, 70, width, 44, colors))
        parts.append(write_text(center, 97, stage, colors["text"], middle))
        if number:
            parts.append(draw_arrow(x - step + width, 92, x - 8, 92, colors["line"]))
        parts.append(draw_pointer(center, 140, 121, colors["upos"]))
        for line, method in enumerate(methods):
            style = f'{middle} font-size="13"'
            parts.append(write_text(center, 160 + 20 * line, method, colors["upos"], style))
        if stage == "its output":
            parts.append(draw_pointer(center, 64, 45, colors["merged"]))
            style = f'{middle} font-size="13"'
            parts.append(write_text(center, 32, PREDICTING, colors["merged"], style))
    return frame_picture(parts, 210, "Where each method lets features in, or predicts them")


def draw_pointer(x: float, y: float, end_y: float, stroke: str) -> str:
    """An arrow that points up."""
    return (
        f'<path d="M{x} {y} V{end_y}" stroke="{stroke}" stroke-width="1.5"/>'
        f'<path d="M{x - 4} {end_y} l4 -7 l4 7 z" fill="{stroke}"/>'
    )


def frame_picture(parts: list[str], height: int, title: str) -> str:
    """The file of a picture."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" '
        f'font-size="15"><title>{title}</title>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="do not write, exit with 1 if stale")
    is_check = parser.parse_args().check
    pictures = {
        FOLDER / f"{name}-{theme}.svg": draw_one(colors)
        for theme, colors in THEMES.items()
        for name, draw_one in (("combine", draw), ("methods", draw_methods))
    }
    for path, picture in pictures.items():
        if not is_check:
            path.write_text(picture, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != picture:
            print(f"{path.name} is stale: run python tools/draw_picture.py", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

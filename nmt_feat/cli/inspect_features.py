"""What features tell: bits, bits given the word, advice, and sentences with their values.

nmt-feat inspect 'features=[upos,deprel]' combiner=gate
nmt-feat inspect data=multi30k annotator=hanta 'features=[upos]' --page page.md

Takes the settings of train.py, and its --config-dir. The data is prepared as for training, or comes
from the cache.
"""

from rich.console import Console

from nmt_feat.base.outputs import check_output, write_to
from nmt_feat.base.terminal import TextConsole, TextTable, literal, say
from nmt_feat.cli.compose import compose_settings
from nmt_feat.cli.texts import make_parser
from nmt_feat.config.method_choice import build_method, locate_method
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.corpora import list_named_files
from nmt_feat.data.prepare import Prepared
from nmt_feat.runs.advice import advise_on_run
from nmt_feat.runs.setup.build_model import build_run_combiner
from nmt_feat.runs.setup.resolve import resolve_settings


def name_tokens(prepared: Prepared) -> dict[str, list[str]]:
    """By feature, what to show for each of its ids in dev: a value, or the units of a token."""
    vocabularies, names_of = prepared.encoder.features, {}
    for name, kind in prepared.encoder.valued_kinds.items():
        names = kind.name_tokens(vocabularies[name], prepared.dev.list_units(name))
        if names is not None:
            names_of[name] = ["<pad>", "<unk>", "<end>", *names]
    return names_of


def name_inserted_tokens(cfg: TrainConfig, prepared: Prepared) -> list[str]:
    """What to show for the tokens that the method adds to the source, by id behind the pieces."""
    sizes = prepared.encoder.id_counts
    if not locate_method(cfg.method).in_source:
        return []
    method = build_method(cfg.method, cfg.model.dim, sizes)
    names = method.name_tokens(prepared.encoder.name_values())
    return names or [f"<tag {number}>" for number in range(method.count_tokens(sizes))]


def tabulate_sentence(
    prepared: Prepared, names_of: dict[str, list[str]], tags: list[str], i: int
) -> TextTable:
    """The pieces of a sentence of dev, a row each, and the names of their values.

    `tags`: see `name_inserted_tokens`.
    """
    split, subwords = prepared.dev, prepared.encoder.subwords

    def name_piece(piece: int) -> str:
        if piece >= subwords.size:
            return tags[piece - subwords.size]
        return subwords.decode([piece]) or "▁"

    table = TextTable("piece", *names_of, box=None, pad_edge=False)
    start, end = split.source.offsets[i : i + 2]
    columns = [list(map(name_piece, split.source.row(i)[:-1].tolist()))]
    for name, names in names_of.items():
        columns.append([names[id] for id in split.features[name][start : end - 1].tolist()])
    for row in zip(*columns, strict=True):
        table.add_row(*row)
    return table


def print_features(cfg: TrainConfig, prepared: Prepared, examples: int, console: Console) -> None:
    """Print the report, the advice and the examples."""
    console.print(prepared.report)
    widths = build_run_combiner(cfg, prepared.encoder.id_counts).widths
    for line in advise_on_run(cfg, prepared.report, widths):
        console.print(literal(f"- {line}"))
    count = min(examples, len(prepared.dev))
    if count < 1:
        return
    console.print()
    console.print(
        f"sentences 1 to {count} of the {len(prepared.dev):,} of dev, in pieces with their "
        "values; <unk>: not in the vocabulary"
    )
    names_of, tags = name_tokens(prepared), name_inserted_tokens(cfg, prepared)
    for i in range(count):
        console.print()
        console.print(literal(f"{prepared.dev.texts('source')[i]}  →  "), end="")
        console.print(literal(prepared.dev.texts("target")[i]))
        console.print(tabulate_sentence(prepared, names_of, tags, i))


def main() -> None:
    """Print the report, and write it where a page is asked for."""
    parser = make_parser(__doc__, whole=True)
    parser.add_argument("--examples", type=int, default=5, help="sentences of dev to show")
    parser.add_argument("--page", help="file to write the report into, as Markdown")
    parser.add_argument("--config-dir", "-cd", help="folder of your own options, as of train.py")
    parser.add_argument("settings", nargs="*", help="as of train.py")
    options = parser.parse_intermixed_args()
    settings = compose_settings(options.settings, options.config_dir)
    cfg = resolve_settings(settings, sweep=False, console=TextConsole(stderr=True))
    if options.page:
        check_output(options.page, "--page ", list_named_files(cfg.data))
    prepared = prepare_run(cfg, say)
    print_features(cfg, prepared, options.examples, TextConsole())
    if options.page:
        with write_to(options.page, "--page ") as file:
            file.write(f"# Features of {cfg.data.name}\n\n```\n")
            print_features(cfg, prepared, options.examples, TextConsole(file=file, width=160))
            file.write("```\n")

"""CTranslate2 under `probe.py`, with weights that nmt_feat has exported."""

from pathlib import Path

import ctranslate2
from probe import Job, Stopwatch


def translate(job: Job) -> dict[str, float]:
    """Translate lines of tokens by beam search; its figures."""
    translator = ctranslate2.Translator(
        job["model"], compute_type=job["compute_type"], intra_threads=job["threads"]
    )
    with Stopwatch() as watch:
        text = Path(job["tokens"]).read_text(encoding="utf-8")
        sentences = [line.split() for line in text.split("\n")[:-1]]
        results = translator.translate_batch(
            sentences,
            beam_size=job["beam"],
            patience=job["patience"],
            length_penalty=1.0,
            min_decoding_length=0,
            max_decoding_length=2 * max(map(len, sentences)) + 20,
            max_batch_size=job["batch_tokens"],
            batch_type="tokens",
        )
        lengths = [len(result.hypotheses[0]) for result in results]
    return watch.figures(lengths)

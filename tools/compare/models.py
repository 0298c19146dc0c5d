"""Models of annotators and encoders, trained or drawn here: `python models.py KIND PATH INPUTS`."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from compare.inputs import WIDTH, text_of, words_of


def blocks_of(inputs: Path, count: int) -> list[str]:
    """The first sentences of the training split, as CoNLL-U."""
    text = (inputs / "conllu" / "train.conllu").read_text(encoding="utf-8")
    return text.split("\n\n")[:count]


def make_udpipe(path: Path, inputs: Path) -> None:
    """A small UDPipe model; it is not good, but quick to train."""
    from ufal import udpipe

    reader = udpipe.InputFormat.newConlluInputFormat()
    reader.setText("\n\n".join([*blocks_of(inputs, 40), ""]))
    train, error = udpipe.Sentences(), udpipe.ProcessingError()
    while reader.nextSentence(sentence := udpipe.Sentence(), error):
        train.append(sentence)
    model = udpipe.Trainer.train(
        "morphodita_parsito",
        train,
        udpipe.Sentences(),
        "dimension=16;epochs=1;batch_size=20",
        "models=1;iterations=1",
        "iterations=1;hidden_layer=10;structured_interval=0;transition_system=projective;"
        "transition_oracle=static",
        error,
    )
    if error.occurred():
        sys.exit(error.message)
    path.write_bytes(model)


def make_spacy(path: Path, inputs: Path) -> None:
    """A small pipeline of spaCy: tagger and morphologizer."""
    from spacy.tokens import Doc
    from spacy.training import Example

    spacy: Any = importlib.import_module("spacy")  # its types are not exported
    spacy.util.fix_random_seed(1)
    nlp = spacy.blank("en")
    network = {"@architectures": "spacy.HashEmbedCNN.v2", "width": 32, "depth": 1}
    network |= {"embed_size": 200, "window_size": 1, "maxout_pieces": 2}
    network |= {"pretrained_vectors": None, "subword_features": True}
    tagger = {"@architectures": "spacy.Tagger.v2", "nO": None, "tok2vec": network}
    for name in ("tagger", "morphologizer"):
        nlp.add_pipe(name, config={"model": tagger})
    examples = []
    for block in blocks_of(inputs, 40):
        rows, text = [word.columns for word in words_of(block)], text_of(block)
        document = Doc(
            nlp.vocab,
            words=[row[1] for row in rows],
            tags=[row[4] for row in rows],
            pos=[row[3] for row in rows],
            morphs=[row[5].strip("_") for row in rows],
        )
        examples.append(Example(nlp.make_doc(text), document))
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(4):
        nlp.update(examples, sgd=optimizer)
    nlp.to_disk(path)


def make_encoder(path: Path, inputs: Path) -> None:
    """A small BERT with random weights, its pieces the characters and the frequent words."""
    import tokenizers
    import torch

    transformers: Any = importlib.import_module("transformers")  # it is not typed as a whole
    splitter = tokenizers.pre_tokenizers.BertPreTokenizer()
    normalizer: Any = tokenizers.normalizers.BertNormalizer()
    words = Counter(
        word
        for block in blocks_of(inputs, 300)
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text_of(block)))
    )
    letters = sorted(set("".join(words)))
    frequent = sorted(words, key=lambda word: (-words[word], word))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces = dict.fromkeys([*special, *letters, *(f"##{c}" for c in letters), *frequent])
    vocabulary = {piece: number for number, piece in enumerate(list(pieces)[:200])}
    model = tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **names
    ).save_pretrained(path)
    torch.manual_seed(0)
    transformers.BertModel(
        transformers.BertConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=64,
            initializer_range=0.5,
        )
    ).save_pretrained(path)


if __name__ == "__main__":
    kind, *paths = sys.argv[1:]
    {"udpipe": make_udpipe, "spacy": make_spacy, "encoder": make_encoder}[kind](*map(Path, paths))

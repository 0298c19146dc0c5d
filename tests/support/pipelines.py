"""Annotators' models that are trained here, on the bundled corpus, by the real packages."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from nmt_feat.base.resources import find_resource
from nmt_feat.text.conllu import read_conllu


def train_udpipe(path: Path, sentences: int = 40) -> Path:
    """A small UDPipe model; it is not good, but quick to train."""
    udpipe = pytest.importorskip("ufal.udpipe")
    text = (find_resource("data/embedded") / "train.conllu").read_text(encoding="utf-8")
    reader = udpipe.InputFormat.newConlluInputFormat()
    reader.setText("\n\n".join([*text.split("\n\n")[:sentences], ""]))
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
    assert not error.occurred(), error.message
    path.write_bytes(model)
    return path


def train_spacy(folder: Path, sentences: int = 60) -> Path:
    """A small spaCy pipeline: tagger, morphologizer, lemmatizer and parser."""
    spacy = pytest.importorskip("spacy")
    from spacy.tokens import Doc
    from spacy.training import Example

    spacy.util.fix_random_seed(1)
    nlp = spacy.blank("en")
    network = {"@architectures": "spacy.HashEmbedCNN.v2", "width": 32, "depth": 1}
    network |= {"embed_size": 200, "window_size": 1, "maxout_pieces": 2}
    network |= {"pretrained_vectors": None, "subword_features": True}
    nlp.add_pipe("tok2vec", config={"model": network})
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 32, "upstream": "*"}
    tagger = {"@architectures": "spacy.Tagger.v2", "nO": None, "tok2vec": listener}
    for name in ("tagger", "morphologizer", "trainable_lemmatizer"):
        more = {"min_tree_freq": 1} if name == "trainable_lemmatizer" else {}
        nlp.add_pipe(name, config={"model": tagger} | more)
    parser = {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": "parser"}
    parser |= {"extra_state_tokens": False, "hidden_width": 32, "maxout_pieces": 2}
    nlp.add_pipe("parser", config={"model": parser | {"nO": None, "tok2vec": listener}})
    examples = []
    parsed_sentences = islice(
        read_conllu(find_resource("data/embedded") / "train.conllu"), sentences
    )
    for text, words in ((sentence.text, sentence.words) for sentence in parsed_sentences):
        annotated = Doc(
            nlp.vocab,
            words=[w.form for w in words],
            spaces=[text[w.end : w.end + 1] == " " for w in words],
            tags=[w.xpos for w in words],
            pos=[w.upos for w in words],
            morphs=[w.feats.strip("_") for w in words],
            lemmas=[w.lemma for w in words],
            heads=[w.head - 1 if w.head else i for i, w in enumerate(words)],
            deps=["ROOT" if w.deprel == "root" else w.deprel for w in words],
        )
        examples.append(Example(nlp.make_doc(text), annotated))
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.01
    for _ in range(8):
        for start in range(0, sentences, 15):
            nlp.update(examples[start : start + 15], sgd=optimizer)
    nlp.to_disk(folder)
    return folder

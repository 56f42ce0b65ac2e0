"""Small tokenizers of the kinds that people have, trained here in a moment."""

import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXTS = [
    "I like my school. It is very big, and the teachers are nice! Do you like it?",
    "Dear Sir,\nI am writing to you about the job. I don't have experience, but I'll learn.\n\n  Best,\nAnna",
    "My name's Li. I live in Beijing with my family... We have a dog 😀 and two cats.",
    "“Hello,” he said. ‘It's late’ — she didn't answer. ¿Qué? 我喜欢学习英语。",
]


def write_sentencepiece(folder, *, kind="Unigram", byte_fallback=True, normalizer=None, eos="</s>"):
    """Write a SentencePiece as `transformers` saves it: it puts a space before a text, and falls back on bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["<unk>", "<s>", "</s>"]
    pieces = [f"<0x{byte:02X}>" for byte in range(256)] if byte_fallback else []
    tokenizer = Tokenizer(models.Unigram() if kind == "Unigram" else models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    if kind == "Unigram":
        trainer = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([text.replace("😀", "").replace("我", "") for text in TEXTS] * 3, trainer)
    values = json.loads(tokenizer.to_str())
    model = values["model"]
    if kind == "Unigram":
        model["vocab"] += [[piece, -20.0] for piece in pieces]
    else:
        model["vocab"] |= {piece: len(model["vocab"]) + place for place, piece in enumerate(pieces)}
    model["byte_fallback"] = byte_fallback
    values["normalizer"] = normalizer
    (folder / "tokenizer.json").write_text(json.dumps(values))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": eos}}))
    return folder


def write_byte_level(folder, *, size=400, end="<|endoftext|>"):
    """Write a byte-level BPE in the older form of GPT-2 models of other languages: vocab.json and merges.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [end] if end else []
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return folder

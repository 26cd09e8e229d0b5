"""Trains Unigram vocabularies with the sentencepiece package and writes what it makes of strings.

    python make.py corpus/instruct.jsonl.xz FOLDER          # the committed files: 500 strings
    python make.py corpus/stories.txt.xz FOLDER --many      # 10,000 strings, four vocabularies

The corpora are the shared ones. `--many` has SentencePiece's own tables of
normalization, which take 250 kB each; compare with

    HALFBYTE_UNIGRAM=FOLDER cargo test --workspace --test unigram
"""

import json, lzma, os, random, sys

import sentencepiece

CORPUS, FOLDER = sys.argv[1:3]
MANY = "--many" in sys.argv

# Normalizations of our own, for a table that is small: spaces, ligatures, widths, what is dropped.
RULES = [(s, " ") for s in "\t\n\r\u00a0\u2003\u3000"] + [
    ("\u200b", ""), ("\u00ad", ""), ("\ufb01", "fi"), ("\ufb02", "fl"), ("\u2026", "..."),
    ("\u00bd", "1/2"), ("\u2122", "TM"), ("e\u0301", "\u00e9"), ("\u212b", "\u00c5"), ("\uff76\uff9e", "\u30ac"),
] + [(chr(0xFEE0 + c), chr(c)) for c in range(0x21, 0x7F)]


def corpus():
    """Lines; of `instruct.jsonl.xz` the texts that were written for this project, CC0."""
    with lzma.open(CORPUS, "rt", encoding="utf-8") as file:
        if not CORPUS.endswith(".jsonl.xz"):
            return [line.strip() for line in file if line.strip() and not line.startswith("<|")]
        items = [json.loads(line) for line in file]
    own = [item for item in items if item["source"].startswith("own synthetic")]
    return [line.strip() for item in own for line in item["output"].split("\n") if line.strip()]


def train(name, lines, **options):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=os.path.join(FOLDER, name), model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1, minloglevel=2, **options)
    os.remove(os.path.join(FOLDER, name + ".vocab"))
    return sentencepiece.SentencePieceProcessor(model_file=os.path.join(FOLDER, name + ".model"))


def strings(lines, n, rng):
    odd = ["", " ", "  ", "\t", "a", " a ", "a  b", "\u2581", "\u2581a", "a\u2581 b", "</s>", "<unk>", "<0x41>", "\u0000x",
           "\ufb01sh \ufb02y", "\uff28\uff45\uff4c\uff4c\uff4f\u3000\uff01", "\u2122\u00bd\u2026", "e\u0301cole", "A\u030a\u212b", "\uff76\uff9e",
           "\U0001f469\u200d\U0001f469\u200d\U0001f467 ok", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u4f60\u597d\u4e16\u754c", "<x>", "a<x>b", "<x><x> <x>", "x <x", "once<upon>a time"]
    alphabet = "abcdefghijklmnopqrstuvwxyzABC  \u2581.,'!?0123<>x\u00e9\u00fc\ufb01\uff21\u3000\u200b\u0301\u4e2d\U0001f600\n\t"
    made = list(odd)
    while len(made) < n:
        kind = rng.random()
        line = rng.choice(lines)
        if kind < 0.4:
            made.append(line[: rng.randrange(20, 200 if MANY else 60)])
        elif kind < 0.6:
            made.append("".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 40))))
        elif kind < 0.75:
            words = line.split()[: 12 if MANY else 6]
            made.append("".join(word + rng.choice([" ", "  ", "", "\u3000", "\n", "<x>"]) for word in words))
        elif kind < 0.9:
            text = list(line[: rng.randrange(10, 80 if MANY else 30)])
            for _ in range(3):
                text.insert(rng.randrange(len(text) + 1), chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x300, 0xD7FF), rng.randrange(0xF900, 0x1FFFF)])))
            made.append("".join(text))
        else:
            made.append(line[:30].upper() if rng.random() < 0.5 else line[:30].replace(" ", ""))
    return made[:n]


def main():
    os.makedirs(FOLDER, exist_ok=True)
    rng = random.Random(20230517)
    lines = corpus()
    sample = rng.sample(lines, 20000 if MANY else 6000)
    rules = os.path.join(FOLDER, "rules.tsv")
    with open(rules, "w", encoding="utf-8") as file:
        for source, target in RULES:
            code = lambda text: " ".join(f"{ord(c):X}" for c in text)
            file.write(f"{code(source)}\t{code(target)}\n")
    plain = dict(normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
                 byte_fallback=True, user_defined_symbols=["<x>", "<upon>"])
    made = {}
    if MANY:
        made["nmt_nfkc"] = train("nmt_nfkc", sample, vocab_size=2000)
        made["nmt_nfkc_cf"] = train("nmt_nfkc_cf", sample, vocab_size=1000, normalization_rule_name="nmt_nfkc_cf",
                                    user_defined_symbols=["<x>", "\u2122"])
    made["own"] = train("own", sample, vocab_size=2000 if MANY else 600, normalization_rule_tsv=rules)
    made["bytes"] = train("bytes", sample, vocab_size=1200 if MANY else 500, **plain)
    os.remove(rules)
    texts = strings(lines, 10000 if MANY else 500, rng)
    golden = {"strings": texts}
    for name, model in made.items():
        golden[name] = {"ids": [model.encode(text) for text in texts],
                        "decoded": [model.decode(model.encode(text)) for text in texts]} if MANY else \
                       {"ids": [model.encode(text) for text in texts]}
    with open(os.path.join(FOLDER, "golden.json"), "w", encoding="utf-8") as file:
        json.dump(golden, file, separators=(",", ":"), ensure_ascii=False)


main()

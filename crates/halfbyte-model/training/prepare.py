"""Mix the story and instruction text of CORPUS into one training file.

    python prepare.py CORPUS mix.txt [rest.txt]

Keeps every short story, a quarter of the long (older, harder) ones, and every instruction pair in the form
`### Instruction:\n...\n\n### Response:\n...`; documents are parted by `<|endoftext|>`. The rest of the long ones goes
to the second file. Seeded: always the same files.
"""
import json, lzma, random, sys

corpus, out, *rest = sys.argv[1:]
rng = random.Random(7)
stories = [d.strip() for d in lzma.open(f"{corpus}/stories.txt.xz", "rt").read().split("<|endoftext|>")]
short = [d for d in stories if 80 < len(d) < 1500]
long = [d for d in stories if len(d) >= 1500]
rng.shuffle(long)
pairs = []
for line in lzma.open(f"{corpus}/instruct.jsonl.xz", "rt"):
    row = json.loads(line)
    request = "\n".join(t for t in (row["instruction"].strip(), row["input"].strip()) if t)
    pairs.append(f"### Instruction:\n{request}\n\n### Response:\n{row['output'].strip()}")
docs = short + long[: len(long) // 4] + pairs
rng.shuffle(docs)
open(out, "w").write("\n<|endoftext|>\n".join(docs))
print(f"{len(docs)} documents, {sum(map(len, docs)) / 1e6:.1f} M characters")
for path in rest:
    open(path, "w").write("\n<|endoftext|>\n".join(long[len(long) // 4 :]))

"""Write ATTRIBUTIONS.md: every book and story of the training text, from the corpus' sources.json.

    python attributions.py CORPUS/sources.json > ../ATTRIBUTIONS.md
"""
import json, re, sys

sources = json.load(open(sys.argv[1], encoding="utf-8"))


def cell(text):
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


print("# Texts that the embedded model learned from\n")
print("Written by `training/attributions.py`. The parts without single works to name (TinyStories, the")
print("instruction data, our own synthetic text) are in the repository's `NOTICE`.\n")
print("## Stories under Creative Commons Attribution (CC BY)\n")
print("Changes made: markup, front matter and pictures left out; the model keeps statistics of the words.\n")
rows = {}
for line in sources["storybook_attributions"]:
    origin, rest = line.split(": ", 1)
    title, author, licence = (part.strip() for part in rest.rsplit("|", 2))
    rows.setdefault((origin, licence), []).append((cell(title), cell(author)))
for (origin, licence), stories in sorted(rows.items()):
    print(f"### {origin} ({licence.replace('-', ' ')}), {len(stories)} stories\n")
    print("| title | author |\n|---|---|")
    for title, author in sorted(set(stories)):
        print(f"| {title} | {author} |")
    print()
print("## Children's books in the public domain in the USA\n")
print("From the GITenberg copies of Project Gutenberg's texts, its headers and trademark removed.\n")
for book in sorted({book["repo"] for book in sources["books"]}):
    title, number = re.fullmatch(r"GITenberg/(.*)_(\d+)", book).groups()
    print(f"- {re.sub('-+', ' ', title).strip()} (Project Gutenberg {number})")

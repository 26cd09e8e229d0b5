"""What transformers 4.46 (`T5Tokenizer`, not the fast one) makes of texts when tokens were added to
the vocabulary, as FastChat-T5 did: `python added.py ../t5-micro added.json`.
"""

import json, os, shutil, sys, tempfile

from transformers import T5Tokenizer

ADDED = ["<", "{", "\n", "}", "`", " ", "\\", "^", "\t"]
TEXTS = ["Tell me a story.", "a  b", "a \n b", "if (x < y) { return `z`; }\n\tend", "\n\n", "###  Human: hi\n### Assistant:",
         " lead and trail ", "x^2 \\ {a}{b}", "", " ", "tab\tone\t\ttwo", "a<b", "a < b", "\ufb01sh\u3000{ \ufb01sh }"]

with tempfile.TemporaryDirectory() as folder:
    for name in "spiece.model", "config.json":
        shutil.copy(os.path.join(sys.argv[1], name), folder)
    tokens = {text: 620 + i for i, text in enumerate(ADDED)}
    json.dump(tokens, open(folder + "/added_tokens.json", "w"))
    special = [f"<extra_id_{i}>" for i in range(20)]
    config = {"extra_ids": 20, "tokenizer_class": "T5Tokenizer", "additional_special_tokens": special}
    json.dump(config, open(folder + "/tokenizer_config.json", "w"))
    model = T5Tokenizer.from_pretrained(folder, legacy=True)
    options = dict(skip_special_tokens=True, spaces_between_special_tokens=False, clean_up_tokenization_spaces=False)
    ids = [model.encode(text) for text in TEXTS]
    rows = [{"text": text, "ids": row, "decoded": model.decode(row, **options)} for text, row in zip(TEXTS, ids)]
    json.dump({"added_tokens": tokens, "rows": rows}, open(sys.argv[2], "w"), indent=1)

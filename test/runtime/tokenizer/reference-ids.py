"""Digests of the corpus' ids by the Rust tokenizers, for real-tokenizers.test.ts. Needs `pip install tokenizers`.

node --input-type=module -e "import { randomStrings, trickyStrings } from './dist/test/runtime/tokenizer/corpus.js';
  console.log(JSON.stringify([...trickyStrings, ...randomStrings(12_000, 1)].map((text) => text.toWellFormed())))" |
  python test/runtime/tokenizer/reference-ids.py DIRECTORY...
"""

import hashlib
import json
import sys

from tokenizers import Tokenizer

corpus = json.load(sys.stdin)
for directory in sys.argv[1:]:
    tokenizer = Tokenizer.from_file(f"{directory}/tokenizer.json")
    for name, as_text in (("parse", False), ("as_text", True)):
        tokenizer.encode_special_tokens = as_text
        ids = (tokenizer.encode(text, add_special_tokens=False).ids for text in corpus)
        lines = "".join(" ".join(map(str, row)) + "\n" for row in ids)
        print(directory, name, hashlib.sha256(lines.encode()).hexdigest())

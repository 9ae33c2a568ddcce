"""Whether transformers reads an exported directory and computes what the trainer did.

    node dist/bench/peers/export-logits.js MODEL_DIR OUT_DIR     trains a few steps, exports, writes logits.json
    python check_export.py OUT_DIR                                prints the largest difference; exit code 1 over the bound

Needs: torch, transformers.
"""
import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

BOUND = 1e-4  # nats, or score: float32 sums in another order


def language(directory, rows):
    model, report = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    worst = 0.0
    for row in rows:
        ids = torch.tensor([row["tokens"]])
        with torch.no_grad():
            logprobs = torch.log_softmax(model(ids).logits[0].double(), -1)
        found = [logprobs[at - 1, row["tokens"][at]].item() for at in range(row["start"], len(row["tokens"]))]
        worst = max(worst, max(abs(a - b) for a, b in zip(found, row["logprobs"])))
    return worst, report


def reward(directory, rows):
    model, report = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    model.config.pad_token_id = -1  # the score is read at the last token of an unpadded row
    bias = json.load(open(f"{directory}/logits.json"))["bias"]  # transformers' head has none
    worst = 0.0
    for row in rows:
        with torch.no_grad():
            score = model(torch.tensor([row["tokens"]])).logits[0, 0].item() + bias
        worst = max(worst, abs(score - row["score"]))
    return worst, report


def main(directory):
    expected = json.load(open(f"{directory}/logits.json"))
    worst, report = (language if expected["head"] == "language" else reward)(directory, expected["rows"])
    missing = [name for name in report["missing_keys"]]
    print(f"{directory}: largest difference {worst:.1e}, missing keys {missing}, unexpected {list(report['unexpected_keys'])}")
    return 0 if worst <= BOUND and not missing else 1


if __name__ == "__main__":
    sys.exit(max(main(directory) for directory in sys.argv[1:]))

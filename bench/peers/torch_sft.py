"""Tokens/s of an SFT step in PyTorch: python torch_sft.py DIR [--rows 4] [--time 128] [--threads 2]; prints one JSON line.

Install: pip install torch transformers. Every position counts, float32, fused AdamW, gradient clipping: as bench/training.ts does it.
"""

import argparse
import json
import resource
import time

import torch
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--rows", type=int, default=4)
parser.add_argument("--time", type=int, default=128)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--runs", type=int, default=8)
options = parser.parse_args()

torch.set_num_threads(options.threads)
torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
ids = torch.randint(0, model.config.vocab_size, (options.rows, options.time + 1))


def step():
    logits = model(ids[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


step()
best = float("inf")
for _ in range(options.runs):
    started = time.perf_counter()
    step()
    best = min(best, time.perf_counter() - started)
print(
    json.dumps(
        {
            "torch": torch.__version__,
            "step_ms": round(best * 1000, 1),
            "tokens_per_second": round(options.rows * options.time / best, 1),
            "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
    )
)

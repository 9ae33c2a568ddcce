"""TRL's PPO trainer on the workload of bench/ppo.ts. The last line it prints is {"iterations": [...]}, wall and
processor seconds of each counted iteration.

Usage: python trl_ppo.py POLICY REWARD PROMPTS.json RESPONSE_TOKENS WARM_UP ITERATIONS THREADS
Needs: pip install trl==1.9.0 accelerate datasets transformers torch   (trl 1.16 has no PPO any more)
"""

import json
import sys
import tempfile
import time

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer

policy_path, reward_path, prompts_path = sys.argv[1:4]
response_tokens, warm_up, iterations, threads = map(int, sys.argv[4:8])
torch.set_num_threads(threads)

prompts = json.load(open(prompts_path))


class Clock(TrainerCallback):
    """Wall and processor time at the end of each iteration."""

    def __init__(self):
        self.times = [self.now()]

    @staticmethod
    def now():
        return time.perf_counter(), time.process_time()

    def on_step_end(self, args, state, control, **kwargs):
        self.times.append(self.now())


def language_model():
    return AutoModelForCausalLM.from_pretrained(policy_path, dtype=torch.float32)


def reward_model():
    return AutoModelForSequenceClassification.from_pretrained(reward_path, num_labels=1, dtype=torch.float32)


policy = language_model()
vocabulary = {f"t{i}": i for i in range(policy.config.vocab_size)}
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="t0")), pad_token="t0", eos_token="t1"
)
clock = Clock()
with tempfile.TemporaryDirectory() as output:
    trainer = PPOTrainer(
        args=PPOConfig(
            output_dir=output,
            per_device_train_batch_size=len(prompts),
            local_rollout_forward_batch_size=len(prompts),
            gradient_accumulation_steps=1,
            num_mini_batches=1,
            num_ppo_epochs=1,
            total_episodes=(warm_up + iterations) * len(prompts),
            response_length=response_tokens,
            temperature=1.0,
            learning_rate=8e-6,
            num_sample_generations=0,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
        ),
        processing_class=tokenizer,
        model=policy,
        ref_model=language_model(),
        reward_model=reward_model(),
        value_model=reward_model(),
        train_dataset=Dataset.from_dict({"input_ids": prompts}),
        callbacks=[clock],
    )
    trainer.train()
spans = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(clock.times, clock.times[1:])]
print(json.dumps({"iterations": [{"seconds": wall, "cpuSeconds": cpu} for wall, cpu in spans[warm_up:]]}))

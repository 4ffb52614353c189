#!/usr/bin/env python3
"""The twin of `spillway train` on DeepSpeed: the same GPT, text, batch and checkpointing. Run by against_deepspeed.py
with the Python of the environment that it installs; CPU, one rank, Gloo.

deepspeed_twin.py --model FILE --data FILE --config FILE --steps N --result FILE [--context TOKENS]

--model: the JSON that `spillway train --model` reads (no dropout, weights of the head its own); --config: DeepSpeed's
own JSON; --data: bytes, a token each. --result: a JSON object: each step's seconds (forward, backward, step), loss and
bytes, and the process's peak memory."""

import argparse
import json
import math
import os
import socket
import time
from pathlib import Path

os.environ.setdefault("DS_ACCELERATOR", "cpu")

# pylint: disable=wrong-import-position (the accelerator is chosen at import)
import deepspeed
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    def __init__(self, model):
        super().__init__()
        width, self.heads = model["n_embd"], model["n_head"]
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.c_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        samples, length, width = x.shape
        q, k, v = (part.view(samples, length, self.heads, width // self.heads).transpose(1, 2)
                   for part in self.c_attn(self.ln_1(x)).split(width, 2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(mixed.transpose(1, 2).reshape(samples, length, width))
        return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.wte = nn.Embedding(model["vocab_size"], model["n_embd"])
        self.wpe = nn.Embedding(model["n_positions"], model["n_embd"])
        self.blocks = nn.ModuleList(Block(model) for _ in range(model["n_layer"]))
        self.ln_f = nn.LayerNorm(model["n_embd"])
        self.lm_head = nn.Linear(model["n_embd"], model["vocab_size"], bias=False)
        for name, module in self.named_modules():
            self.initialise(name, module, model["n_layer"])

    @staticmethod
    def initialise(name, module, layers):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            last = name.endswith(("c_proj", "c_out"))
            with deepspeed.zero.GatheredParameters(list(module.parameters()), modifier_rank=0):
                nn.init.normal_(module.weight, std=0.02 / math.sqrt(2 * layers) if last else 0.02)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        logits = self.lm_head(self.ln_f(x)).float()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def one_rank():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)


def moved():
    """Bytes that storage has read and written for this process."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="utf-8").splitlines())
    return int(lines["read_bytes"]), int(lines["write_bytes"])


def memory(key):
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(key + ":"))


def batches(path, samples, context):
    """Samples of the text, drawn with a fixed seed: tokens, and the tokens after them."""
    text = torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8)
    draw = torch.Generator().manual_seed(1)
    while True:
        firsts = torch.randint(len(text) - context, (samples,), generator=draw).tolist()
        rows = torch.stack([text[first:first + context + 1] for first in firsts]).long()
        yield rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def train_step(engine, data):
    """One optimizer step: its seconds by part, loss and bytes."""
    seconds = {"forward": 0.0, "backward": 0.0, "step": 0.0}
    before, losses = moved(), []

    def timed(part, run, *arguments):
        begin = time.perf_counter()
        result = run(*arguments)
        seconds[part] += time.perf_counter() - begin
        return result

    for _ in range(engine.gradient_accumulation_steps()):
        loss = timed("forward", engine, *next(data))
        timed("backward", engine.backward, loss)
        timed("step", engine.step)
        losses.append(loss.item())
    read, written = (after - first for after, first in zip(moved(), before))
    return {"seconds": sum(seconds.values()), "parts": seconds, "loss": sum(losses) / len(losses),
            "nvme_read_bytes": read, "nvme_written_bytes": written}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "config", "result"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--steps", required=True, type=int)
    parser.add_argument("--context", type=int, help="default: the model's n_positions")
    arguments = parser.parse_args()
    model = json.loads(arguments.model.read_text(encoding="utf-8"))
    config = json.loads(arguments.config.read_text(encoding="utf-8"))
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(1)
    one_rank()
    with deepspeed.zero.Init(config_dict_or_path=config, dtype=torch.bfloat16):
        gpt = Gpt(model)
    engine, *_ = deepspeed.initialize(model=gpt, model_parameters=gpt.parameters(), config=config)
    data = batches(arguments.data, engine.train_micro_batch_size_per_gpu(), arguments.context or model["n_positions"])
    steps = [train_step(engine, data) for _ in range(arguments.steps)]
    result = {"steps": steps, "peak_rss_bytes": memory("VmHWM"), "deepspeed": deepspeed.__version__,
              "torch": torch.__version__}
    arguments.result.write_text(json.dumps(result), encoding="utf-8")
    os._exit(0)  # what was measured is written; its own exit aborts now and then


if __name__ == "__main__":
    main()

"""GPT-2 as its paper and Hugging Face's layout have it, in plain Python, and the files it is kept in: what an export is
held against where neither torch nor transformers is."""

import json
import math
import struct

LETTERS = {"F32": "f", "F16": "e", "BF16": "H"}


def read_file(path):
    """The tensors of a safetensors file: name -> (dtype, shape, bytes)."""
    data = path.read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensors[name] = (entry["dtype"], entry["shape"], data[8 + length + begin:8 + length + end])
    return tensors


def read_model(directory):
    """config.json, and the tensors of model.safetensors or of all files that the index names."""
    index = directory / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        names = set(json.loads(index.read_text())["weight_map"].values())
    tensors = {}
    for name in sorted(names):
        tensors |= read_file(directory / name)
    return json.loads((directory / "config.json").read_text()), tensors


def write_file(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def values(tensor):
    dtype, _, data = tensor
    numbers = struct.unpack(f"<{len(data) // struct.calcsize(LETTERS[dtype])}{LETTERS[dtype]}", data)
    if dtype != "BF16":
        return list(numbers)
    return list(struct.unpack(f"<{len(numbers)}f", struct.pack(f"<{len(numbers)}I", *(bits << 16 for bits in numbers))))


def gelu_tanh(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_erf(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


class Gpt2:
    """GPT2LMHeadModel in evaluation."""

    def __init__(self, config, tensors, gelu=gelu_tanh):
        self.config, self.gelu = config, gelu
        self.weights = {name: self.rows(tensor) for name, tensor in tensors.items()}

    @staticmethod
    def rows(tensor):
        flat, shape = values(tensor), tensor[1]
        if len(shape) == 1:
            return flat
        return [flat[row * shape[1]:(row + 1) * shape[1]] for row in range(shape[0])]

    def norm(self, x, name):
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        mean = sum(x) / len(x)
        variance = sum((value - mean)**2 for value in x) / len(x)
        scale = 1 / math.sqrt(variance + self.config["layer_norm_epsilon"])
        return [(value - mean) * scale * w + b for value, w, b in zip(x, weight, bias)]

    def conv1d(self, x, name):
        """x W + b with W [in, out]."""
        result = list(self.weights[f"{name}.bias"])
        for value, row in zip(x, self.weights[f"{name}.weight"]):
            for i, weight in enumerate(row):
                result[i] += value * weight
        return result

    def attention(self, xs, name):
        width, heads = self.config["n_embd"], self.config["n_head"]
        size = width // heads
        qkv = [self.conv1d(x, f"{name}.c_attn") for x in xs]
        mixed = [[0.0] * width for _ in xs]
        for head in range(heads):
            starts = (part * width + head * size for part in range(3))
            query, key, value = (slice(start, start + size) for start in starts)
            for place, row in enumerate(qkv):
                scores = [math.exp(sum(a * b for a, b in zip(row[query], other[key])) / math.sqrt(size))
                          for other in qkv[:place + 1]]
                total = sum(scores)
                for score, other in zip(scores, qkv):
                    for i, part in enumerate(other[value]):
                        mixed[place][head * size + i] += score / total * part
        return [self.conv1d(x, f"{name}.c_proj") for x in mixed]

    def logits(self, tokens):
        wte, wpe = self.weights["transformer.wte.weight"], self.weights["transformer.wpe.weight"]
        xs = [[a + b for a, b in zip(wte[token], wpe[place])] for place, token in enumerate(tokens)]
        for block in range(self.config["n_layer"]):
            name = f"transformer.h.{block}"
            added = self.attention([self.norm(x, f"{name}.ln_1") for x in xs], f"{name}.attn")
            xs = [[a + b for a, b in zip(x, more)] for x, more in zip(xs, added)]
            for x in xs:
                hidden = self.conv1d(self.norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")
                for i, more in enumerate(self.conv1d([self.gelu(value) for value in hidden], f"{name}.mlp.c_proj")):
                    x[i] += more
        head = wte if self.config["tie_word_embeddings"] else self.weights["lm_head.weight"]
        result = []
        for x in xs:
            x = self.norm(x, "transformer.ln_f")
            result.append([sum(a * b for a, b in zip(x, row)) for row in head])
        return result

    def loss(self, tokens):
        """Mean cross entropy of each token after the first, in nats."""
        total = 0.0
        for logits, target in zip(self.logits(tokens[:-1]), tokens[1:]):
            top = max(logits)
            total += top + math.log(sum(math.exp(logit - top) for logit in logits)) - logits[target]
        return total / (len(tokens) - 1)

#!/usr/bin/env python3
"""bigram_entropy.py TEXT: nats a byte of the best that can be guessed from the byte before it.

H(b | a) = -sum p(a, b) ln p(b | a), with the counts of the text itself: no bigram model does better on it. A model
whose loss is below this has learnt more than which byte follows which."""

import math
import sys
from collections import Counter
from pathlib import Path


def bigram_entropy(text):
    pairs = Counter(zip(text, text[1:]))
    firsts = Counter(text[:-1])
    return -sum(n * math.log(n / firsts[a]) for (a, _), n in pairs.items()) / (len(text) - 1)


if __name__ == "__main__":
    print(f"{bigram_entropy(Path(sys.argv[1]).read_bytes()):.4f}")

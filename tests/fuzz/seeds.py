#!/usr/bin/env python3
"""seeds.py FOLDER: writes the inputs that fuzzing starts from, FOLDER/<target>/*, and word lists, FOLDER/<target>.dict.

They are made from the sources (the configuration's keys, the demo's file), so that they never lag behind."""

import json
import re
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

GPT = b"""{"n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 128, "vocab_size": 256, "attn_pdrop": 0.1,
 "tie_word_embeddings": false, "model_type": "gpt2", "layer_norm_epsilon": 1e-5}"""
CONFIG = b"""{"train_batch_size": "auto", "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2,
 "bf16": {"enabled": true}, "gradient_clipping": 1.0, "zero_optimization": {"stage": 3, "sub_group_size": 5e8,
 "offload_param": {"device": "nvme", "nvme_path": "/x", "max_in_cpu": 10}, "stage3_prefetch_bucket_size": "auto"},
 "optimizer": {"type": "AdamW", "params": {"lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-8}},
 "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 100, "warmup_num_steps": 10}},
 "aio": {"block_size": 1048576, "queue_depth": 8, "thread_count": 2, "single_submit": false}}"""

RESULT = b"""{"aio_bench": 1, "spillway": "0.1.0", "kernel": "6.1", "targets": [{"name": "a", "device": "d",
 "engine": "io_uring", "recommendation": {"block_size": 131072, "queue_depth": 8, "threads": 1}, "cells": [{"workload":
 "read", "block_size": 131072, "queue_depth": 8, "threads": 1, "finalist": true, "repetitions": [{"seconds": 1.5,
 "cpu_seconds": 0.5, "read_bytes": 1000000, "written_bytes": 0, "system_calls": 9, "p50_us": 1, "p99_us": 2}]}]}]}"""


def quoted(paths):
    """The strings that a reader of JSON compares with."""
    paths = list(paths)
    if not paths:
        sys.exit("seeds.py: the sources of a target have moved")
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
    words = set()
    for string in re.findall(r'"([A-Za-z0-9_.]{2,60})"', text):
        words.update([string, *string.split(".")])
    return sorted(word for word in words if word)


def llmc(magic, version, count, tokens):
    return struct.pack("<256i", magic, version, count, *[0] * 253) + tokens


def safetensors(*tensors, metadata='"__metadata__": {"format": "pt"}'):
    """A header as it is in a file, and bytes that are long enough."""
    entries = [metadata] if metadata else []
    at = 0
    for name, dtype, shape, size in tensors:
        entries.append(f'"{name}": {{"dtype": "{dtype}", "shape": {shape}, "data_offsets": [{at}, {at + size}]}}')
        at += size
    text = ("{" + ", ".join(entries) + "}").encode()
    return struct.pack("<Q", len(text)) + text + bytes(range(at))


def plane_sums(sizes):
    """Of the planes of an extent in a segment file, by their bytes: one block each."""
    return [{"tile": 1, "plane": plane, "generation": 3, "block_bytes": size, "values": ["0123456789abcdef"]}
            for plane, size in enumerate(sizes)]


def manifest(dtype="bf16", state="fp32", planes=("param_hi:2", "param_lo:2", "exp_avg:4", "exp_avg_sq:4"),
             linked=False):
    """A checkpoint's manifest and, after 0xff, its shard's index, without their seals; `linked`: of segment files."""
    listed = [{"name": name, "bytes_per_block": int(size), "elements_per_block": 1, "of_frozen_parameters": i == 0}
              for i, (name, size) in enumerate(plane.split(":") for plane in planes)]
    head = {"kind": "spillway checkpoint", "format_version": 2 if linked else 1, "step": 3, "seed": 1,
            "samples_seen": 12, "world_size": 1, "dtype": dtype, "optimizer": "AdamW", "state_dtype": state,
            "model": None, "training": {"context": "64"}, "planes": listed,
            "parameters": [{"name": "a.b", "shape": [2, 8], "frozen": False},
                           {"name": "c", "shape": [4], "frozen": True}],
            "shards": [{"index": "rank-0000.json", "size_bytes": 9, "checksum": "0123456789abcdef"}]}
    index = {"kind": "spillway shard index", "rank": 0, "block_bytes": 262144,
             "files": [{"name": "rank-0000.bin", "size_bytes": 320, "checksums": ["0123456789abcdef"]}],
             "extents": [{"elements": 16, "segments": [[0, 0, 0, 16]],
                          "planes": [[0, 64 * i] for i in range(len(planes))]},
                         {"elements": 4, "segments": [[1, 0, 0, 4]], "planes": [[0, 256]]}]}
    if linked:
        index["plane_checksum"] = "aes-4x128 xxh3-64 of tile, plane, generation, block"
        del index["files"][0]["checksums"]
        whole, frozen = index["extents"]
        whole["checksums"] = plane_sums([16 * plane["bytes_per_block"] for plane in listed])
        frozen["checksums"] = plane_sums([4 * listed[0]["bytes_per_block"]])
    return b"\xff".join(json.dumps(part, indent=1).removesuffix("\n}").encode() for part in (head, index))


def saved_manifest(planes, elements, segments, tiles):
    """A manifest of saved tiles without its head; `planes`: name, bytes and elements of a block, bytes of a checksum's
    block; `tiles`: tile, file, offset, generation, checksums of all planes."""
    def text(value):
        return struct.pack("<I", len(value)) + value

    body = text(b"aes-4x128 xxh3-64 of tile, plane, generation, block") + struct.pack("<I", len(planes))
    body += b"".join(text(name) + struct.pack("<IIQ", *sizes) for name, *sizes in planes)
    for numbers in (elements, segments):
        body += struct.pack(f"<I{len(numbers)}Q", len(numbers), *numbers)
    body += struct.pack("<I", len(tiles))
    for *place, sums in tiles:
        body += struct.pack(f"<IIQI{len(sums)}Q", *place, *sums)
    return body


def proc_files():
    """The files memory_limits reads, in the order of its list, parted by 0xff."""
    status = b"Name:\tx\nVmLck:\t 12 kB\nVmPin:\t 20 kB\nCapEff:\t000001ffffffffff\nHugetlbPages:\t 4096 kB\n"
    limits = b"Limit  Soft Limit  Hard Limit  Units\nMax locked memory  8388608  unlimited  bytes\n"
    meminfo = b"MemAvailable: 1048576 kB\nHugePages_Free: 6\nHugePages_Rsvd: 2\nHugepagesize: 2048 kB\n"
    rest = [b"         0          0 4294967295\n", b"4:memory:/a\n0::/a\n",
            b"35 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,memory_hugetlb_accounting\n",
            b"1048576\n", b"4096\n", b"inactive_file 100\nactive_file 50\n", b"max\n"]
    return b"\xff".join([status, limits, meminfo, *rest])


def seeds():
    trainer = ROOT / "trainer"
    formats = trainer / "checkpoint" / "format"
    demo = (ROOT / "tools" / "demo" / "nvme.json").read_bytes()
    text = b"To be, or not to be, that is the question.\n"
    journal = (b"spillway-lock 1 123\n+spillway-a.seg\n+spillway-b.seg\n-spillway-a.seg\n"
               b"+spillway-folder.seg\n+spillway-link.seg\n+d.seg\n")
    moves = [bytes((i * 37 + j * 11) % 256 for i in range(200 + 300 * j)) for j in range(8)]
    files = {
        "config": [demo, CONFIG, CONFIG + b"\0aio.queue_depth=4\0optimizer.params.lr=auto", b"{}", b"{}\0seed=\xff"],
        "gpt_config": [GPT, b"{}"],
        "token_file": [b"\0" + text, b"\0" + llmc(20240520, 1, 3, b"\1\0\2\0\3\0"),
                       b"\2" + llmc(20240801, 7, 2, b"\1\0\0\0\2\0\0\0"), b"\3\1\0\2\0", b"\4" + text],
        "safetensors": [safetensors(), safetensors(("a", "F32", [2, 2], 16), ("b.c", "BF16", [3], 6)),
                        safetensors(("a", "F16", [0, 9], 0), ("b", "BOOL", [], 1), ("c", "F32", [0], 0), metadata="")],
        "checkpoint_manifest": [manifest(), manifest("fp32", "bf16", ("param:4", "exp_avg:2", "exp_avg_sq:2")),
                                manifest(linked=True)],
        "lock_journal": [journal, journal + b"+../x", b"not ours\n", b""],
        "memory_limits": [proc_files(), proc_files().replace(b"cgroup2 cgroup2 rw,", b"cgroup cgroup rw,memory,")],
        "saved_manifest": [saved_manifest([(b"k", 4, 1, 131072)], [], [], []),
                           saved_manifest([(b"k", 4, 1, 131072), (b"s", 4, 256, 512)], [5000, 9, 7], [49152],
                                          [(0, 0, 16384, 3, [1, 2]), (2, 0, 0, 4, [5, 6])])],
        "stripe_manifest": moves,
        "bench_files": [demo, CONFIG, RESULT, b'{"aio": {"intra_op_parallelism": 2, "use_gds": false}, "a": [1]}'],
        "requests": moves,
        "tile_store": moves,
    }
    words = {
        "config": quoted((trainer / "config").rglob("*.cc")) + ["auto", "true", "false", "null", "1e9"],
        "gpt_config": quoted([trainer / "models" / "gpt2" / "config.cc"]),
        "safetensors": [*quoted([trainer / "files" / "safetensors_header.cc"]),
                        "4611686018427387904", "18446744073709551615"],
        "checkpoint_manifest": quoted([formats / "manifest.cc", formats / "shard_index.cc"]),
        "bench_files": quoted((ROOT / "tools" / "aio_bench").glob("*.cc")),
        "lock_journal": ["spillway-lock 1 ", "\\x0a+", "\\x0a-", "spillway-a.seg", "spillway.lock", "..", ".seg"],
        "memory_limits": ["VmLck:", "VmPin:", " kB", "CapEff:", "Max locked memory", "max", "cgroup2", "memory", " - "],
    }
    return files, words


def main():
    folder = Path(sys.argv[1])
    files, words = seeds()
    for target, contents in files.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            (folder / target / str(number)).write_bytes(content)
    for target, entries in words.items():
        (folder / f"{target}.dict").write_text("".join(f'"{entry}"\n' for entry in entries), encoding="utf-8")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""`spillway export` and `train --init-from`: a GPT-2 that others read with the same logits, and that comes back
exactly."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import program
from gpt2_reference import Gpt2, gelu_erf, read_file, read_model, values, write_file
from hugging_face import HuggingFace, Unavailable
from program import EndToEndTest, read_metrics

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
from small_filesystem import small_filesystem

# Weights and norms that make a mistake in gelu, epsilon or scale show in the loss.
MODEL = {"n_layer": 2, "n_embd": 32, "n_head": 4, "n_positions": 24, "vocab_size": 256, "tie_word_embeddings": False,
         "layer_norm_epsilon": 1e-2, "initializer_range": 0.3}
PROJECTION = "transformer.h.1.mlp.c_fc.weight"
STILL = ("--set", "optimizer.params.lr=0")  # a step that changes no weight
TOLERANCE = 5e-7  # of fp32 sums in another order, relative


class ExportTest(EndToEndTest):
    model = MODEL

    def setUp(self):
        super().setUp()
        self.held_out = self.write("held-out.txt", self.text.read_text()[:MODEL["n_positions"] + 1])
        self.evaluating = ("--eval-data", self.held_out, "--eval-samples", 1)

    def command(self, *options, steps=4):
        """With --init-from there is no --model, unless the test gives one."""
        command = super().command(*options, steps=steps)
        if "--init-from" in command and command.count("--model") == 1 and "--model" not in options:
            place = command.index("--model")
            del command[place:place + 2]
        return command

    def run_train(self, *options, steps=1, environment=None):
        done = self.finish(self.start(*options, steps=steps, environment=environment))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.left_over(), [])
        return done

    def trained(self, name, *options, steps=2):
        """A checkpoint's directory, and the loss of its weights on the held-out text."""
        metrics = self.folder / f"{name}.jsonl"
        self.run_train(*self.evaluating, "--metrics", metrics, "--checkpoint-dir", self.folder / name, *options,
                       steps=steps)
        return self.folder / name, read_metrics(metrics)[-1]["eval_loss"]

    def export(self, saved, out, *options, code=0):
        done = subprocess.run([program.PROGRAM, "export", str(saved), "--out", str(out), *map(str, options)],
                              capture_output=True, text=True, timeout=program.TIMEOUT_S)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(list(self.folder.glob("*.tmp")), [])
        return done

    def exported(self, name, *options, **training):
        """A trained and exported model: its directory and the held-out loss."""
        saved, loss = self.trained(name, **training)
        self.export(saved, self.folder / f"{name}-model", *options)
        return self.folder / f"{name}-model", loss

    def tokens(self):
        return list(self.held_out.read_bytes())


class LayoutTest(ExportTest):
    def test_a_plain_gpt2_has_the_same_loss(self):
        for tied in (False, True):
            with self.subTest(tied=tied):
                model = self.write(f"{tied}.json", json.dumps(MODEL | {"tie_word_embeddings": tied}))
                saved, loss = self.trained(f"saved-{tied}", "--model", model, "--set", "bf16.enabled=false", steps=6)
                self.export(saved, self.folder / f"model-{tied}", "--max-shard-size", "20KB" if tied else "1GB")
                config, tensors = read_model(self.folder / f"model-{tied}")
                self.assertEqual("lm_head.weight" in tensors, not tied)
                self.assertEqual(tensors[PROJECTION][1], [32, 128])
                reference = Gpt2(config, tensors).loss(self.tokens())
                other = Gpt2(config, tensors, gelu=gelu_erf).loss(self.tokens())
                print(f"tied {tied}: held-out loss {loss:.7f}, by a plain GPT-2 {reference:.7f}, erf {other:.7f}")
                self.assertLess(abs(reference - loss), TOLERANCE * loss)
                self.assertGreater(abs(other - loss), 2 * TOLERANCE * loss, "another gelu would pass too")

    def test_bf16_is_the_upper_half(self):
        saved, _ = self.trained("saved")
        self.export(saved, self.folder / "fp32")
        self.export(saved, self.folder / "bf16", "--dtype", "bf16")
        full, half = (read_file(self.folder / name / "model.safetensors") for name in ("fp32", "bf16"))
        self.assertEqual(list(full), list(half))
        for name, (dtype, shape, data) in half.items():
            self.assertEqual((dtype, shape), ("BF16", full[name][1]))
            masters = struct.unpack(f"<{len(full[name][2]) // 4}I", full[name][2])
            self.assertEqual(data, struct.pack(f"<{len(masters)}H", *((bits + 0x8000) >> 16 for bits in masters)))
        for name, dtype in (("fp32", "float32"), ("bf16", "bfloat16")):
            self.assertEqual(json.loads((self.folder / name / "config.json").read_text())["torch_dtype"], dtype)

    def test_safetensors_reads_it(self):
        try:
            python = HuggingFace.with_safetensors()
        except Unavailable as reason:
            self.skipTest(str(reason))
        model, _ = self.exported("saved", "--max-shard-size", "50KB")
        files = sorted(model.glob("*.safetensors"))
        self.assertGreater(len(files), 1)
        script = ("import sys, safetensors\n"
                  "for path in sys.argv[1:]:\n"
                  "    for name, tensor in safetensors.deserialize(open(path, 'rb').read()):\n"
                  "        print(name, tensor['dtype'], *tensor['shape'], bytes(tensor['data']).hex())\n")
        read = subprocess.run([python, "-c", script, *files], capture_output=True, text=True, check=True,
                              timeout=program.TIMEOUT_S).stdout
        expected = "".join(f"{name} {dtype} {' '.join(map(str, shape))} {data.hex()}\n" for path in files
                           for name, (dtype, shape, data) in read_file(path).items())
        self.assertEqual(sorted(read.splitlines()), sorted(expected.splitlines()))

    def test_transformers_has_the_same_logits(self):
        try:
            face = HuggingFace.with_transformers()
        except Unavailable as reason:
            self.skipTest(str(reason))
        for tied in (False, True):
            model_file = self.write("model.json", json.dumps(MODEL | {"tie_word_embeddings": tied}))
            saved, loss = self.trained(f"saved-{tied}", "--model", model_file, "--set", "bf16.enabled=false")
            model = self.folder / f"model-{tied}"
            self.export(saved, model, "--max-shard-size", "50KB" if tied else "5GB")
            told = face.forward(model, self.tokens())
            print(f"tied {tied}: held-out loss {loss:.7f}, by transformers {told['loss']:.7f}")
            self.assertLess(abs(told["loss"] - loss), TOLERANCE * loss)
            for ours, theirs in zip(Gpt2(*read_model(model)).logits(self.tokens()[:-1]), told["logits"]):
                for one, other in zip(ours, theirs):
                    self.assertAlmostEqual(one, other, delta=1e-4)
            # What transformers writes, of this and of the bare model, begins a training with these weights.
            for written in (told["saved"], told["saved_bare"] if tied else told["saved"]):
                metrics = self.folder / "again.jsonl"
                self.run_train("--init-from", written, *self.evaluating, "--metrics", metrics, *STILL,
                               "--set", "bf16.enabled=false")
                self.assertEqual(read_metrics(metrics)[-1]["eval_loss"], loss)


class InitFromTest(ExportTest):
    def test_the_round_trip_is_exact_in_every_mode(self):
        model, loss = self.exported("saved")
        expected = (model / "model.safetensors").read_bytes()
        for param, optimizer in (("none", "none"), ("cpu", "cpu"), ("none", "nvme"), ("nvme", "nvme")):
            with self.subTest(param=param, optimizer=optimizer):
                name = f"{param}-{optimizer}"
                saved, again = self.trained(name, "--init-from", model, *STILL, "--seed", 5,
                                            *self.offload(param, optimizer), steps=1)
                self.assertEqual(again, loss)
                self.export(saved, self.folder / f"{name}-model")
                self.assertEqual((self.folder / f"{name}-model" / "model.safetensors").read_bytes(), expected)

    def test_two_ranks_take_and_give_the_same(self):
        model, _ = self.exported("saved", "--max-shard-size", "20KB")
        saved = self.folder / "two"
        runs = [self.start("--init-from", model, *STILL, "--checkpoint-dir", saved, *self.offload("nvme", "nvme"),
                           "--set", "train_micro_batch_size_per_gpu=2", steps=1, environment=environment)
                for environment in program.two_ranks()]
        for done in [self.finish(run) for run in runs]:
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(list((saved / "step-00000001").glob("rank-*.json"))), 2)
        self.export(saved, self.folder / "again", "--max-shard-size", "20KB")
        for path in model.iterdir():
            self.assertEqual((self.folder / "again" / path.name).read_bytes(), path.read_bytes())

    def test_half_precision_comes_in_exactly(self):
        """bf16 and fp16 values, names with and without the prefix: each becomes the fp32 value it stands for."""
        source, _ = self.exported("saved")
        tensors = read_file(source / "model.safetensors")
        for dtype, letter in (("F16", "e"), ("BF16", None)):
            for prefix in ("transformer.", ""):
                model = self.folder / f"{dtype}{prefix}"
                model.mkdir()
                shutil.copy(source / "config.json", model)
                given = {}
                for name, (_, shape, data) in tensors.items():
                    numbers = struct.unpack(f"<{len(data) // 4}f", data)
                    packed = (struct.pack(f"<{len(numbers)}{letter}", *numbers) if letter else
                              b"".join(data[at + 2:at + 4] for at in range(0, len(data), 4)))
                    given[name.replace("transformer.", prefix)] = (dtype, shape, packed)
                write_file(model / "model.safetensors", given)
                saved, _ = self.trained(f"{dtype}{prefix}saved", "--init-from", model, *STILL, steps=1)
                self.export(saved, self.folder / f"{dtype}{prefix}again")
                again = read_file(self.folder / f"{dtype}{prefix}again" / "model.safetensors")
                for name, tensor in again.items():
                    self.assertEqual(values(tensor), values(given[name.replace("transformer.", prefix)]), name)

    def test_training_goes_on_from_them_and_a_checkpoint_counts_first(self):
        model, loss = self.exported("saved")
        saved = self.folder / "tuned"
        out = self.run_train("--init-from", model, "--checkpoint-dir", saved, steps=2).stdout
        self.assertIn(f"weights of {model}: 29 tensors of F32 in 1 file", out)
        # The files may go: what is resumed has its weights.
        (model / "model.safetensors").unlink()
        out = self.run_train("--init-from", model, "--checkpoint-dir", saved, steps=3).stdout
        self.assertIn("is not used: the checkpoint has the weights", out)
        self.assertIn("resumed", out)
        self.assert_refused(self.finish(self.start("--init-from", model, steps=1)), "neither model.safetensors nor")

    def test_what_contradicts_is_refused(self):
        model, _ = self.exported("saved")
        other = self.write("other.json", json.dumps(MODEL | {"n_layer": 3, "layer_norm_epsilon": 1e-5}))
        self.assert_refused(self.finish(self.start("--init-from", model, "--model", other)), "n_layer is 2 there and 3",
                            "layer_norm_epsilon is 0.01 there and 1e-05")
        same = self.write("same.json", json.dumps(MODEL | {"attn_pdrop": 0.5}))
        self.run_train("--init-from", model, "--model", same)
        self.assert_refused(self.finish(self.start("--init-from", model, "--context", 25)), "n_positions")
        for change, text in (({"n_layer": 3}, "there is no tensor 'transformer.h.2.ln_1.weight'"),
                             ({"vocab_size": 255}, "'transformer.wte.weight' has the shape [256,32]"),
                             ({"activation_function": "relu"}, "gelu_new"), ({"model_type": "llama"}, "gpt2"),
                             ({"n_inner": 64}, "n_inner")):
            with self.subTest(change=change):
                config = json.loads((model / "config.json").read_text())
                changed = self.folder / "changed"
                shutil.copytree(model, changed, dirs_exist_ok=True)
                (changed / "config.json").write_text(json.dumps(config | change))
                self.assert_refused(self.finish(self.start("--init-from", changed)), text)
        data = (model / "model.safetensors").read_bytes()
        (model / "model.safetensors").write_bytes(data[:-1])
        self.assert_refused(self.finish(self.start("--init-from", model)), "model.safetensors", "out of the file")
        self.assert_refused(self.finish(self.start("--init-from", self.folder / "none")), "No such file",
                            "nothing is fetched from the Hugging Face hub")


class RefusalTest(ExportTest):
    def test_what_is_not_whole_or_in_the_way_is_refused(self):
        saved, _ = self.trained("saved")
        (self.folder / "there").mkdir()
        self.assertIn("exists already", self.export(saved, self.folder / "there", code=1).stderr)
        self.assertIn("No such file", self.export(saved, self.folder / "none" / "model", code=1).stderr)
        self.assertIn("No such file", self.export(self.folder / "none", self.folder / "model", code=1).stderr)
        shard = saved / "step-00000002" / "rank-0000.bin"
        data = bytearray(shard.read_bytes())
        data[200] ^= 1
        shard.write_bytes(data)
        done = self.export(saved, self.folder / "model", code=1)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn("rank-0000.bin", done.stderr)
        self.assertIn("is not what was written", done.stderr)
        self.assertFalse((self.folder / "model").exists())

    def test_a_full_disk_is_told_before_anything_is_written(self):
        mount = small_filesystem(self, self.folder, 20)
        wide = self.write("wide.json", json.dumps(MODEL | {"n_embd": 768}))
        saved, _ = self.trained("saved", "--model", wide, steps=1)
        done = self.export(saved, mount / "model", code=1)
        self.assertIn("the export needs", done.stderr)
        self.assertEqual([path for path in mount.iterdir() if path.name != "lost+found"], [])
        self.export(saved, mount / "model", "--dtype", "bf16", "--max-shard-size", "1KB", code=1)
        self.assertTrue(os.access(mount, os.W_OK))

    def test_what_a_killed_export_left_is_room_for_the_next(self):
        mount = small_filesystem(self, self.folder, 20)
        saved, _ = self.trained("saved", steps=1)
        (mount / "model.tmp").mkdir()
        with open(mount / "model.tmp" / "model.safetensors", "wb") as left:
            os.posix_fallocate(left.fileno(), 0, os.statvfs(mount).f_bavail * os.statvfs(mount).f_frsize - (256 << 10))
        self.export(saved, mount / "model")
        self.assertEqual(sorted(path.name for path in mount.iterdir()), ["lost+found", "model"])


if __name__ == "__main__":
    program.main()

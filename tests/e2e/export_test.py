#!/usr/bin/env python3
"""`spillway export` and `train --init-from`: a GPT-2 that others read with the same logits, and that comes back
exactly."""

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import program
from gpt2_reference import Gpt2, gelu_erf, read_file, read_model, values, write_file
from hugging_face import HuggingFace, Unavailable
from program import EndToEndTest, read_metrics

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
from small_filesystem import SmallFilesystem, small_filesystem

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
        self.assert_refused(self.finish(self.start("--init-from", self.folder / "none")), "No such file")


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


class UnfinishedTest(ExportTest):
    """An export that does not come to its end: nothing that looks complete is left, and the next one works."""
    model = MODEL | {"n_embd": 256}  # 1.7 M parameters: some twenty files of at most 300 kB or one tensor

    def setUp(self):
        super().setUp()
        self.saved, _ = self.trained("saved", steps=1)
        self.export(self.saved, self.folder / "whole", "--max-shard-size", "300KB")
        self.files = len(list((self.folder / "whole").iterdir()))
        self.assertGreater(self.files, 12)

    def begin(self, out, *before):
        run = subprocess.Popen([*before, program.PROGRAM, "export", str(self.saved), "--out", str(out), "--max-shard-size",
                                "300KB"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        self.addCleanup(self.end, run)
        return run

    def begin_and_stop(self, out, files):
        """An export that stands still when it has made so many of its files, or a few more."""
        unfinished = out.with_name(out.name + ".tmp")
        for _ in range(50):
            run = self.begin(out)
            while run.poll() is None and len(list(unfinished.glob("*"))) < files:
                pass  # whoever sleeps here may sleep through it all
            if run.returncode is None:
                run.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, run.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                if files <= len(list(unfinished.glob("*"))) < self.files:
                    return run
            run.send_signal(signal.SIGCONT)
            self.assertEqual(self.finish(run).returncode, 0)
            shutil.rmtree(out)
        self.fail("each was done before it could be stopped")

    def assert_refused_by_name(self, done, *texts):
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for text in ("spillway export: ", *texts):
            self.assertIn(text, done.stderr)

    def assert_works(self, out):
        self.export(self.saved, out, "--max-shard-size", "300KB")
        self.assertFalse(out.with_name(out.name + ".tmp").exists())
        self.assertEqual(sorted(path.name for path in out.iterdir()),
                         sorted(path.name for path in (self.folder / "whole").iterdir()))
        for path in out.iterdir():
            self.assertEqual(path.read_bytes(), (self.folder / "whole" / path.name).read_bytes())

    def test_a_disk_that_fills_half_way(self):
        disk = SmallFilesystem(self, self.folder, 60)
        run = self.begin_and_stop(disk.path / "model", files=3)
        with open(disk.path / "others", "wb", buffering=0) as others:
            disk.fill(others.fileno())
        run.send_signal(signal.SIGCONT)
        self.assert_refused_by_name(self.finish(run), "No space left on device", "model.tmp/")
        self.assertEqual(sorted(os.listdir(disk.path)), ["lost+found", "others"])
        (disk.path / "others").unlink()
        self.assert_works(disk.path / "model")

    def test_a_disk_whose_names_run_out_half_way(self):
        disk = SmallFilesystem(self, self.folder, 60)
        (disk.path / "names").mkdir()
        for number in range(os.statvfs(disk.path).f_ffree - 8):
            (disk.path / "names" / str(number)).touch()
        self.assert_refused_by_name(self.finish(self.begin(disk.path / "model")), "create", "No space left on device",
                                    "model.tmp/")
        self.assertEqual(sorted(os.listdir(disk.path)), ["lost+found", "names"])
        shutil.rmtree(disk.path / "names")
        self.assert_works(disk.path / "model")

    def test_kill_half_way(self):
        model, unfinished = self.folder / "model", self.folder / "model.tmp"
        for files in (1, 5, 12):
            run = self.begin_and_stop(model, files)
            run.kill()
            run.communicate()
            self.assertFalse(model.exists())
            self.assertTrue(unfinished.exists())
            self.assert_refused(self.finish(self.start("--init-from", unfinished, steps=1)), "model.tmp")
            self.assert_works(model)
            shutil.rmtree(model)

    def test_what_another_export_writes_is_left_alone(self):
        model, unfinished = self.folder / "model", self.folder / "model.tmp"
        run = self.begin_and_stop(model, files=3)
        self.assert_refused_by_name(self.finish(self.begin(model)), "another export is writing there")
        run.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(run).returncode, 0)
        self.assertFalse(unfinished.exists())
        shutil.rmtree(model)
        unfinished.mkdir()
        (unfinished / "mine.txt").write_text("not an export's")
        self.assert_refused_by_name(self.finish(self.begin(model)), "holds files that are no export's")
        self.assertEqual([path.name for path in unfinished.iterdir()], ["mine.txt"])
        shutil.rmtree(unfinished)
        self.assert_works(model)

    def test_one_that_is_overtaken_before_it_has_locked_gives_way(self):
        if shutil.which("strace") is None:
            self.skipTest("strace is not installed")
        model, unfinished = self.folder / "model", self.folder / "model.tmp"
        # It stops when it has made and opened the directory. The second takes that for a killed one's.
        strace = self.begin(model, "strace", "-f", "-qq", "-o", "/dev/null", "-P", str(unfinished), "-e", "trace=openat",
                            "-e", "inject=openat:signal=STOP:when=1")
        children = Path(f"/proc/{strace.pid}/task/{strace.pid}/children")
        self.wait_until(lambda: unfinished.exists() or strace.poll() is not None, "the directory")
        self.assertIsNone(strace.returncode, "strace cannot trace here")
        first = int(children.read_text().split()[0])
        self.addCleanup(self.end_traced, strace, first)
        self.wait_until(lambda: Path(f"/proc/{first}/stat").read_text().rsplit(") ", 1)[1][0] in "Tt", "a stop")
        second = self.begin_and_stop(model, files=3)
        os.kill(first, signal.SIGCONT)
        self.assert_refused_by_name(self.finish(strace), "another export is writing there")
        second.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(second).returncode, 0)
        for path in (self.folder / "whole").iterdir():
            self.assertEqual((model / path.name).read_bytes(), path.read_bytes())

    @staticmethod
    def end_traced(strace, pid):
        if strace.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def test_of_several_at_a_time_one_is_done(self):
        model = self.folder / "model"
        for left_by_a_killed_one in (False, True) * 4:
            if left_by_a_killed_one:
                run = self.begin_and_stop(model, files=2)
                run.kill()
                run.communicate()
            done = [self.finish(run) for run in [self.begin(model) for _ in range(4)]]
            self.assertEqual([one.returncode for one in done].count(0), 1, [one.stderr for one in done])
            for one in done:
                if one.returncode != 0:
                    self.assert_refused_by_name(one)
            for path in (self.folder / "whole").iterdir():
                self.assertEqual((model / path.name).read_bytes(), path.read_bytes())
            self.assertFalse((self.folder / "model.tmp").exists())
            shutil.rmtree(model)


if __name__ == "__main__":
    program.main()

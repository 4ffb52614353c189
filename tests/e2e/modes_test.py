#!/usr/bin/env python3
"""The same bits wherever the states live and however they are moved, as the metrics file tells them."""

import itertools

import program
from program import ZERO, EndToEndTest, bits

STEPS = 20
FEW_STEPS = 8


class ModesTest(EndToEndTest):
    def test_nine_pairs_of_offload_give_the_same_bits(self):
        results = {}
        for pair in itertools.product(("none", "cpu", "nvme"), repeat=2):
            results[pair] = self.train(*self.offload(*pair), steps=STEPS)
        expected = results["none", "none"]
        self.assertLess(expected[-1]["loss"], 0.85 * expected[0]["loss"], "it must learn")
        for pair, metrics in results.items():
            with self.subTest(pair=pair):
                self.assertEqual(bits(metrics), bits(expected))
                self.assertEqual("nvme" in pair, metrics[-1]["nvme_read_bytes"] > 0)

    def test_engine_settings_do_not_change_bits(self):
        expected = bits(self.train(steps=FEW_STEPS))
        for settings in (("aio.backend=threads", "aio.block_size=65536", "aio.queue_depth=2"),
                         ("aio.block_size=4096", "aio.queue_depth=1", f"{ZERO}sub_group_size=9999"),
                         ("aio.intra_op_parallelism=2", "aio.queue_depth=64", f"{ZERO}sub_group_size=777")):
            with self.subTest(settings=settings):
                options = [part for setting in settings for part in ("--set", setting)]
                self.assertEqual(bits(self.train(*self.offload("nvme", "nvme"), *options, steps=FEW_STEPS)), expected)

    def test_what_backward_needs_may_wait_anywhere(self):
        places = self.offload("nvme", "nvme")
        expected = bits(self.train(*places, steps=FEW_STEPS))
        for settings in (("activation_checkpointing.cpu_checkpointing=true",),
                         ("activation_checkpointing.device=nvme",),
                         ("activation_checkpointing.enabled=false",),
                         (f"{ZERO}offload_gradients.device=nvme",),
                         ("activation_checkpointing.device=nvme", f"{ZERO}offload_gradients.device=nvme",
                          "train_micro_batch_size_per_gpu=2")):
            with self.subTest(settings=settings):
                options = [part for setting in settings for part in ("--set", setting)]
                self.assertEqual(bits(self.train(*places, *options, steps=FEW_STEPS)), expected)

    def test_evaluation_leaves_training_undisturbed(self):
        places = self.offload("nvme", "nvme")
        expected = self.train(*places, steps=FEW_STEPS)
        held_out = self.write("held-out.txt", program.words(2000, seed=8))
        evaluated = self.train(*places, "--eval-data", held_out, "--eval-every", 3, "--eval-samples", 5,
                               steps=FEW_STEPS)
        self.assertEqual(bits(evaluated), bits(expected))
        self.assertEqual([line["step"] for line in evaluated if "eval_loss" in line], [3, 6, 8])
        self.assertFalse([line for line in expected if "eval_loss" in line])

    def test_the_seed_decides(self):
        first = self.train("--sample", 0, steps=3)
        self.assertEqual(bits(self.train(steps=3)), bits(first))
        self.assertNotEqual(bits(self.train("--seed", 2, steps=3)), bits(first))


if __name__ == "__main__":
    program.main()

#!/usr/bin/env python3
"""Two ranks on one machine: the same bits wherever the states live, and nearly those of one.
Ranks that are lost: lost_rank_test.py."""

import program
from program import CONFIG, EndToEndTest, bits, read_metrics

STEPS = 20
TOLERANCE = 1e-3
BOUND_S = 60


class RanksTest(EndToEndTest):
    def start_ranks(self, *options, steps):
        metrics = self.folder / "metrics.jsonl"
        metrics.unlink(missing_ok=True)
        return [self.start(*options, "--metrics", metrics, "--set", "train_micro_batch_size_per_gpu=2", steps=steps,
                           environment=environment) for environment in program.two_ranks()]

    def train_ranks(self, *options, steps=STEPS):
        for done in [self.finish(run) for run in self.start_ranks(*options, steps=steps)]:
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.left_over(), [])
        metrics = read_metrics(self.folder / "metrics.jsonl")
        self.assertEqual(len(metrics), steps)
        return metrics

    def test_two_ranks_agree_among_themselves_and_with_one(self):
        expected = self.train_ranks()
        for pair in (("cpu", "nvme"), ("nvme", "nvme")):
            with self.subTest(pair=pair):
                self.assertEqual(bits(self.train_ranks(*self.offload(*pair))), bits(expected))
        spilled = self.train_ranks("--set", "activation_checkpointing.device=nvme", "--set",
                                   "zero_optimization.offload_gradients.device=nvme", *self.offload("nvme", "nvme"))
        self.assertEqual(bits(spilled), bits(expected))
        kept = self.train_ranks("--set", "activation_checkpointing.enabled=false", *self.offload("nvme", "nvme"))
        self.assertEqual(bits(kept), bits(expected))
        one = self.train(steps=STEPS)
        for alone, together in zip(one, expected):
            for key in ("loss", "grad_norm"):
                self.assertLess(abs(alone[key] - together[key]), TOLERANCE * alone[key], (key, alone["step"]))
        self.assertNotEqual(bits(one), bits(expected), "one rank ran twice")
        self.assertEqual(CONFIG["train_batch_size"], 4)

    def test_a_mistake_is_told_by_both_ranks(self):
        for done in [self.finish(run, timeout=BOUND_S)
                     for run in self.start_ranks("--set", "train_batch_size=3", steps=1)]:
            self.assert_refused(done, "train_batch_size")

    def test_a_rank_that_is_no_number_of_one_is_refused(self):
        for rank in ("one", "-1", "4294967296"):
            with self.subTest(rank=rank):
                done = self.finish(self.start(steps=1, environment=program.two_ranks()[0] | {"RANK": rank}))
                self.assert_refused(done, f"RANK='{rank}' in the environment is not a number")


if __name__ == "__main__":
    program.main()

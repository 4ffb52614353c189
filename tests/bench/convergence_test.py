#!/usr/bin/env python3
"""convergence.py: what its figures are computed from, and what it refuses."""

import bench_case
from bench_case import BenchTest

# pylint: disable=wrong-import-order (bench_case says where it is)
import convergence


def run_of(held_out):
    """Two steps for each held-out loss, whose training losses are 1 higher."""
    return [step for loss in held_out for step in ({"loss": loss + 1}, {"loss": loss + 1, "eval_loss": loss})]


class ConvergenceTest(BenchTest):
    def test_figures_are_the_last_held_out_loss_and_the_mean_of_the_last_steps(self):
        steps = run_of([5.0] * 10 + [2.0] * 30)
        end, training = convergence.figures(steps)
        self.assertEqual(end, 2.0)
        self.assertAlmostEqual(training, 3.0)

    def test_farthest_has_its_sign_and_leaves_the_first_quarter_out(self):
        exact = run_of([9.0, 4.0, 3.0, 2.0])
        self.assertAlmostEqual(convergence.farthest(run_of([1.0, 4.1, 2.5, 2.2]), exact), -0.5)

    def test_differences_are_to_exact_states_of_the_same_seed(self):
        runs = {("AdamW", states, seed): run_of([4.0, end + seed])
                for seed in (1, 2) for states, end in (("fp32", 1.0), ("bf16", 1.25), ("int8", 1.5))}
        rows = convergence.rows_of("AdamW", runs, [1, 2])
        self.assertEqual([row[4] for row in rows], ["-", "+0.2500 +0.2500", "+0.5000 +0.5000"])
        self.assertAlmostEqual(convergence.noise("AdamW", runs, [1, 2]), 1.0)

    def test_configuration_asks_for_the_optimizer_and_its_states(self):
        optimizer = convergence.config_of("AdamW, beta2 0.999", "int8", 100)["optimizer"]
        self.assertEqual(optimizer["type"], "AdamW")
        self.assertEqual((optimizer["params"]["state_dtype"], optimizer["params"]["betas"]), ("int8", [0.9, 0.999]))

    def test_arguments(self):
        self.assert_refused("--optimizers", "convergence.py", "--optimizers", "Lamb")


if __name__ == "__main__":
    bench_case.main()

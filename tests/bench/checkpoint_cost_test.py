#!/usr/bin/env python3
"""checkpoint_cost.py: what it reads from a run's output, what it refuses, and that it runs."""

import bench_case
from bench_case import BenchTest

# pylint: disable=wrong-import-order (bench_case says where it is)
import checkpoint_cost


class CheckpointCostTest(BenchTest):
    def test_arguments(self):
        self.assert_help("checkpoint_cost.py")
        self.assert_refused("--every", "checkpoint_cost.py", "--every", 0)

    def test_steps_beside_a_save_are_those_between_its_step_and_its_end(self):
        output = ("step 1/5 loss\nstep 2/5 loss\nstep 3/5 loss\n"
                  "saved d/step-00000002 in 1.50 s (training waited 0.010 s)\nstep 4/5 loss\nstep 5/5 loss\n"
                  "saved d/step-00000005 in 0.70 s (training waited 0.700 s)\n")
        self.assertEqual(checkpoint_cost.saves_of(output),
                         [{"step": 2, "seconds": 1.5, "waited": 0.01, "until": 3},
                          {"step": 5, "seconds": 0.7, "waited": 0.7, "until": 5}])
        run = {"output": output, "steps": [{"step": step, "seconds": float(step)} for step in range(1, 6)]}
        self.assertEqual(checkpoint_cost.steps_beside(run), [3.0])


class QuickTest(BenchTest):
    def test_it_runs(self):
        out = self.run_quick("checkpoint_cost.py")
        for form in checkpoint_cost.PLACES:
            self.assertRegex(out, rf"\| {form} \| [\d.]+ \(")


if __name__ == "__main__":
    bench_case.main()

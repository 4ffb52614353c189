#!/usr/bin/env python3
"""A trace of a run: what it holds agrees with what the run counted, and it is valid however the run ends."""

import json
import signal
import subprocess

import program
from program import SMALL, ZERO, EndToEndTest

STEPS = 3
# A step's bytes are moved within it, not behind the next one.
PLAIN = ["--set", f"{ZERO}offload_optimizer.update_order=after_backward"]


class TraceTest(EndToEndTest):
    model = SMALL

    def setUp(self):
        super().setUp()
        self.trace = self.folder / "trace.json"

    def spans(self):
        """The complete events by lane; the text is JSON, or this fails."""
        lanes = {}
        for event in json.loads(self.trace.read_text())["traceEvents"]:
            if event["ph"] == "X":
                lanes.setdefault(event["cat"], []).append(event)
        return lanes

    def draw(self, *options):
        return subprocess.run([program.PROGRAM, "trace", str(self.trace), *options], capture_output=True, text=True)

    def test_reads_and_writes_are_those_that_the_run_counted(self):
        steps = self.train(*self.offload("nvme", "nvme"), *PLAIN, "--trace", self.trace, steps=STEPS)
        lanes = self.spans()
        self.assertEqual([event["name"] for event in lanes["step"]], [f"step {i + 1}" for i in range(STEPS)])
        for lane, counted in (("read", "nvme_read_bytes"), ("write", "nvme_written_bytes")):
            moved = sum(event["args"]["bytes"] for event in lanes[lane])
            self.assertEqual(moved, sum(step[counted] for step in steps), lane)
        for events in lanes.values():
            for event in events:
                self.assertGreaterEqual(event["dur"], 0)

    def test_the_update_hides_behind_forward_and_every_copy_is_seen(self):
        self.train(*self.offload("nvme", "nvme"), "--set", f"{ZERO}offload_optimizer.update_order=forward",
                   "--trace", self.trace, steps=STEPS)
        lanes = self.spans()
        updates = [event for event in lanes["optimizer"] if event["name"].startswith("update")]
        tiles = {(event["name"], event["args"]["tile"]) for event in updates}
        self.assertEqual(len(updates), STEPS * len(tiles))
        computing = {event["tid"] for event in lanes["compute"]}
        self.assertFalse(computing & {event["tid"] for event in updates}, "on a track of its own")
        units = {event["name"].removeprefix("update ") for event in updates}
        self.assertEqual({event["name"].removeprefix("copy ") for event in lanes["copy"]}, units)
        self.assertIn("wait", lanes)

    def test_only_the_steps_asked_for(self):
        steps = self.train(*self.offload("none", "nvme"), *PLAIN, "--trace", self.trace, "--trace-steps", "2-3",
                           steps=4)
        lanes = self.spans()
        self.assertEqual([event["name"] for event in lanes["step"]], ["step 2", "step 3"])
        self.assertEqual(sum(event["args"]["bytes"] for event in lanes["write"]),
                         sum(step["nvme_written_bytes"] for step in steps[1:3]))

    def test_a_run_that_is_interrupted_leaves_a_trace(self):
        run = self.start(*self.offload("nvme", "nvme"), "--trace", self.trace, "--metrics",
                         self.folder / "metrics.jsonl", steps=100_000)
        self.wait_until(lambda: (self.folder / "metrics.jsonl").exists()
                        and (self.folder / "metrics.jsonl").read_text().count("\n") >= 2, "two steps")
        run.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(run).returncode, 130)
        self.assertGreaterEqual(len(self.spans()["step"]), 2)
        self.assertEqual(self.draw().returncode, 0)

    def test_a_run_that_is_killed_or_fails_leaves_valid_json(self):
        run = self.start(*self.offload("nvme", "nvme"), "--trace", self.trace, steps=100_000)
        self.wait_until(self.trace.exists, "the trace")
        run.kill()
        self.finish(run)
        self.assertEqual(self.spans(), {})
        failed = self.finish(self.start("--trace", self.trace, "--set", "optimizer.params.lr=1e38", steps=4))
        self.assertEqual(failed.returncode, 1, failed.stdout)
        self.assertIn("not finite", failed.stderr)
        self.spans()

    def test_the_drawing_and_the_summary(self):
        self.train(*self.offload("nvme", "nvme"), "--trace", self.trace, steps=2)
        picture = self.folder / "trace.svg"
        done = self.draw("-o", str(picture))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2 steps", done.stdout)
        self.assertTrue(picture.read_text().startswith("<svg "))
        summary = json.loads(self.draw("--json").stdout)
        moved = sum(event["args"]["bytes"] for event in self.spans()["read"])
        self.assertEqual(summary["lanes"]["read"]["bytes"], moved)
        self.assertEqual(summary["dropped_spans"], 0)

    def test_mistakes_are_one_line(self):
        mine = self.write("mine.json", "{\"precious\": 1}")
        done = self.finish(self.start("--trace", mine))
        self.assert_refused(done, "left alone")
        self.assertEqual(mine.read_text(), "{\"precious\": 1}")
        self.assert_refused(self.finish(self.start("--trace", self.folder / "none" / "t.json")), "No such file")
        for steps in ("0", "3-2", "1-2-3"):
            done = self.finish(self.start("--trace", self.trace, f"--trace-steps={steps}"))
            self.assert_refused(done, "--trace-steps")
        self.trace.write_text("no trace")
        done = self.draw()
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.trace.write_text('{"traceEvents":[{"ph":"X","cat":"read","name":"r","ts":0,"dur":1}]}')
        done = self.draw("-o", str(mine))
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.assertEqual(mine.read_text(), "{\"precious\": 1}")


if __name__ == "__main__":
    program.main()

#!/usr/bin/env python3
"""Every byte read is verified: one that changes in a tile file during a run ends the run, with its place named."""

import signal

import program
from program import SMALL, ZERO, EndToEndTest

MANY_STEPS = 100_000
ATTEMPTS = 20
OPTIMIZER_PLANES = ("param_lo", "exp_avg", "exp_avg_sq")
AT = 3 * 4096 + 17  # in the third plane's or the first tile's bytes, never in a tile's padding


class CorruptionTest(EndToEndTest):
    model = SMALL

    def test_a_flipped_byte_of_the_weights_ends_the_run(self):
        self.assert_found("weights", ("param_hi",), "forward")

    def test_a_flipped_byte_of_the_optimizer_ends_the_run(self):
        self.assert_found("optimizer", OPTIMIZER_PLANES, "forward")

    def test_a_flipped_byte_among_two_generations_ends_the_run(self):
        """Half of the places are spare at any moment: the flip is in one that is not, sooner or later."""
        self.assert_found("optimizer", OPTIMIZER_PLANES, "backward")

    def assert_found(self, store, planes, order):
        metrics = self.folder / "metrics.jsonl"
        run = self.start(*self.offload("nvme", "nvme"), "--metrics", metrics, "--set", "gradient_clipping=0", "--set",
                         f"{ZERO}offload_optimizer.update_order={order}", steps=MANY_STEPS)
        self.wait_until(lambda: metrics.exists() and metrics.read_text(), "the first step")
        # A tile that was in memory at that moment is written anew: then the flip is gone, and another one is made.
        for _ in range(ATTEMPTS):
            self.flip(run, store)
            before = len(metrics.read_text().splitlines())
            self.wait_until(lambda: run.poll() is not None or len(metrics.read_text().splitlines()) > before + 2,
                            "two steps or the end")
            if run.poll() is not None:
                break
        done = self.finish(run, timeout=30)
        file = f"{self.swap}/spillway-rank-0/spillway-{store}-"
        self.assert_refused(done, "checksum mismatch", "tile ", "plane ", file)
        self.assertTrue(any(plane in done.stderr for plane in planes), done.stderr)

    def flip(self, run, store):
        run.send_signal(signal.SIGSTOP)
        path = next((self.swap / "spillway-rank-0").glob(f"spillway-{store}-*.seg"))
        with open(path, "r+b", buffering=0) as file:
            place = AT + file.seek(0, 2) // 2 // 4096 * 4096
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 0x10]))
        run.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    program.main()

#!/usr/bin/env python3
"""examples/kv_cache: what knowing the order is worth."""

import re

import example
from example import ExampleTest

BLOCKS = 128
GETS = 4 * 2 * 7 * 16
MIB_OF = {"B": 1 / (1 << 20), "KiB": 1 / 1024, "MiB": 1, "GiB": 1024}


class KvCacheTest(ExampleTest):
    def run_cache(self, blocks):
        """Of each policy: hits, read ahead and waited for in percent, MiB read and written. It checks every byte."""
        result = {}
        for line in self.assert_runs(self.folder, blocks).splitlines()[1:]:
            percents = [float(number) for number in re.findall(r"([\d.]+)%", line)]
            self.assertAlmostEqual(sum(percents), 100, delta=0.2)
            sizes = [float(number) * MIB_OF[unit] for number, unit in re.findall(r"([\d.]+) (\w+) (?:read|writ)", line)]
            result[line.split()[0]] = (*percents, *sizes)
        self.assertEqual(self.names(), [])
        return result

    def test_the_schedule_saves_what_lru_moves_again(self):
        result = self.run_cache(48)
        hits, read_ahead, waited, read, written = result["schedule"]
        lru_hits, lru_read_ahead, _, lru_read, lru_written = result["LRU"]
        # LRU keeps the sequence that has every other turn; the rest comes round and is gone.
        self.assertAlmostEqual(lru_hits, 50, delta=5)
        self.assertEqual(lru_read_ahead, 0)
        self.assertGreater(hits, lru_hits + 10)
        self.assertGreater(read_ahead, 90 - hits)
        self.assertLess(waited, 10)
        self.assertLess(read, 0.8 * lru_read)
        self.assertLessEqual(written, lru_written)
        # What is read is what was no hit, a block of 2 MiB each.
        self.assertAlmostEqual(read, (100 - hits) / 100 * GETS * 2, delta=12)

    def test_a_scan_under_lru_hits_nothing(self):
        result = self.run_cache(24)
        self.assertEqual(result["LRU"][0], 0)
        self.assertGreater(result["schedule"][0], 40)

    def test_few_and_many_blocks(self):
        self.run_cache(8)
        for policy, (hits, _, _, read, written) in self.run_cache(BLOCKS).items():
            self.assertEqual((hits, read, written), (100, 0, 0), policy)

    def test_what_cannot_be_done(self):
        self.assert_refused(text="^usage:", code=2)
        self.assert_refused(self.folder, 1, text="^usage:", code=2)
        self.assert_refused(self.folder / "none", text="none: No such file")


if __name__ == "__main__":
    example.main()

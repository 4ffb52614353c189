"""What the tests of the benches of train steps share. Each file is run as FILE PROGRAM [CASE ...]; a skip prints its
reason and ends with 77."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else ""
TIMEOUT_S = 280
sys.path += [str(ROOT / "bench"), str(ROOT / "tests" / "support")]
from cases import main


class BenchTest(unittest.TestCase):
    def bench(self, name, *arguments):
        return subprocess.run([sys.executable, "-B", ROOT / "bench" / name, *map(str, arguments)],
                              capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    def assert_refused(self, text, name, *arguments):
        done = self.bench(name, *arguments)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(text, done.stderr)
        self.assertEqual(done.stdout, "")

    def assert_help(self, name):
        """It says how long it takes, and how to see quickly that it works."""
        done = self.bench(name, "--help")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(" minute", done.stdout)
        self.assertIn("--quick", done.stdout)

    def run_quick(self, name, *arguments):
        """On its small model: what it prints. No bound of time: the machine may be busy."""
        with tempfile.TemporaryDirectory() as folder:
            done = self.bench(name, "--spillway", PROGRAM, "--quick", "--directory", folder, *arguments)
            left = list(Path(folder).iterdir())
        if done.returncode == 77:
            self.skipTest(done.stdout.strip())
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(left, [])
        return done.stdout

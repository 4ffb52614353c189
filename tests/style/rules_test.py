#!/usr/bin/env python3
"""Breaks each house rule in a small tree, and checks that the rule sees it, and sees nothing else."""

import tempfile
import unittest
from pathlib import Path

import rules

CLEAN = {
    "aio/src/a.cc": '#include <liburing.h>\n\n#include "b.h"\n\nint f() { return 1; }\n',
    "aio/src/b.h": "#pragma once\n",
    "trainer/src/t.cc": "#include <ATen/ATen.h>\n#include <spillway/swapper/tier.h>\n",
    "trainer/device/cuda.cc": "#ifdef SPILLWAY_CUDA\nbool f(at::Device d) { return d.is_cuda(); }\n#endif\n",
    "trainer/base/nvtx_range.h": "#ifdef SPILLWAY_CUDA  // is_cuda()\n#endif\n",
    "tests/aio/a_test.cc": "#include <spillway/aio/engine.h>\n",
    "tests/tools/t_test.cc": '#include "tools/t.h"\n',
    "bench/b.cc": '#include "tools/t.h"\n',
    "tools/ok.sh": "#!/usr/bin/env bash\ntrue\n",
}
LONG = "int i;\n\nvoid f(int a,\n       int b) {\n" + "  g();\n" * 70 + "}\n"
IN_CLASS = "class A {\n public:\n  void f() const override {\n" + "    g('}');  // }\n" * 69 + "  }\n};\n"
CONSTRUCTOR = "A::A()\n    : a_{1, {}},\n      b_(2),\n      c_{3} {\n" + "  g();\n" * 66 + "}\n"
IN_TEMPLATE = "template <typename T>\nauto f(T t) noexcept -> std::vector<T> {\n" + '  g("{");\n' * 68 + "}\n"
# Many lines, and no function of 70.
SHORT = ("class A {\n" + " private:\n  int f() { return 1; }\n" * 30 + "};\n"
         "constexpr int kTable[] = {\n" + "    1,\n" * 80 + "};\n"
         "#define MANY(x) {\\\n" + "  x\\\n" * 40 + "  x\n"
         "namespace {\nint g(int = int{}) { return 1'000; }\nstruct B {\n" + "  int i;\n" * 80 + "};\n}\n")
# rule, file, its text, what the breach says
BREACHES = [
    ("includes", "aio/src/x.cc", "#include <spillway/swapper/tier.h>\n", "knows nothing of swapper"),
    ("includes", "aio/src/x.cc", "#include <spillway/pinned_pool/pool.h>\n", "knows nothing of"),
    ("includes", "aio/include/spillway/aio/x.h", "#include <cuda_runtime.h>\n", "not for aio"),
    ("includes", "pinned_pool/src/x.cc", "#include <spillway/swapper/tier.h>\n", "knows nothing"),
    ("includes", "pinned_pool/src/x.cc", "#include <torch/torch.h>\n", "not for pinned_pool"),
    ("includes", "swapper/src/x.cc", "#include <spillway/trainer/data.h>\n", "knows nothing of"),
    ("includes", "swapper/src/x.cc", "#include <liburing.h>\n", "not for swapper"),
    ("includes", "swapper/src/x.cc", "  #  include <ATen/ATen.h>\n", "not for swapper"),
    ("includes", "trainer/src/x.cc", "#include <liburing.h>\n", "not for trainer"),
    ("includes", "trainer/src/x.cc", '#include "../../aio/src/b.h"\n', "no header of trainer"),
    ("includes", "trainer/src/x.cc", '#include "tests/aio/a.h"\n', "nothing in trainer includes tests"),
    ("includes", "swapper/src/x.cc", '#include "tools/t.h"\n', "nothing in swapper includes tools"),
    ("includes", "tools/x.cc", '#include "bench/b.h"\n', "nothing in tools includes bench"),
    ("includes", "bench/x.cc", '#include "../tests/aio/a.h"\n', "nothing in bench includes tests"),
    ("silence", "swapper/src/x.cc", '  std::cerr << "x";\n', "std::cerr"),
    ("silence", "aio/src/x.cc", "  throw 1;\n", "throw"),
    ("silence", "pinned_pool/src/x.cc", "  exit(1);\n", "exit"),
    ("devices", "trainer/states/x.cc", "  if (device.is_cuda()) f();\n", "x.cc:1: is_cuda("),
    ("devices", "trainer/stream/x.h", "bool f() { return !at::kCPU || t.is_cpu(); }\n", "is_cpu("),
    ("devices", "trainer/ranks/x.cc", "#ifdef SPILLWAY_CUDA\n", "SPILLWAY_CUDA"),
    ("devices", "tools/spillway/train/x.cc", "  if (!at::hasCUDA()) f();\n", "hasCUDA"),
    ("devices", "tools/x.cc", "#include <ATen/cuda/CUDAContext.h>\n", "ask trainer/device/device.h"),
    ("devices", "trainer/zero/x.cc", "  at::Device d(at::kCUDA, 1);\n", "kCUDA"),
    ("sizes", "aio/src/x.cc", "int i;\n" * 401, "401 lines"),
    ("sizes", "aio/src/x.h", "int i;\n" * 151, "151 lines"),
    ("sizes", "aio/src/x.cc", "//" + "x" * 99 + "\n", "101 columns"),
    ("sizes", "aio/src/x.cc", LONG, "x.cc:3: function of 73 lines"),
    ("sizes", "aio/src/x.cc", SHORT + LONG, "function of 73 lines"),
    ("sizes", "aio/src/x.h", IN_CLASS, "x.h:3: function of 71 lines"),
    ("sizes", "aio/src/x.cc", CONSTRUCTOR, "x.cc:1: function of 71 lines"),
    ("sizes", "aio/src/x.cc", IN_TEMPLATE, "x.cc:1: function of 71 lines"),
    ("words", "aio/src/x.cc", "// TO" "DO: later\n", "make it an issue"),
    ("scripts", "tools/x.sh", "if true; then\n", "x.sh"),
    ("scripts", "tools/x.py", "def f(:\n", "x.py:1"),
    ("scripts", "x.json", "{,}\n", "x.json"),
    ("formatting", "aio/src/x.cc", "int  f( ) {return 1;}\n", "x.cc:1"),
]
LINKS = [
    ("aio x: tl::expected Threads::Threads $<BUILD_INTERFACE:spillway_build_flags>", []),
    ("trainer x: spillway::swapper Libtorch::cpu", []),
    ("aio x: PkgConfig::hwloc", ["aio x: links PkgConfig::hwloc"]),
    ("pinned_pool x: spillway::swapper", ["pinned_pool x: links spillway::swapper"]),
    ("swapper x: spillway::aio Libtorch::cpu", ["swapper x: links Libtorch::cpu"]),
    ("trainer x: spillway::swapper PkgConfig::liburing", ["trainer x: links PkgConfig::liburing"]),
]


def plant(root, tree):
    (root / ".clang-format").write_text("BasedOnStyle: Google\n")
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


class RulesTest(unittest.TestCase):
    def check(self, rule, tree):
        with tempfile.TemporaryDirectory() as folder:
            plant(Path(folder), tree)
            try:
                return rules.RULES[rule](Path(folder))
            except LookupError as reason:
                self.skipTest(str(reason))

    def test_a_clean_tree_passes(self):
        for rule in rules.RULES:
            with self.subTest(rule):
                self.assertEqual(self.check(rule, CLEAN), [])

    def test_many_lines_that_are_no_function_pass(self):
        self.assertEqual(self.check("sizes", {**CLEAN, "aio/src/x.cc": SHORT}), [])

    def test_every_breach_is_seen(self):
        for rule, name, text, says in BREACHES:
            with self.subTest(f"{rule} {name} {text[:40]}"):
                found = self.check(rule, {**CLEAN, name: text})
                self.assertTrue(found and all(says in breach for breach in found), found)

    def test_links(self):
        for line, expected in LINKS:
            with self.subTest(line):
                self.assertEqual(rules.links([line]), expected)


if __name__ == "__main__":
    unittest.main()

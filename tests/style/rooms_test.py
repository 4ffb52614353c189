#!/usr/bin/env python3
"""Includes what each room must not, in a small tree, and checks that the rule sees it, and sees nothing else."""

import re
import tempfile
import unittest
from pathlib import Path

import rooms

PUBLIC = "trainer/include/spillway/trainer/"
CLEAN = {
    "trainer/CMakeLists.txt": "spillway_static_library(trainer_base SOURCES\n  config/a.cc models/gpt2/config.cc\n  )\n"
                              "spillway_static_library(trainer SOURCES\n  zero/a.cc\n  models/gpt2/model.cc)\n",
    "trainer/config/a.cc": "#include <spillway/trainer/config.h>\n#include <nlohmann/json.hpp>\n"
                           '#include "trainer/kernels/a.h"\n#include "trainer/base/a.h"\n',
    "trainer/config/a.h": "#include <nlohmann/json_fwd.hpp>\n#include <spillway/trainer/failure.h>\n",
    "trainer/kernels/a.h": "#include <spillway/swapper/tier.h>\n",
    "trainer/base/a.h": "#include <vector>\n",
    "trainer/zero/a.h": "#include <ATen/core/Tensor.h>\n",
    "trainer/zero/a.cc": '#include <ATen/ATen.h>\n#include <spillway/trainer/zero.h>\n#include "trainer/zero/a.h"\n',
    "trainer/models/common/norm.h": "#include <ATen/core/Tensor.h>\n",
    "trainer/models/gpt2/config.cc": '#include "trainer/config/a.h"\n',
    "trainer/models/gpt2/model.cc": '#include "trainer/models/common/norm.h"\n#include "trainer/models/gpt2/model.h"\n',
    "trainer/models/gpt2/model.h": '#include "trainer/zero/a.h"\n',
    "trainer/models/registry.cc": '#include "trainer/models/gpt2/model.h"\n',
    PUBLIC + "config.h": "#include <spillway/trainer/failure.h>\n",
    PUBLIC + "failure.h": "#include <spillway/aio/error.h>\n",
    PUBLIC + "zero.h": "#include <spillway/trainer/communicator.h>\n",
    PUBLIC + "communicator.h": "#include <ATen/core/Tensor.h>\n",
    "tools/a.cc": '#include <spillway/trainer/zero_engine.h>\n#include "a.h"\n',
    "examples/own/a.cc": "#include <spillway/trainer/zero_engine.h>\n",
    "bench/a.cc": '#include "trainer/kernels/a.h"\n',
    "tests/trainer/zero/a_test.cc": '#include "trainer/models/gpt2/model.h"\n',
}
# file, what it includes besides, what the breach says
BREACHES = [
    ("trainer/kernels/a.h", '"trainer/config/a.h"', "kernels knows nothing of config"),
    ("trainer/config/a.h", '"trainer/plan/a.h"', "config knows nothing of plan"),
    ("trainer/plan/a.cc", '"trainer/files/a.h"', "plan knows nothing of files"),
    ("trainer/files/a.cc", '"trainer/checkpoint/format/a.h"', "files knows nothing of checkpoint/format"),
    ("trainer/data/a.cc", "<spillway/trainer/config.h>", "data knows nothing of config"),
    ("trainer/ranks/a.cc", '"trainer/states/a.h"', "ranks knows nothing of states"),
    ("trainer/device/a.cc", '"trainer/ranks/a.h"', "device knows nothing of ranks"),
    ("trainer/device/a.cc", '"trainer/states/a.h"', "device knows nothing of states"),
    ("trainer/states/a.cc", '"trainer/stream/a.h"', "states knows nothing of stream"),
    ("trainer/stream/a.cc", "<spillway/trainer/zero.h>", "stream knows nothing of zero"),
    ("trainer/zero/a.cc", "<spillway/trainer/checkpoint_save.h>", "zero knows nothing of checkpoint"),
    ("trainer/checkpoint/format/a.cc", '"trainer/checkpoint/a.h"', "checkpoint/format knows nothing of checkpoint"),
    ("trainer/checkpoint/a.cc", '"trainer/zero/a.h"', "checkpoint knows nothing of zero"),
    ("trainer/models/a.h", "<spillway/trainer/data.h>", "models knows nothing of data"),
    ("trainer/interchange/a.cc", '"trainer/zero/a.h"', "interchange knows nothing of zero"),
    ("trainer/zero/a.cc", '"trainer/run/a.h"', "zero knows nothing of run"),
    # Of a public header: its subject's room counts, on both sides.
    (PUBLIC + "data.h", "<spillway/trainer/config.h>", "data knows nothing of config"),
    (PUBLIC + "zero.h", '"trainer/zero/a.h"', "a public header includes no private one"),
    (PUBLIC + "unknown.h", "<vector>", "is in no room"),
    ("trainer/zero/a.cc", "<spillway/trainer/unknown.h>", "is in no room"),
    ("trainer/zero/a.cc", '"trainer/cellar/a.h"', "is in no room"),
    ("trainer/cellar/a.h", "<vector>", "is in no room"),
    # Families of models.
    ("trainer/models/t5/a.cc", '"trainer/models/gpt2/model.h"', "a family of models"),
    ("trainer/models/common/norm.h", '"trainer/models/gpt2/model.h"', "a family of models"),
    ("trainer/models/a.h", '"trainer/models/gpt2/model.h"', "a family of models"),
    # torch and JSON.
    ("trainer/kernels/a.h", "<torch/torch.h>", "kernels needs no torch"),
    ("trainer/plan/a.cc", "<ATen/ATen.h>", "plan needs no torch"),
    ("trainer/checkpoint/format/a.cc", "<c10/util/Exception.h>", "checkpoint/format needs no torch"),
    (PUBLIC + "config.h", "<ATen/core/Tensor.h>", "config needs no torch"),
    ("trainer/models/gpt2/config.cc", '"trainer/models/gpt2/model.h"',
     "reaches trainer/models/gpt2/model.h -> trainer/zero/a.h -> ATen/core/Tensor.h"),
    ("trainer/config/a.h", "<nlohmann/json.hpp>", "headers name JSON by"),
    # Outside.
    ("tools/a.cc", '"trainer/zero/a.h"', "private to the trainer"),
    ("examples/own/a.cc", '"trainer/zero/a.h"', "private to the trainer"),
]


class RoomsTest(unittest.TestCase):
    def check(self, tree, exceptions=None, rule=rooms.rooms):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in tree.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return rule(Path(folder)) if exceptions is None else rule(Path(folder), exceptions)

    def with_include(self, name, header):
        return {**CLEAN, name: CLEAN.get(name, "") + f"#include {header}\n"}

    def test_a_clean_tree_passes(self):
        self.assertEqual(self.check(CLEAN, {}), [])

    def test_every_breach_is_seen(self):
        for name, header, says in BREACHES:
            with self.subTest(f"{name} {header}"):
                found = self.check(self.with_include(name, header), {})
                self.assertTrue(found, "not seen")
                self.assertTrue(any(name in breach and says in breach for breach in found), found)
                # What reaches torch, or another family, may break a second rule; a third file never breaks one.
                self.assertTrue(all(name in breach or "reaches" in breach for breach in found), found)

    def test_everything_may_include_base_and_run_may_include_everything(self):
        for room in rooms.ROOMS:
            header = '"trainer/base/a.h"'
            self.assertEqual(self.check(self.with_include(f"trainer/{room}/new.cc", header), {}), [], room)
            if room != "run":
                header = f'"trainer/{room}/a.h"'
                self.assertEqual(self.check(self.with_include("trainer/run/a.cc", header), {}), [], room)

    def test_an_exception_lets_one_include_pass(self):
        tree = self.with_include("trainer/states/a.cc", '"trainer/stream/a.h"')
        self.assertEqual(self.check(tree, {"a reason": ["trainer/states/a.cc trainer/stream/a.h"]}), [])
        self.assertEqual(len(self.check(tree, {})), 1)

    def test_an_exception_that_nothing_needs_is_a_breach(self):
        found = self.check(CLEAN, {"a reason": ["trainer/states/a.cc trainer/stream/a.h"]})
        self.assertEqual(len(found), 1)
        self.assertIn("trainer/states/a.cc: trainer/stream/a.h: an exception", found[0])

    def test_each_room_stands_behind_those_it_includes(self):
        done = set()
        for room, behind in rooms.ROOMS.items():
            self.assertLessEqual(set(behind), done, room)
            done.add(room)

    def test_a_room_without_torch_stands_on_rooms_without(self):
        for room in rooms.NO_TORCH:
            self.assertLessEqual(set(rooms.ROOMS[room]), set(rooms.NO_TORCH), room)

    def test_names_of_families(self):
        tree = {"trainer/models/gpt2/model.cc": "add_gpt(GptConfig{});\n",
                "trainer/models/registry.cc": "gpt2_family()\n", "tools/a.cc": "GptConfig c;\n",
                "trainer/data/data.cc": "kNanoGpt;  // nanoGPT\nModelConfigPtr model;\n"}
        self.assertEqual(self.check(tree, {}, rooms.families), [])
        for line in ("GptConfig c;", "// of GPT-2", "add_gpt(model)", "gpt_token_losses()", "Gpt2Weights w;"):
            found = self.check({**tree, "trainer/zero/a.cc": line + "\n"}, {}, rooms.families)
            self.assertTrue(len(found) == 1 and "trainer/zero/a.cc:1:" in found[0], (line, found))
            excepted = {"trainer/zero/a.cc": "a reason"}
            self.assertEqual(self.check({**tree, "trainer/zero/a.cc": line + "\n"}, excepted, rooms.families), [])
        self.assertEqual(len(self.check(tree, {"trainer/zero/a.cc": "a reason"}, rooms.families)), 1)

    def test_what_is_listed(self):
        tree = {"trainer/CMakeLists.txt": "add_library(t config/a.cc)\n", "trainer/config/a.cc": "",
                "tests/trainer/config/CMakeLists.txt": "foreach(test a_test)\n", "tests/trainer/config/a_test.cc": ""}
        self.assertEqual(self.check(tree, rule=rooms.listed), [])
        for name, says in (("trainer/config/b.cc", "trainer/config/b.cc: named in no"),
                           ("tests/trainer/config/b_test.cc", "b_test.cc: named in no"),
                           ("trainer/plan/a.h", "trainer/plan: has no tests/trainer/plan")):
            found = self.check({**tree, name: ""}, rule=rooms.listed)
            self.assertTrue(len(found) == 1 and re.search(re.escape(says), found[0]), found)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""How tests/run.sh takes its argument, and what find_test.py makes of the name of a test."""

import json
import re
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import find_test

RUN = Path(__file__).resolve().parent / "run.sh"
CASES = {"a_test": [("Plain", "Works"), ("Plain", "WorksTwice")], "b_test": [("Typed", "Works"), ("Plain", "InB")]}
# b_test is one test of CTest with all its cases.
CTEST = {"a_test/Plain.Works": ["/b/tests/a_test"], "b_test": ["/b/tests/b_test"], "style/words": ["python3"],
         "e2e/kill_test/test_kills": ["python3", "kill_test.py", "/b/bin/spillway"]}


class ArgumentsTest(unittest.TestCase):
    def run_sh(self, *arguments):
        done = subprocess.run(["bash", RUN, *arguments], capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_help_names_every_way_to_call_it(self):
        code, said, error = self.run_sh("--help")
        self.assertEqual((code, error), (0, ""))
        for text in ("tests/run.sh   ", "--quick", "NAME", "--help"):
            self.assertIn(text, said)
        self.assertNotIn("#", said)

    def test_bad_arguments_get_one_line(self):
        for arguments, says in ((["--qick"], "there is no option --qick"), (["a", "b"], "one argument at most, not 2"),
                                ([""], "name of a test is empty")):
            code, said, error = self.run_sh(*arguments)
            self.assertEqual((code, said), (2, ""))
            self.assertRegex(error, rf"\Atests/run.sh: .*{re.escape(says)}.*\n\Z")


class FindTest(unittest.TestCase):
    def find(self, name):
        outputs = mock.patch.object(find_test, "outputs_in", lambda commands, build: sorted(
            {word.removeprefix("/b/") for command in commands for word in command if word.startswith("/b/")}))
        with outputs, mock.patch.object(find_test, "programs", lambda build: CASES), \
                mock.patch.object(find_test, "ctest_tests", lambda build: CTEST):
            return find_test.find(name, Path("/b"))

    def matched(self, name, names):
        _, expression, _ = self.find(name)
        return [test for test in names if re.search(expression, test)]

    def test_a_case_in_a_process_of_its_own(self):
        targets, _, chosen = self.find("Plain.Works")
        self.assertEqual((targets, chosen), (["a_test"], ""))
        names = ["a_test/Plain.Works", "a_test/Plain.WorksTwice", "a_test/I/Plain.Works/7", "aa_test/Plain.Works"]
        self.assertEqual(self.matched("Plain.Works", names), ["a_test/Plain.Works", "a_test/I/Plain.Works/7"])
        self.assertEqual(self.matched("a_test/I/Plain.Works/7", names), ["a_test/I/Plain.Works/7"])

    def test_a_case_of_a_program_that_is_one_test(self):
        targets, expression, chosen = self.find("Typed.Works")
        self.assertEqual((targets, expression), (["b_test"], "^b_test$"))
        self.assertEqual(chosen.split(":")[0], "Typed.Works")
        self.assertEqual(self.find("b_test/I/Typed.Works/3")[2], "I/Typed.Works/3")

    def test_a_suite_in_two_programs(self):
        targets, expression, chosen = self.find("Plain")
        self.assertEqual(targets, ["a_test", "b_test"])
        for name in ("a_test/Plain.Works", "a_test/Plain.WorksTwice", "b_test"):
            self.assertRegex(name, expression)
        self.assertEqual(chosen.split(":")[0], "Plain.*")

    def test_a_program(self):
        self.assertEqual(self.find("a_test"), (["a_test"], "^a_test(/|$)", ""))

    def test_tests_of_ctest_and_what_their_commands_need(self):
        self.assertEqual(self.find("e2e/kill_test/test_kills"), (["bin/spillway"], "^e2e/kill_test/test_kills$", ""))
        self.assertEqual(self.find("e2e/kill_test"), (["bin/spillway"], "^e2e/kill_test/", ""))
        self.assertEqual(self.find("style"), ([], "^style/", ""))

    def test_an_unknown_name_is_refused_with_what_is_near(self):
        with self.assertRaisesRegex(LookupError, "no test 'Plain.Wroks'; is it .*Plain.Works"):
            self.find("Plain.Wroks")
        with self.assertRaisesRegex(LookupError, "no test 'zzzz'$"):
            self.find("zzzz")
        with self.assertRaises(LookupError):
            self.find("b_test/Plain.Works")  # a case of another program

    def test_cases_are_found_in_the_sources_of_a_program(self):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "x_test.cc"
            source.write_text("TEST(A, B) {}\nTEST_P(C, D) {}\nTYPED_TEST(E,\n           F) {}\n", encoding="utf-8")
            entry = {"file": str(source), "command": f"c++ -o tests/CMakeFiles/x_test.dir/x_test.cc.o -c {source}"}
            (Path(folder) / "compile_commands.json").write_text(json.dumps([entry]), encoding="utf-8")
            self.assertEqual(find_test.programs(Path(folder)), {"x_test": [("A", "B"), ("C", "D"), ("E", "F")]})


if __name__ == "__main__":
    unittest.main()

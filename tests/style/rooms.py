"""The rooms of the trainer: which of its folders may include which. The picture is drawn in docs/architecture.md.

A header belongs to the room of its folder; a public one, to the room of its subject. An exception has a reason, and
is a breach itself once nothing needs it."""

import re
from pathlib import Path

from rules import INCLUDE, SOURCE_SUFFIXES, TORCH, cxx_files, files, lines_of

# Room: the rooms behind it, which it may include beside itself and `base`.
ROOMS = {
    "base": [],
    "kernels": [],
    "config": ["kernels"],
    "plan": ["config", "kernels"],
    "files": ["config"],
    "data": [],
    "device": ["kernels"],
    "ranks": ["device", "kernels"],  # the device says what exchanges its memory
    "states": ["plan", "ranks", "device", "config", "kernels"],
    "stream": ["states", "plan", "device", "kernels"],
    "zero": ["stream", "states", "device", "ranks"],
    "checkpoint/format": ["files", "plan", "kernels"],
    "checkpoint": ["checkpoint/format", "states", "files", "ranks", "plan", "kernels"],
    "models": ["zero", "states", "plan", "config"],
    "interchange": ["models", "checkpoint", "checkpoint/format", "files", "config", "kernels"],
    "run": ["interchange", "models", "checkpoint", "checkpoint/format", "zero", "stream", "states", "device", "ranks",
            "data", "files", "plan", "config", "kernels"],
}
NO_TORCH = ["base", "kernels", "config", "plan", "files", "data", "checkpoint/format"]
# Public header, in trainer/include/spillway/trainer: the room of its subject.
PUBLIC = {
    "checkpoint.h": "checkpoint/format",
    "checkpoint_manifest.h": "checkpoint/format",
    "checkpoint_save.h": "checkpoint",
    "checkpoint_states.h": "checkpoint",
    "communicator.h": "ranks",
    "config.h": "config",
    "config_types.h": "base",
    "data.h": "data",
    "device.h": "device",
    "estimate.h": "plan",
    "failure.h": "base",
    "generate.h": "models",
    "model.h": "models",
    "model_shape.h": "plan",
    "model_units.h": "models",
    "run.h": "run",
    "run_report.h": "run",
    "tensor_map.h": "models",
    "trace.h": "base",
    "unit.h": "states",
    "unit_id.h": "base",
    "weight_export.h": "interchange",
    "zero.h": "zero",
    "zero_engine.h": "zero",
}
# Family, a folder of models/: how its names look.
FAMILY_NAMES = {"gpt2": r"[Gg][Pp][Tt]-?2|Gpt(?:Config|Units)|\b(?:add_)?gpt(?:_\w+)?\b"}
# File: why it may name a family.
FAMILY_EXCEPTIONS = {}
# Why a file may include what the table forbids: "file header" of each.
EXCEPTIONS = {
    "an engine is made from a configuration, and its users name both": [
        "trainer/include/spillway/trainer/zero_engine.h spillway/trainer/config.h",
    ],
    "the program estimates and describes runs by what the trainer plans with": [
        "tools/spillway/estimate/cpu_speed.cc trainer/plan/optimizer_layout.h",
        "tools/spillway/estimate/cpu_speed.cc trainer/plan/step_time.h",
        "tools/spillway/estimate/cpu_speed.cc trainer/plan/update_constants.h",
        "tools/spillway/estimate/machine.h trainer/plan/step_time.h",
        "tools/spillway/estimate/plan.cc trainer/plan/cache_plan.h",
        "tools/spillway/estimate/plan.cc trainer/plan/generation_room.h",
        "tools/spillway/estimate/plan.cc trainer/plan/optimizer_layout.h",
        "tools/spillway/estimate/plan.h trainer/plan/step_time.h",
    ],
}

PUBLIC_FOLDER = "trainer/include/spillway/trainer/"
PUBLIC_NAME = re.compile(r"spillway/trainer/(.+)")
JSON = "nlohmann/json.hpp"


class House:
    """The tree below `root`, and what may be included in it."""

    def __init__(self, root, exceptions):
        self.root = root
        self.exceptions = [tuple(pair.split()) for pairs in exceptions.values() for pair in pairs]
        self.needed = set()
        self.torch_by_file = {}

    def breaches(self):
        found = []
        for path in cxx_files(self.root):
            name = path.relative_to(self.root).as_posix()
            for number, line in enumerate(lines_of(path), 1):
                match = INCLUDE.match(line)
                what = match and self.breach(name, match[2])
                if what and (name, match[2]) in self.exceptions:
                    self.needed.add((name, match[2]))
                elif what:
                    found.append(f"{name}:{number}: {match[2]}: {what}")
        for name in torch_free_sources(self.root):
            way = self.way_to_torch(name)
            if way:
                found.append(f"{name}: is built without torch, but reaches {' -> '.join(way)}")
        found += [f"{name}: {header}: an exception in tests/style/rooms.py that nothing needs"
                  for name, header in self.exceptions if (name, header) not in self.needed]
        return found

    def breach(self, name, header):
        """What is wrong with `header` being included by the file `name`; None: nothing."""
        folder = name.split("/")[0]
        public = PUBLIC_NAME.fullmatch(header)
        private = header.startswith("trainer/")
        if folder in ("bench", "tests"):
            return None
        if folder in ("tools", "examples"):
            return "private to the trainer" if private else None
        if folder != "trainer":
            return None
        room = room_of(name)
        if room not in ROOMS:
            return f"{name} is in no room (tests/style/rooms.py)"
        if re.match(TORCH, header) and room in NO_TORCH:
            return f"{room} needs no torch"
        if header == JSON and not name.endswith(".cc"):
            return "headers name JSON by trainer/config/json_document.h or <nlohmann/json_fwd.hpp>"
        if private and name.startswith(PUBLIC_FOLDER):
            return "a public header includes no private one"
        if public or private:
            return breach_between(name, room, PUBLIC_FOLDER + public[1] if public else header)
        return None

    def way_to_torch(self, name):
        """The headers from the file `name` to one of torch, or None; in the order of inclusion."""
        if name not in self.torch_by_file:
            self.torch_by_file[name] = None
            for header in headers_of(self.root / name):
                public = PUBLIC_NAME.fullmatch(header)
                further = self.way_to_torch(PUBLIC_FOLDER + public[1] if public else header)
                if re.match(TORCH, header) or further:
                    self.torch_by_file[name] = [header, *(further or [])]
                    break
        return self.torch_by_file[name]


def breach_between(name, room, header):
    other = room_of(header)
    if other not in ROOMS:
        return "is in no room (tests/style/rooms.py)"
    if other not in (room, "base", *ROOMS[room]):
        return f"{room} knows nothing of {other}"
    family, theirs = family_of(name), family_of(header)
    if theirs and family != theirs and not (name.endswith("models/registry.cc") or room != "models"):
        return f"only models/registry.cc includes {theirs}, a family of models"
    return None


def room_of(name):
    """The room of a file of trainer, by the longest room that its path begins with."""
    if name.startswith(PUBLIC_FOLDER):
        return PUBLIC.get(name.removeprefix(PUBLIC_FOLDER))
    inner = name.removeprefix("trainer/")
    return max((room for room in ROOMS if inner.startswith(room + "/")), key=len, default=None)


def family_of(name):
    """The family of models that a file belongs to: a folder of models/ other than what they share."""
    match = re.match(r"trainer/models/(\w+)/", name)
    return match[1] if match and match[1] != "common" else None


def headers_of(path):
    if not path.is_file():
        return []
    return [match[2] for match in map(INCLUDE.match, lines_of(path)) if match]


def torch_free_sources(root):
    """Sources of the trainer's libraries that do not link torch: of all but the one named `trainer`."""
    cmake = root / "trainer" / "CMakeLists.txt"
    text = cmake.read_text(encoding="utf-8") if cmake.is_file() else ""
    for library, sources in re.findall(r"^\s*spillway_static_library\((\w+) SOURCES\s([^)]*)\)", text, re.M):
        if library != "trainer":
            yield from (f"trainer/{source}" for source in sources.split())


def rooms(root, exceptions=None):
    return House(root, EXCEPTIONS if exceptions is None else exceptions).breaches()


def families(root, exceptions=None):
    """Nothing of the trainer names a family of models, but for its own folder and the registry."""
    exceptions = FAMILY_EXCEPTIONS if exceptions is None else exceptions
    breaches, needed = [], set()
    for path in cxx_files(root / "trainer") if (root / "trainer").is_dir() else []:
        name = path.relative_to(root).as_posix()
        if name.startswith("trainer/models/registry"):
            continue
        for number, line in enumerate(lines_of(path), 1):
            for family, pattern in FAMILY_NAMES.items():
                match = re.search(pattern, line)
                if match and family_of(name) != family and name in exceptions:
                    needed.add(name)
                elif match and family_of(name) != family:
                    breaches.append(f"{name}:{number}: {match[0]}: a name of {family}, for its folder and the registry")
    return breaches + [f"{name}: an exception of families that nothing needs" for name in exceptions
                       if name not in needed]


def listed(root):
    """Every source is named in the CMake list beside or above it, and every room of the trainer has its tests."""
    breaches = []
    lists = {}
    for path in files(root):
        if path.name == "CMakeLists.txt" or path.suffix == ".cmake":
            lists[path.parent] = lists.get(path.parent, "") + path.read_text(encoding="utf-8")
    for path in cxx_files(root):
        folder = next((parent for parent in path.parents if parent in lists), None)
        if path.suffix not in SOURCE_SUFFIXES or folder is None:
            continue
        name = path.relative_to(folder).with_suffix("").as_posix().removesuffix("_fuzz")
        if not re.search(rf"\b{re.escape(name)}\b", lists[folder]):
            breaches.append(f"{path.relative_to(root)}: named in no CMakeLists.txt")
    for room in ROOMS:
        if (root / "trainer" / room).is_dir() and not (root / "tests" / "trainer" / room).is_dir():
            breaches.append(f"trainer/{room}: has no tests/trainer/{room}")
    return breaches

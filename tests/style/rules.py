"""The house rules that a program can check. Each rule returns its breaches as "path:line: what"."""

import ast
import json
import re
import subprocess
from pathlib import Path

from functions import functions

SOURCE_SUFFIXES = {".cc", ".cu", ".cpp"}
HEADER_SUFFIXES = {".h", ".cuh"}
SKIPPED_FOLDERS = {"build", ".git", ".cache", "__pycache__"}
LAYERS = ["aio", "pinned_pool", "swapper", "trainer"]  # each may use those before it
TORCH = r"(torch|ATen|c10|caffe2)/"
CUDA = r"(cuda|cublas|nccl|nvtx|c10/cuda|ATen/cuda)"
# What a layer's files never include from outside the project.
FORBIDDEN_INCLUDES = {
    "aio": f"{TORCH}|{CUDA}|hwloc|xxhash|hwy/",
    "pinned_pool": f"{TORCH}|{CUDA}|liburing|xxhash|hwy/",
    "swapper": f"{TORCH}|{CUDA}|liburing|linux/io_uring|hwloc|hwy/",
    "trainer": "liburing|linux/io_uring|hwloc",
}
# What a layer's targets may link; the trainer: anything but liburing.
ALLOWED_LINKS = {
    "aio": {"tl::expected", "PkgConfig::liburing"},
    "pinned_pool": {"spillway::aio", "PkgConfig::hwloc", "dl"},
    "swapper": {"spillway::aio", "spillway::pinned_pool", "spillway::swapper", "PkgConfig::xxhash"},
}
# Which folders may include these, besides themselves: a test what it tests, a bench the twin that fio is.
INCLUDED_BY = {"bench": {"tests"}, "tools": {"bench", "tests"}, "tests": set()}
# Files beside trainer/device that name CUDA, and why.
MAY_ASK = {
    "trainer/base/nvtx_range.h",  # what a profiler shows, in builds that have NVTX
    "tools/spillway/doctor/checks.cc",  # says what this build has
}
MAX_LINES = {"source": 400, "header": 150, "function": 70}
MAX_COLUMNS = {"C++": 100, "other": 120}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def files(root):
    """Files of the checkout, sorted; what is built or fetched is not among them."""
    for path in sorted(root.iterdir()):
        if path.name in SKIPPED_FOLDERS:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from files(path)
        elif path.is_file():
            yield path


def cxx_files(root):
    return [f for f in files(root) if f.suffix in SOURCE_SUFFIXES | HEADER_SUFFIXES]


def lines_of(path):
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def includes(root):
    breaches = []
    for path in cxx_files(root):
        folder = path.relative_to(root).parts[0]
        for number, line in enumerate(lines_of(path), 1):
            match = INCLUDE.match(line)
            if match:
                what = breach_of_include(root, path, folder, match[1] == '"', match[2])
                if what:
                    breaches.append(f"{path.relative_to(root)}:{number}: {what}")
    return breaches


def breach_of_include(root, path, folder, quoted, name):
    outside = re.match(r"(?:\.\./)*(bench|tools|tests)/", name)
    if outside and folder not in {outside[1], *INCLUDED_BY[outside[1]]}:
        return f"{name}: nothing in {folder} includes {outside[1]}"
    if folder not in LAYERS:
        return None
    layer = re.match(r"spillway/(\w+)/", name)
    if layer and layer[1] not in LAYERS[: LAYERS.index(folder) + 1]:
        return f"{name}: {folder} knows nothing of {layer[1]}"
    if re.match(FORBIDDEN_INCLUDES[folder], name):
        return f"{name}: not for {folder}"
    # A header of one's own, in the layer's own folder.
    own = [path.parent / name, root / name, root / folder / name, root / folder / "src" / name]
    if quoted and not layer and not any(is_within(f, root / folder) for f in own):
        return f"{name}: no header of {folder}"
    return None


def is_within(path, folder):
    return path.is_file() and folder.resolve() in path.resolve().parents


def links(lines):
    """`lines`: "layer target: library library ..." as CMake wrote them."""
    breaches = []
    for line in lines:
        target, _, libraries = line.partition(":")
        layer = target.split()[0]
        # Generator expressions hold what is meant for the build tree only: our compiler flags.
        linked = {re.sub(r"^(spillway::\w+)_(static|shared)$", r"\1", lib)
                  for lib in libraries.split() if not lib.startswith("$<BUILD_INTERFACE:")}
        allowed = ALLOWED_LINKS.get(layer, linked - {"PkgConfig::liburing"})
        for library in sorted(linked - allowed - {"Threads::Threads"}):
            breaches.append(f"{target}: links {library}")
    return breaches


def silence(root):
    """The three lower layers neither print nor throw nor exit; a failed CHECK alone may."""
    loud = re.compile(
        r"std::(cout|cerr|clog|exit|terminate)\b|\b(printf|fprintf|puts|exit|_exit|abort)\s*\(|\bthrow\b"
    )
    breaches = []
    for path in cxx_files(root):
        relative = path.relative_to(root)
        if relative.parts[0] not in LAYERS[:3] or relative.name == "check.cc":
            continue
        for number, line in enumerate(lines_of(path), 1):
            match = loud.search(line.split("//")[0])
            if match:
                breaches.append(f"{relative}:{number}: {match[0]}: a library is silent")
    return breaches


def devices(root):
    """The trainer and the program ask the seam of devices (trainer/device/device.h), not which kind there is."""
    kinds = re.compile(r"\bis_(cuda|cpu|privateuseone)\s*\(|\bhasCUDA\b|\bSPILLWAY_CUDA\b|\bk(CUDA|PrivateUse1)\b|"
                       r"\b(at|c10|torch)(::|/)cuda\b|\bATen/cuda\b")
    breaches = []
    for path in cxx_files(root):
        name = path.relative_to(root).as_posix()
        if not name.startswith(("trainer/", "tools/")) or name.startswith("trainer/device/") or name in MAY_ASK:
            continue
        for number, line in enumerate(lines_of(path), 1):
            match = kinds.search(line.split("//")[0])
            if match:
                breaches.append(f"{name}:{number}: {match[0]}: ask trainer/device/device.h")
    return breaches


def sizes(root):
    breaches = []
    for path in files(root):
        relative = path.relative_to(root)
        is_cxx = path.suffix in SOURCE_SUFFIXES | HEADER_SUFFIXES
        if not is_cxx and path.suffix not in {".cmake", ".sh", ".py"} and path.name != "CMakeLists.txt":
            continue
        lines = lines_of(path)
        limit = MAX_COLUMNS["C++" if is_cxx else "other"]
        for number, line in enumerate(lines, 1):
            if len(line) > limit:
                breaches.append(f"{relative}:{number}: {len(line)} columns, at most {limit}")
        kind = "header" if path.suffix in HEADER_SUFFIXES else "source"
        if len(lines) > MAX_LINES[kind]:
            breaches.append(f"{relative}: {len(lines)} lines, at most {MAX_LINES[kind]}")
        if is_cxx:
            breaches += long_functions(relative, lines)
    return breaches


def long_functions(relative, lines):
    return [f"{relative}:{first}: function of {count} lines, at most {MAX_LINES['function']}"
            for first, count in functions("\n".join(lines)) if count > MAX_LINES["function"]]


def words(root):
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    breaches = []
    for path in files(root):
        if path.suffix in {".png", ".svg", ".json", ".jsonl"}:
            continue
        for number, line in enumerate(lines_of(path), 1):
            match = marks.search(line)
            if match:
                breaches.append(f"{path.relative_to(root)}:{number}: {match[0]}: do it, or make it an issue")
    return breaches


def scripts(root):
    """Every script and every JSON file can be read by its interpreter."""
    breaches = []
    for path in files(root):
        relative = path.relative_to(root)
        text = path.read_text(encoding="utf-8", errors="replace")
        if text.startswith("#!") and "bash" in text.split("\n", 1)[0] or path.suffix == ".sh":
            result = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
            if result.returncode != 0:
                breaches.append(f"{relative}: {result.stderr.strip()}")
            if not path.stat().st_mode & 0o111 and text.startswith("#!"):
                breaches.append(f"{relative}: not executable")
        try:
            if path.suffix == ".py":
                ast.parse(text)
            if path.suffix == ".json":
                json.loads(text)
        except ValueError as error:  # SyntaxError is not one
            breaches.append(f"{relative}: {error}")
        except SyntaxError as error:
            breaches.append(f"{relative}:{error.lineno}: {error.msg}")
    return breaches


def formatting(root):
    """As clang-format 14 leaves it: other versions differ, so they do not judge."""
    version = subprocess.run(["clang-format", "--version"], capture_output=True, text=True, check=False)
    if "version 14." not in version.stdout:
        raise LookupError(f"wants clang-format 14, there is: {version.stdout.strip() or 'none'}")
    sources = [str(f) for f in cxx_files(root)]
    if not sources:
        return []
    result = subprocess.run(["clang-format", "--dry-run", "-Werror", *sources],
                            capture_output=True, text=True, check=False)
    breaches = [line for line in result.stderr.splitlines() if "error:" in line]
    first_of_file = {line.split(":")[0]: line for line in reversed(breaches)}
    return sorted(first_of_file.values())


RULES = {
    "includes": includes,
    "silence": silence,
    "devices": devices,
    "sizes": sizes,
    "words": words,
    "scripts": scripts,
    "formatting": formatting,
}


def source_root():
    return Path(__file__).resolve().parents[2]

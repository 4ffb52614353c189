// The journal in spillway.lock, as a killed job, or anybody, may leave it. Input: the journal.
// Removed are exactly the plain files that it lists as ours; what else lies there stays.
#include <spillway/aio/check.h>
#include <spillway/swapper/directory_lock.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "support/scratch.h"

namespace spillway::swapper {
namespace {

const char* const kFiles[] = {"spillway-a.seg",
                              "spillway-b.seg",
                              "spillway-.seg",
                              "notes.txt",
                              "spillway-c.txt",
                              "d.seg",
                              "+",
                              "-a"};

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A directory with files of a job, a folder, a link out of it, and a file outside.
void populate(const Scratch& scratch) {
  std::filesystem::create_directories(scratch / "swap/spillway-folder.seg");
  std::ofstream(scratch / "outside") << "outside";
  std::error_code exists;
  std::filesystem::create_symlink(scratch / "outside", scratch / "swap/spillway-link.seg", exists);
  for (const char* name : kFiles) std::ofstream(scratch / (std::string("swap/") + name)) << name;
}

// The names that the journal leaves on its list. A last line without its end was never finished.
std::set<std::string> listed(const std::string& journal) {
  std::set<std::string> names;
  std::istringstream lines(journal.substr(0, journal.rfind('\n') + 1));
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    const std::string name = line.substr(1);
    if (!name.starts_with("spillway-") || !name.ends_with(".seg")) continue;
    if (line.front() == '+') names.insert(name);
    if (line.front() == '-') names.erase(name);
  }
  return names;
}

void expect_only_removed(const Scratch& scratch, const std::set<std::string>& removed) {
  for (const std::string name : kFiles) {
    const std::filesystem::path path = scratch / ("swap/" + name);
    SPILLWAY_CHECK(std::filesystem::exists(path) == !removed.contains(name),
                   removed.contains(name) ? "a leftover stays" : "a file of somebody else is gone");
    SPILLWAY_CHECK(removed.contains(name) || contents(path) == name, "a file was changed");
  }
  SPILLWAY_CHECK(std::filesystem::is_symlink(scratch / "swap/spillway-link.seg"),
                 "the link is gone");
  SPILLWAY_CHECK(std::filesystem::is_directory(scratch / "swap/spillway-folder.seg"),
                 "the folder is gone");
  SPILLWAY_CHECK(contents(scratch / "outside") == "outside", "a file outside was touched");
}

}  // namespace
}  // namespace spillway::swapper

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace spillway::swapper;
  static const spillway::Scratch scratch;
  populate(scratch);
  const std::string journal(reinterpret_cast<const char*>(data), size);
  const std::filesystem::path path = scratch / "swap/spillway.lock";
  std::ofstream(path, std::ios::binary) << journal;
  auto lock = DirectoryLock::acquire(scratch / "swap");
  if (!lock) {
    SPILLWAY_CHECK(lock.error().kind == spillway::ErrorKind::kInvalid, "another kind of error");
    SPILLWAY_CHECK(!journal.empty() && !journal.starts_with("spillway-lock 1 "), "ours, refused");
    SPILLWAY_CHECK(contents(path) == journal, "a foreign file was changed");
    expect_only_removed(scratch, {});
    return 0;
  }
  const std::set<std::string> removed = listed(journal);
  expect_only_removed(scratch, removed);
  SPILLWAY_CHECK(contents(path) == "spillway-lock 1 " + std::to_string(::getpid()) + "\n",
                 "the journal is not ours now");
  // What this lock lists itself goes with it, and nothing else.
  const std::string own[] = {"spillway-own-0.seg", "spillway-own-1.seg"};
  SPILLWAY_CHECK((*lock)->will_create(own).has_value(), "cannot list files");
  for (const std::string& name : own) std::ofstream(scratch / ("swap/" + name)) << name;
  (*lock)->removed({own, 1});
  lock->reset();
  SPILLWAY_CHECK(!std::filesystem::exists(path), "the lock file stays");
  SPILLWAY_CHECK(std::filesystem::remove(scratch / "swap/spillway-own-0.seg"),
                 "removed what was taken off");
  SPILLWAY_CHECK(!std::filesystem::exists(scratch / "swap/spillway-own-1.seg"),
                 "a listed file stays");
  expect_only_removed(scratch, removed);
  return 0;
}

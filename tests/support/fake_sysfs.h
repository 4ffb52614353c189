// Writes a fake sysfs, with block devices laid out as the kernel does.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "scratch.h"

namespace spillway {

class FakeSysfs {
 public:
  FakeSysfs() { std::filesystem::create_directories(path() / "class/block"); }
  std::filesystem::path path() const { return scratch_.path() / "sys"; }

  // Adds a block device in `folder` ("pci0000:00/0000:00:04.0/nvme/nvme0"), found by its name.
  void add_device(const std::string& folder, const std::string& name) const {
    const std::filesystem::path at = path() / "devices" / folder / name;
    std::filesystem::create_directories(at / "queue");
    std::filesystem::create_directory_symlink(std::filesystem::absolute(at),
                                              path() / "class/block" / name);
  }
  void set_node(const std::string& folder, int node) const {
    std::filesystem::create_directories(path() / "devices" / folder);
    std::ofstream(path() / "devices" / folder / "numa_node") << node << '\n';
  }
  // Makes `part` a member of `name`, a device added before.
  void add_part(const std::string& name, const std::string& part) const {
    std::filesystem::create_directories(path() / "class/block" / name / "slaves" / part);
  }

 private:
  Scratch scratch_;
};

}  // namespace spillway

// What a killed save left is removed by the next one, if it is ours and dead, and never else.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <fstream>

#include "saved_fixture.h"

namespace spillway::swapper {
namespace {

// What a killed save leaves has this name, beside the one it was to get.
class LeftoverTest : public SavedTilesTest {
 protected:
  LeftoverTest() : left_(scratch_ / ".saved.spillway-save"), tiles_(store()) {
    std::filesystem::create_directory(left_);
    write_all(*tiles_, 1);
  }
  const std::filesystem::path left_;
  const std::unique_ptr<TileStore> tiles_;
};

TEST_F(LeftoverTest, IsRemovedByTheNextSave) {
  for (const char* name :
       {"segment-00000", "segment-123456", "spillway-tiles", "spillway-save.lock"}) {
    std::ofstream(left_ / name) << "old";
  }
  ASSERT_TRUE(ok(save_tiles(*tiles_, saved_)));
  EXPECT_TRUE(has_versions(*engine_, saved_, {1, 2, 3, 4, 5, 6}));
  EXPECT_THAT(names_in(scratch_.path()), testing::ElementsAre("saved", "swap"));
  EXPECT_EQ(names_in(saved_).size(), 4u);
}

TEST_F(LeftoverTest, StaysWhereForeignFilesAre) {
  const auto refused = [&](const std::string& name) {
    const auto before = names_in(left_);
    expect_error(save_tiles(*tiles_, saved_), ErrorKind::kInvalid, name);
    EXPECT_EQ(names_in(left_), before);
    EXPECT_FALSE(tiles_->sealed(0));
  };
  std::ofstream(left_ / "segment-00000") << "old";
  std::ofstream(left_ / "notes.txt") << "mine";
  refused("notes.txt");
  std::filesystem::remove(left_ / "notes.txt");
  std::ofstream(left_ / "segment-1x") << "mine";
  refused("segment-1x");
  std::filesystem::remove(left_ / "segment-1x");
  std::filesystem::create_directory(left_ / "segment-00001");
  refused("segment-00001");
  std::filesystem::remove(left_ / "segment-00001");
  std::filesystem::create_symlink("/etc/passwd", left_ / "spillway-tiles");
  refused("spillway-tiles");
}

TEST_F(LeftoverTest, OfALivingSaveIsLeftAlone) {
  std::ofstream(left_ / "segment-00000") << "its";
  const auto lock = left_ / "spillway-save.lock";
  std::ofstream(lock).close();
  const int fd = ::open(lock.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::flock(fd, LOCK_EX), 0);
  expect_error(save_tiles(*tiles_, saved_), ErrorKind::kBusy, "another process is saving");
  EXPECT_TRUE(std::filesystem::exists(left_ / "segment-00000"));
  ::close(fd);
  EXPECT_TRUE(ok(save_tiles(*tiles_, saved_)));
}

TEST_F(LeftoverTest, OfAnotherUserOrKindIsLeftAlone) {
  std::ofstream(left_ / "segment-00000") << "its";
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(left_.c_str(), 12345, 12345), 0);
    expect_error(save_tiles(*tiles_, saved_), ErrorKind::kBusy, "belongs to another user");
    EXPECT_THAT(names_in(left_), testing::ElementsAre("segment-00000"));
  }
  std::filesystem::rename(left_, scratch_ / "moved");
  std::filesystem::create_directory_symlink("moved", left_);
  EXPECT_FALSE(save_tiles(*tiles_, saved_)) << "a link leads elsewhere";
  EXPECT_THAT(names_in(scratch_ / "moved"), testing::ElementsAre("segment-00000"));
}

}  // namespace
}  // namespace spillway::swapper

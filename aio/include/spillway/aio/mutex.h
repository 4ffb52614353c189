// Mutex, MutexLock and CondVar: std::mutex and its companions, with annotations that Clang checks.
//
// libstdc++'s mutex has no annotations, so -Wthread-safety cannot tell which lock is held. With
// these the compiler checks what would otherwise be a comment. tests/thread_safety compiles the
// sources with Clang. For other compilers the macros are empty, and the classes cost no more than
// the standard ones. The attributes: https://clang.llvm.org/docs/ThreadSafetyAnalysis.html
// They are here, in the lowest layer, because all layers use them.
#pragma once

#include <spillway/aio/patience.h>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#ifdef __clang__
#define SPILLWAY_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define SPILLWAY_THREAD_ANNOTATION(x)
#endif
// Marks a class as a lock.
#define SPILLWAY_CAPABILITY(name) SPILLWAY_THREAD_ANNOTATION(capability(name))
// Marks a class that holds a lock while it exists.
#define SPILLWAY_SCOPED_CAPABILITY SPILLWAY_THREAD_ANNOTATION(scoped_lockable)
// Marks a member that may be used only under `mutex`.
#define SPILLWAY_GUARDED_BY(mutex) SPILLWAY_THREAD_ANNOTATION(guarded_by(mutex))
// Marks a pointer whose target may be used only under `mutex`.
#define SPILLWAY_PT_GUARDED_BY(mutex) SPILLWAY_THREAD_ANNOTATION(pt_guarded_by(mutex))
// Marks a mutex that is locked before the given ones.
#define SPILLWAY_ACQUIRED_BEFORE(...) SPILLWAY_THREAD_ANNOTATION(acquired_before(__VA_ARGS__))
// Marks a function whose caller holds the mutexes.
#define SPILLWAY_REQUIRES(...) SPILLWAY_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
// Marks a function whose caller does not hold the mutexes.
#define SPILLWAY_EXCLUDES(...) SPILLWAY_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
// Marks a function that locks.
#define SPILLWAY_ACQUIRE(...) SPILLWAY_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
// Marks a function that locks if it returns the first argument.
#define SPILLWAY_TRY_ACQUIRE(...) SPILLWAY_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
// Marks a function that unlocks.
#define SPILLWAY_RELEASE(...) SPILLWAY_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
// Marks a correct function that Clang cannot follow; a comment beside it says why.
#define SPILLWAY_NO_THREAD_SAFETY_ANALYSIS SPILLWAY_THREAD_ANNOTATION(no_thread_safety_analysis)

namespace spillway {

// Mutex: std::mutex as Clang sees it.
class SPILLWAY_CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  // Blocks until the mutex is locked.
  void lock() SPILLWAY_ACQUIRE() { mutex_.lock(); }
  // Locks the mutex if it is free; true if it did.
  bool try_lock() SPILLWAY_TRY_ACQUIRE(true) { return mutex_.try_lock(); }
  // Unlocks the mutex. REQUIRES: this thread holds it.
  void unlock() SPILLWAY_RELEASE() { mutex_.unlock(); }

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

// MutexLock: holds a Mutex while it exists; may unlock and lock it again in between.
class SPILLWAY_SCOPED_CAPABILITY MutexLock {
 public:
  // Locks `mutex`.
  explicit MutexLock(Mutex& mutex) SPILLWAY_ACQUIRE(mutex) : lock_(mutex.mutex_) {}
  ~MutexLock() SPILLWAY_RELEASE() {}
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  // Lock and unlock the mutex in between.
  void lock() SPILLWAY_ACQUIRE() { lock_.lock(); }
  void unlock() SPILLWAY_RELEASE() { lock_.unlock(); }

 private:
  friend class CondVar;
  std::unique_lock<std::mutex> lock_;
};

// CondVar: a std::condition_variable for MutexLock. Clang takes a predicate as a function of its
// own, so it names the mutex that it needs: `[&]() SPILLWAY_REQUIRES(mutex_) { return done_; }`.
// A loop around `wait` needs nothing.
class CondVar {
 public:
  // Blocks until another thread notifies, or spuriously.
  void wait(MutexLock& lock) { changed_.wait(lock.lock_); }
  // Blocks until `reached` returns true. It is called under the lock, which Clang cannot know.
  template <typename Predicate>
  void wait(MutexLock& lock, Predicate reached) SPILLWAY_NO_THREAD_SAFETY_ANALYSIS {
    changed_.wait(lock.lock_, std::move(reached));
  }
  // Blocks until another thread notifies, at most for `time`.
  template <typename Rep, typename Period>
  std::cv_status wait_for(MutexLock& lock, std::chrono::duration<Rep, Period> time) {
    return changed_.wait_for(lock.lock_, time);
  }
  // Blocks until `reached` returns true, at most for `time`; returns its last value.
  template <typename Rep, typename Period, typename Predicate>
  bool wait_for(MutexLock& lock, std::chrono::duration<Rep, Period> time,
                Predicate reached) SPILLWAY_NO_THREAD_SAFETY_ANALYSIS {
    return changed_.wait_for(lock.lock_, time, std::move(reached));
  }
  // Blocks until another thread notifies, at most until `time`.
  template <typename Clock, typename Duration>
  std::cv_status wait_until(MutexLock& lock, std::chrono::time_point<Clock, Duration> time) {
    return changed_.wait_until(lock.lock_, time);
  }
  // Blocks until `reached` returns true, at most until `time`; returns its last value.
  template <typename Clock, typename Duration, typename Predicate>
  bool wait_until(MutexLock& lock, std::chrono::time_point<Clock, Duration> time,
                  Predicate reached) SPILLWAY_NO_THREAD_SAFETY_ANALYSIS {
    return changed_.wait_until(lock.lock_, time, std::move(reached));
  }
  // As wait_until, but time in which this process did not run does not count (see Patience).
  template <typename Predicate>
  bool wait_running_until(MutexLock& lock, std::chrono::steady_clock::time_point time,
                          Predicate reached) SPILLWAY_NO_THREAD_SAFETY_ANALYSIS {
    aio::Patience patience(time);
    while (!reached()) {
      changed_.wait_until(lock.lock_, patience.next_look());
      if (patience.is_over()) return reached();
    }
    return true;
  }
  // Wakes one waiting thread, or all.
  void notify_one() noexcept { changed_.notify_one(); }
  void notify_all() noexcept { changed_.notify_all(); }

 private:
  std::condition_variable changed_;
};

}  // namespace spillway

// Mutex, MutexLock and CondVar: the standard ones, with annotations that Clang checks.
//
// libstdc++'s mutex carries no annotations, so -Wthread-safety cannot see which lock is held. With
// these the compiler proves what a comment would only say: SPILLWAY_GUARDED_BY on a member means
// that it is used under that mutex alone, SPILLWAY_REQUIRES on a function that its caller holds it.
// tests/thread_safety compiles the sources so. Other compilers see empty macros and plain wrappers,
// which cost nothing over std::mutex. In the lowest layer, for all of them lock.
// The names of the attributes: https://clang.llvm.org/docs/ThreadSafetyAnalysis.html
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#ifdef __clang__
#define SPILLWAY_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define SPILLWAY_THREAD_ANNOTATION(x)
#endif
#define SPILLWAY_CAPABILITY(name) SPILLWAY_THREAD_ANNOTATION(capability(name))
#define SPILLWAY_SCOPED_CAPABILITY SPILLWAY_THREAD_ANNOTATION(scoped_lockable)
#define SPILLWAY_GUARDED_BY(mutex) SPILLWAY_THREAD_ANNOTATION(guarded_by(mutex))
#define SPILLWAY_PT_GUARDED_BY(mutex) SPILLWAY_THREAD_ANNOTATION(pt_guarded_by(mutex))
#define SPILLWAY_ACQUIRED_BEFORE(...) SPILLWAY_THREAD_ANNOTATION(acquired_before(__VA_ARGS__))
#define SPILLWAY_REQUIRES(...) SPILLWAY_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define SPILLWAY_EXCLUDES(...) SPILLWAY_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define SPILLWAY_ACQUIRE(...) SPILLWAY_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define SPILLWAY_TRY_ACQUIRE(...) SPILLWAY_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define SPILLWAY_RELEASE(...) SPILLWAY_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
// The function is right though Clang cannot follow it: the comment beside it says why.
#define SPILLWAY_NO_THREAD_SAFETY_ANALYSIS SPILLWAY_THREAD_ANNOTATION(no_thread_safety_analysis)

namespace spillway {

class SPILLWAY_CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() SPILLWAY_ACQUIRE() { mutex_.lock(); }
  bool try_lock() SPILLWAY_TRY_ACQUIRE(true) { return mutex_.try_lock(); }
  void unlock() SPILLWAY_RELEASE() { mutex_.unlock(); }

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

// Holds a Mutex until its end; may let go of it and take it again between.
class SPILLWAY_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) SPILLWAY_ACQUIRE(mutex) : lock_(mutex.mutex_) {}
  ~MutexLock() SPILLWAY_RELEASE() {}
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void lock() SPILLWAY_ACQUIRE() { lock_.lock(); }
  void unlock() SPILLWAY_RELEASE() { lock_.unlock(); }

 private:
  friend class CondVar;
  std::unique_lock<std::mutex> lock_;
};

// As std::condition_variable. A predicate is a lambda of its own for Clang: it says which mutex it
// needs, `[&]() SPILLWAY_REQUIRES(mutex_) { return done_; }`; a loop around `wait` needs nothing.
class CondVar {
 public:
  void wait(MutexLock& lock) { changed_.wait(lock.lock_); }
  // These call `reached` under the lock, which Clang cannot know.
  template <typename Predicate>
  void wait(MutexLock& lock, Predicate reached) SPILLWAY_NO_THREAD_SAFETY_ANALYSIS {
    changed_.wait(lock.lock_, std::move(reached));
  }
  template <typename Rep, typename Period>
  std::cv_status wait_for(MutexLock& lock, std::chrono::duration<Rep, Period> time) {
    return changed_.wait_for(lock.lock_, time);
  }
  template <typename Rep, typename Period, typename Predicate>
  bool wait_for(MutexLock& lock, std::chrono::duration<Rep, Period> time,
                Predicate reached) SPILLWAY_NO_THREAD_SAFETY_ANALYSIS {
    return changed_.wait_for(lock.lock_, time, std::move(reached));
  }
  template <typename Clock, typename Duration>
  std::cv_status wait_until(MutexLock& lock, std::chrono::time_point<Clock, Duration> time) {
    return changed_.wait_until(lock.lock_, time);
  }
  template <typename Clock, typename Duration, typename Predicate>
  bool wait_until(MutexLock& lock, std::chrono::time_point<Clock, Duration> time,
                  Predicate reached) SPILLWAY_NO_THREAD_SAFETY_ANALYSIS {
    return changed_.wait_until(lock.lock_, time, std::move(reached));
  }
  void notify_one() noexcept { changed_.notify_one(); }
  void notify_all() noexcept { changed_.notify_all(); }

 private:
  std::condition_variable changed_;
};

}  // namespace spillway

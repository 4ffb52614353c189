// MISUSE fails with: writing variable 'count_' requires holding mutex 'mutex_'
#include <spillway/aio/mutex.h>

class Counter {
 public:
  void add() {
#ifndef MISUSE
    const spillway::MutexLock lock(mutex_);
#endif
    ++count_;
  }

 private:
  spillway::Mutex mutex_;
  int count_ SPILLWAY_GUARDED_BY(mutex_) = 0;
};

void use(Counter& counter) { counter.add(); }

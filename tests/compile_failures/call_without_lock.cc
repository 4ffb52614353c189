// MISUSE fails with: calling function 'add' requires holding mutex 'mutex_'
#include <spillway/aio/mutex.h>

class Counter {
 public:
  void add_one() {
    spillway::MutexLock lock(mutex_);
#ifdef MISUSE
    lock.unlock();
#endif
    add(1);
  }

 private:
  void add(int number) SPILLWAY_REQUIRES(mutex_) { count_ += number; }

  spillway::Mutex mutex_;
  int count_ SPILLWAY_GUARDED_BY(mutex_) = 0;
};

void use(Counter& counter) { counter.add_one(); }

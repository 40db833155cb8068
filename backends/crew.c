// A crew: threads that stay together while a network's kernels run one after the other, and share their loops.
//
// Each shared loop of a kernel asks TVM's pool to fork and join (`TVMBackendParallelLaunch`), whose threads give way to
// others (sched_yield) while they wait. A crew is gathered by one such fork around the whole network; its helpers
// then watch one word of memory for the next loop, so that a fork and join costs about as much as a cache line takes from core to
// core and back. The kernels stay as they are: they call the launcher through a variable that each library has, which this
// file points to `launch`. Threads that lead no crew are still served by TVM's pool.

#include <sched.h>
#include <stdint.h>

typedef struct {  // TVMParallelGroupEnv
  void* barriers;
  int32_t tasks;
} Group;
typedef int (*Task)(int number, Group* group, void* data);
typedef int (*Launcher)(Task task, void* data, int tasks);

// `word` is the number of loops so far, and of the tasks of the latest, in one: a helper that comes late, and has no task in it,
// must not mistake the next loop's for it.
typedef struct {
  _Alignas(128) uint64_t word;
  Task task;
  void* data;
  uint32_t expected;               // as many helpers as came the last time
  _Alignas(128) uint32_t helpers;  // that are watching
  _Alignas(128) uint32_t working;  // that have a task and are not done
  uint32_t failed;
} Crew;

enum { TASK_BITS = 16 };
static const uint64_t END = ~(uint64_t)0;
// Looks at a word before a thread gives way to others: some tens of microseconds, longer than most kernels.
enum { PATIENCE = 2000 };

extern Launcher __TVMBackendParallelLaunch;
static Launcher pool;
static _Thread_local Crew own;
static _Thread_local Crew* led;

static void wait_a_little(unsigned* turns) {
  if (++*turns > PATIENCE) {
    sched_yield();
  } else {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
  }
}

static int work(Crew* crew, int number, int tasks) {
  Group group = {0, tasks};
  return crew->task(number, &group, crew->data);
}

// The helpers that are there. The first loop of a network may be its longest, so it is worth waiting for them; not for long,
// as they may be at other work.
static uint32_t gathered(Crew* crew) {
  uint32_t helpers = __atomic_load_n(&crew->helpers, __ATOMIC_ACQUIRE);
  for (unsigned turns = 0; helpers < crew->expected && turns < PATIENCE;) {
    wait_a_little(&turns);
    helpers = __atomic_load_n(&crew->helpers, __ATOMIC_ACQUIRE);
  }
  crew->expected = helpers;
  return helpers;
}

// In TVM's place, on a thread that leads a crew: all helpers that have come so far take a task.
static int launch(Task task, void* data, int tasks) {
  Crew* crew = led;
  if (!crew) return __atomic_load_n(&pool, __ATOMIC_ACQUIRE)(task, data, tasks);
  uint32_t helpers = gathered(crew);
  uint64_t loops = crew->word >> TASK_BITS;
  crew->task = task;
  crew->data = data;
  __atomic_store_n(&crew->working, helpers, __ATOMIC_RELAXED);
  __atomic_store_n(&crew->word, (loops + 1) << TASK_BITS | (helpers + 1), __ATOMIC_RELEASE);
  int failed = work(crew, 0, helpers + 1);
  for (unsigned turns = 0; __atomic_load_n(&crew->working, __ATOMIC_ACQUIRE);) wait_a_little(&turns);
  return failed || __atomic_load_n(&crew->failed, __ATOMIC_RELAXED) ? -1 : 0;
}

// The calling thread's crew, empty; to be given to the threads that will be in it.
void* netwright_crew(void) {
  own.word = 0;
  own.expected = own.helpers;
  own.helpers = own.working = own.failed = 0;
  return &own;
}

// The calling thread shares the loops that it meets with the crew, from now until `netwright_crew_end`.
void netwright_crew_lead(void* crew) {
  Launcher now = __atomic_load_n(&__TVMBackendParallelLaunch, __ATOMIC_ACQUIRE);
  if (now != launch) {
    __atomic_store_n(&pool, now, __ATOMIC_RELEASE);
    __atomic_store_n(&__TVMBackendParallelLaunch, launch, __ATOMIC_RELEASE);
  }
  led = crew;
}

void netwright_crew_end(void* crew) {
  led = 0;
  __atomic_store_n(&((Crew*)crew)->word, END, __ATOMIC_RELEASE);
}

// The calling thread takes its tasks until the end.
void netwright_crew_help(void* given) {
  Crew* crew = given;
  uint64_t seen = __atomic_load_n(&crew->word, __ATOMIC_ACQUIRE);
  if (seen == END) return;
  uint32_t number = __atomic_add_fetch(&crew->helpers, 1, __ATOMIC_ACQ_REL);
  for (unsigned turns = 0; seen != END;) {
    uint64_t word = __atomic_load_n(&crew->word, __ATOMIC_ACQUIRE);
    uint32_t tasks = word & ((1 << TASK_BITS) - 1);
    if (word == seen) {
      wait_a_little(&turns);
    } else if (word != END && number < tasks) {
      if (work(crew, number, tasks)) __atomic_store_n(&crew->failed, 1, __ATOMIC_RELAXED);
      __atomic_sub_fetch(&crew->working, 1, __ATOMIC_RELEASE);
      turns = 0;
    }
    seen = word;
  }
}

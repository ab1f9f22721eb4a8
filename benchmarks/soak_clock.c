/* Sets the wall clock of one process and its children apart from the machine's: LD_PRELOAD of soak.py.
 * The file named by SOAK_CLOCK holds the seconds that are added, int64, and may change at any time. The monotonic clock
 * stays as it is, as when a clock is set.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

typedef int (*clock_call)(clockid_t, struct timespec*);

static const volatile int64_t* offset;
static clock_call real_clock;

__attribute__((constructor)) static void begin(void) {
  const char* path = getenv("SOAK_CLOCK");
  real_clock = (clock_call)dlsym(RTLD_NEXT, "clock_gettime");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void* mapped = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  if (mapped != MAP_FAILED) offset = mapped;
  close(file);
}

int clock_gettime(clockid_t clock, struct timespec* at) {
  if (!real_clock) real_clock = (clock_call)dlsym(RTLD_NEXT, "clock_gettime");
  int result = real_clock(clock, at);
  if (!result && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += *offset;
  return result;
}

int gettimeofday(struct timeval* restrict at, void* restrict zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t* at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}

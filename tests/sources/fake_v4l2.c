// A V4L2 camera made of a file, for tests: preloaded, it answers the ioctls on files called *.camera as a driver would.
//
// The file itself is the memory of the buffers. Beside X.camera lies X.camera.script; its lines are
//   driver NAME            format FOURCC WIDTH HEIGHT STRIDE (the first is the current one)
//   planes                 the driver knows the multi-planar interface only
//   metadata               a second node, which gives no pictures
//   frame FILE FLAGS USED AGE    a buffer: bytes of FILE; FLAGS are those of v4l2_buffer (hexadecimal); USED bytes, -1 =
//                          as many as FILE has; AGE in milliseconds, "-" = the driver has no clock, "=" = as the last one
//   hang                   no buffer comes any more
// and when the script ends the camera is unplugged. A frame comes 5 ms after it is waited for; after a line "burst" the
// next one is there at once.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SIZE (1 << 20)
#define LINES 512

static char path[PATH_MAX], lines[LINES][512];
static int count, next_line, device = -1, queue[16], queued, streaming, hung, planes, metadata, waited;

static const char *is_fake(int fd) {
  static char name[PATH_MAX];
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, name, sizeof name - 1);
  if (size < 7) return NULL;
  name[size] = 0;
  return strcmp(name + size - 7, ".camera") ? NULL : name;
}

static void load(int fd, const char *name) {
  char script[PATH_MAX + 8];
  snprintf(path, sizeof path, "%s", name);
  snprintf(script, sizeof script, "%s.script", name);
  device = fd;
  count = next_line = queued = streaming = hung = planes = metadata = waited = 0;
  FILE *file = fopen(script, "r");
  while (file && count < LINES && fgets(lines[count], sizeof lines[0], file)) {
    planes |= !strncmp(lines[count], "planes", 6);
    metadata |= !strncmp(lines[count], "metadata", 8);
    count++;
  }
  if (file) fclose(file);
}

static int format(int number, const char *wanted, struct v4l2_format *f, __u32 *code) {
  for (int i = 0; i < count; i++) {
    char four[8];
    unsigned w, h, stride;
    if (sscanf(lines[i], "format %7s %u %u %u", four, &w, &h, &stride) != 4) continue;
    if (wanted ? strncmp(four, wanted, 4) : number--) continue;
    *code = v4l2_fourcc(four[0], four[1], four[2], four[3]);
    if (f && planes) {
      f->fmt.pix_mp.width = w, f->fmt.pix_mp.height = h, f->fmt.pix_mp.pixelformat = *code;
      f->fmt.pix_mp.num_planes = 1, f->fmt.pix_mp.plane_fmt[0].bytesperline = stride;
    } else if (f) {
      f->fmt.pix.width = w, f->fmt.pix.height = h, f->fmt.pix.pixelformat = *code, f->fmt.pix.bytesperline = stride;
    }
    return 0;
  }
  return errno = EINVAL, -1;
}

static int dequeue(struct v4l2_buffer *b) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (!streaming || hung || !queued) return errno = EAGAIN, -1;
  int burst = 0;
  for (int i = next_line; i < count && strncmp(lines[i], "frame", 5); i++) burst |= !strncmp(lines[i], "burst", 5);
  if (!burst && !waited) return errno = EAGAIN, -1;
  waited = 0;
  while (next_line < count) {
    char file[256], full[PATH_MAX + 300], age[32];
    unsigned flags;
    long used;
    const char *line = lines[next_line++];
    if (!strncmp(line, "hang", 4)) return hung = 1, errno = EAGAIN, -1;
    if (sscanf(line, "frame %255s %x %ld %31s", file, &flags, &used, age) != 4) continue;
    snprintf(full, sizeof full, "%s", path);
    snprintf(strrchr(full, '/') + 1, 256, "%s", file);
    static char data[SIZE];
    FILE *source = fopen(full, "rb");
    size_t size = source ? fread(data, 1, SIZE, source) : 0;
    if (source) fclose(source);
    int index = queue[0];
    memmove(queue, queue + 1, sizeof(int) * --queued);
    if (pwrite(device, data, size, (off_t)index * SIZE) != (ssize_t)size) abort();
    static double stamp;
    if (strcmp(age, "=")) stamp = now.tv_sec + now.tv_nsec / 1e9 - atof(age) / 1e3;
    b->index = index, b->flags = flags | (strcmp(age, "-") ? V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC : 0);
    b->timestamp.tv_sec = (long)stamp, b->timestamp.tv_usec = (long)((stamp - (long)stamp) * 1e6);
    if (planes) b->m.planes[0].bytesused = used < 0 ? size : (size_t)used, b->m.planes[0].length = SIZE;
    else b->bytesused = used < 0 ? size : (size_t)used, b->length = SIZE;
    return 0;
  }
  return errno = ENODEV, -1;
}

static int answer(unsigned long request, void *argument) {
  __u32 code;
  switch (request) {
  case VIDIOC_QUERYCAP: {
    struct v4l2_capability *c = argument;
    memset(c, 0, sizeof *c);
    strcpy((char *)c->driver, "fake");
    for (int i = 0; i < count; i++) sscanf(lines[i], "driver %15[^\n]", (char *)c->driver);
    c->device_caps = metadata ? V4L2_CAP_META_CAPTURE : planes ? V4L2_CAP_VIDEO_CAPTURE_MPLANE : V4L2_CAP_VIDEO_CAPTURE;
    c->device_caps |= V4L2_CAP_STREAMING;
    c->capabilities = c->device_caps | V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_DEVICE_CAPS;
    return 0;
  }
  case VIDIOC_ENUM_FMT: {
    struct v4l2_fmtdesc *d = argument;
    int failed = format(d->index, NULL, NULL, &code);
    d->pixelformat = code;
    return failed;
  }
  case VIDIOC_S_FMT: {
    struct v4l2_format *f = argument;
    if (f->type != (planes ? V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE : V4L2_BUF_TYPE_VIDEO_CAPTURE)) return errno = EINVAL, -1;
    __u32 wanted = planes ? f->fmt.pix_mp.pixelformat : f->fmt.pix.pixelformat;
    char four[5] = {wanted, wanted >> 8, wanted >> 16, wanted >> 24, 0};
    return format(0, four, f, &code) && format(0, NULL, f, &code);
  }
  case VIDIOC_S_PARM: return 0;
  case VIDIOC_REQBUFS: {
    struct v4l2_requestbuffers *r = argument;
    return ftruncate(device, (off_t)r->count * SIZE);
  }
  case VIDIOC_QUERYBUF: {
    struct v4l2_buffer *b = argument;
    if (planes) b->m.planes[0].length = SIZE, b->m.planes[0].m.mem_offset = b->index * SIZE;
    else b->length = SIZE, b->m.offset = b->index * SIZE;
    return 0;
  }
  case VIDIOC_QBUF:
    queue[queued++] = ((struct v4l2_buffer *)argument)->index;
    return 0;
  case VIDIOC_STREAMON:
    streaming = 1;
    return 0;
  case VIDIOC_DQBUF: return dequeue(argument);
  }
  return errno = ENOTTY, -1;
}

int ioctl(int fd, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  void *argument = va_arg(list, void *);
  va_end(list);
  const char *name = (request >> 8 & 0xff) == 'V' ? is_fake(fd) : NULL;
  if (!name) {
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, argument);
  }
  request = (unsigned)request;
  if (request == VIDIOC_QUERYCAP) load(fd, name);
  return answer(request, argument);
}

int poll(struct pollfd *list, nfds_t size, int timeout) {
  int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");
  if (size == 1 && list[0].fd == device && streaming) {
    usleep(hung ? timeout * 1000 : 5000);
    waited = 1;
  }
  return real(list, size, timeout);
}

/* The JPEG quality sweep: what an image looks like after it was saved as a baseline JPEG at each of many qualities and
 * opened again. Byte for byte what libjpeg-turbo gives with its default, slow integer DCT (Pillow, OpenCV and most
 * others), but without writing or reading any JPEG: entropy coding loses nothing and is left out, and colour
 * conversion, chroma downsampling and the forward DCT, which don't depend on the quality, are done once.
 *
 * Each copy can be resized to what a network reads: Pillow's Image.resize((result_width, result_height), filter) of the
 * opened copy, byte for byte, along the rows first and then along the columns, each rounded to 8 bits (see scale.h).
 *
 * Uses the best vector instructions of the machine. All of them, and plain C++, give the same bytes. */
#ifndef FIREWALL_JPEG_SWEEP_H
#define FIREWALL_JPEG_SWEEP_H

#include "firewall/images.h"
#include "firewall/scale.h"
#include "firewall/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Chroma subsampling. With ..._GREY the source has one byte a pixel instead of three, and so has the result: what
 * follows says `channels` for 3, or 1 if grey. */
enum {
  FIREWALL_JPEG_444 = 0,
  FIREWALL_JPEG_422 = 1,
  FIREWALL_JPEG_420 = 2, /* what Pillow and most others do unless told otherwise */
  FIREWALL_JPEG_GREY = 3
};

/* What is written; height and width are those of the result. */
enum {
  FIREWALL_JPEG_UINT8 = 0,   /* count x qualities x height x width x channels bytes: pixels as they would be opened */
  FIREWALL_JPEG_FLOAT32 = 1, /* count x qualities x channels x height x width numbers, ready for a network: */
  FIREWALL_JPEG_FLOAT16 = 2  /*   value * scale + shift in float32, both operations rounded to the nearest, where
                              *   scale is 1 / (255 * std) and shift is -mean / std, computed in float64 and rounded to
                              *   float32: (value / 255 - mean) / std. FLOAT16 rounds the float32 number once more */
};

/* Which instructions compute it. BEST is right for everybody but tests. */
enum {
  FIREWALL_JPEG_BEST = 0,
  FIREWALL_JPEG_PORTABLE = 1, /* plain C++ */
  FIREWALL_JPEG_AVX2 = 2,     /* with F16C */
  FIREWALL_JPEG_AVX512 = 3,   /* F, BW, DQ and VL */
  FIREWALL_JPEG_NEON = 4,
  FIREWALL_JPEG_SSE4 = 5 /* SSSE3 and SSE4.1 */
};

/* At most this many threads. */
#define FIREWALL_JPEG_MAX_THREADS 64

typedef struct firewall_jpeg_options {
  int32_t sampling;     /* FIREWALL_JPEG_444, ..._422, ..._420 or ..._GREY */
  int32_t format;       /* FIREWALL_JPEG_UINT8, ..._FLOAT32 or ..._FLOAT16 */
  int32_t threads;      /* 1..FIREWALL_JPEG_MAX_THREADS. 1: the caller's own, and none is started. More pay from about a
                         * millisecond of work; they are started (which allocates) and joined within the call, and share
                         * the qualities of an image among them. The result doesn't depend on it */
  int32_t instructions; /* FIREWALL_JPEG_BEST, or others for tests */
  double mean[3];       /* not read for UINT8; the first alone if grey: finite */
  double std[3];        /* the same: finite, above 0 */
  int32_t result_height; /* of the copies that are written: both 1..FIREWALL_MAX_SIDE, or both 0: as the source */
  int32_t result_width;
  int32_t filter; /* FIREWALL_FILTER_BILINEAR or another of scale.h; not read if the copies aren't resized */
} firewall_jpeg_options;

/* 1 if this build and machine can run these instructions, else 0. Safe for any number. */
int firewall_jpeg_can_run(int32_t instructions);

/* Which instructions FIREWALL_JPEG_BEST is on this machine. */
int32_t firewall_jpeg_best(void);

/* Bytes of scratch for images of height x width, the same for any count and any qualities; about one (4:2:0) or two
 * (4:4:4) times an image of 3 bytes a pixel, and some rows for each thread: for resizing about 64 rows of the image
 * and, as wide as the result, 32 and as many as one row of the result is made of. 0 if a side is outside
 * 1..FIREWALL_MAX_SIDE or an option is not allowed. Safe for any numbers. */
size_t firewall_jpeg_sweep_scratch(int32_t height, int32_t width, const firewall_jpeg_options* options);

/* Bytes that firewall_jpeg_sweep writes for images of height x width; 0 if there are none, they don't fit a size_t, or
 * an argument is not allowed. Safe for any numbers. */
size_t firewall_jpeg_sweep_bytes(int32_t count, int32_t height, int32_t width, int32_t qualities_count,
                                 const firewall_jpeg_options* options);

/* destination       destination_size >= firewall_jpeg_sweep_bytes(...) bytes, aligned to its numbers, laid out as above
 * source            the images; safe for any pixel values. Three bytes a pixel, or one if grey (then images.h's
 *                   "3 * width" is width)
 * qualities         qualities_count >= 0 numbers 1..100, in any order, repeats allowed
 * scratch           scratch_size >= firewall_jpeg_sweep_scratch(...) bytes, any alignment, contents lost
 * Safe for any arguments whose pointers and sizes are true: checks everything before it writes. Returns FIREWALL_OK, or
 * another status with the destination untouched. */
int firewall_jpeg_sweep(void* destination, size_t destination_size, const firewall_images* source,
                        const int32_t* qualities, int32_t qualities_count, const firewall_jpeg_options* options,
                        void* scratch, size_t scratch_size);

#ifdef __cplusplus
}
#endif

#endif

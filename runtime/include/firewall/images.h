/* The source of an operation: RGB images of one size. */
#ifndef FIREWALL_IMAGES_H
#define FIREWALL_IMAGES_H

#include <stddef.h>
#include <stdint.h>

/* Each side of an image is at most this long; rotation counts positions in 16.16 fixed point. */
#define FIREWALL_MAX_SIDE 16384

/* `count` images of height x width pixels; a pixel is three bytes R, G, B, and the pixels of a row follow each other.
 * Image i, row y begins at data + i * image_stride + y * row_stride (bytes), so a region of a frame can be used where
 * it lies. Needed: count >= 0, height and width 1 to FIREWALL_MAX_SIDE, row_stride at least 3 * width, image_stride at
 * least height * row_stride where count > 1, data not null where count > 0. */
typedef struct firewall_images {
  const uint8_t* data;
  ptrdiff_t image_stride;
  ptrdiff_t row_stride;
  int32_t count;
  int32_t height;
  int32_t width;
} firewall_images;

#endif

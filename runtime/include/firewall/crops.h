/* Regions of a frame, brought to the size that a network reads, in one call and straight from the frame's memory.
 *
 * Each is defined by Pillow's crop, then Image.resize((width, its height), BILINEAR), then .resize((width, height),
 * BILINEAR), and byte for byte equal to that (antialiased where it shrinks). */
#ifndef FIREWALL_CROPS_H
#define FIREWALL_CROPS_H

#include "firewall/images.h"
#include "firewall/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Within the frame; both sides at least 1. */
typedef struct firewall_region {
  int32_t x;
  int32_t y;
  int32_t width;
  int32_t height;
} firewall_region;

/* Bytes of scratch for regions that are each no larger than region_height x region_width, and results of height x
 * width; 0 if a side is outside 1..FIREWALL_MAX_SIDE. */
size_t firewall_crops_scratch(int32_t region_height, int32_t region_width, int32_t height, int32_t width);

/* destination   count x height x width x 3 bytes, without gaps
 * frame         one image; safe for any pixel values
 * regions       count regions
 * scratch       scratch_size >= firewall_crops_scratch(largest height, largest width, height, width) bytes, any
 *               alignment, contents lost
 * Returns FIREWALL_OK, or another status with the destination untouched. */
int firewall_crops(uint8_t* destination, const firewall_images* frame, const firewall_region* regions, int32_t count,
                   int32_t height, int32_t width, void* scratch, size_t scratch_size);

#ifdef __cplusplus
}
#endif

#endif

/* The residual image of Sun et al.: image - up(down(image)), what an image loses when it is made smaller and enlarged
 * again. Small perturbations live there.
 *
 * Both steps are Pillow's Image.resize (see scale.h), and the result is exact: down to max(1, floor(side * share))
 * along both sides, each rounded to 8 bits, then up to the size of the image, then the difference in integers. */
#ifndef FIREWALL_RESIDUAL_H
#define FIREWALL_RESIDUAL_H

#include "firewall/images.h"
#include "firewall/scale.h"
#include "firewall/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of scratch for images of height x width; 0 if a side is outside 1..FIREWALL_MAX_SIDE. */
size_t firewall_residual_scratch(int32_t height, int32_t width);

/* destination   count x shares_count x height x width x 3 int16, without gaps, aligned to 2 bytes: -255..255
 * source        the images; safe for any pixel values
 * shares        shares_count shares of each side that are kept, 0 < share < 1. A share p of the pixels is a share
 *               sqrt(p) of each side
 * down, up      filters: one of FIREWALL_FILTER_...
 * scratch       scratch_size >= firewall_residual_scratch(height, width) bytes, any alignment, contents lost
 * Returns FIREWALL_OK, or another status with the destination untouched. */
int firewall_residual(int16_t* destination, const firewall_images* source, const double* shares, int32_t shares_count,
                      int down, int up, void* scratch, size_t scratch_size);

/* The same, coded in a byte: 128 + residual, cut to 0..255. Residuals beyond -128..127 are lost; they need a jump from
 * black to white within a few pixels. */
int firewall_residual_coded(uint8_t* destination, const firewall_images* source, const double* shares,
                            int32_t shares_count, int down, int up, void* scratch, size_t scratch_size);

#ifdef __cplusplus
}
#endif

#endif

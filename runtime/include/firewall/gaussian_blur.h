/* Gaussian blur of RGB images at many radii in one call.
 *
 * Defined by Pillow's ImageFilter.GaussianBlur(radius), and byte for byte equal to it: three box blurs along the rows,
 * then three along the columns. A box has a fractional radius, so that three of them have the standard deviation
 * `radius`; its weights are 8.24 fixed point, each of the six passes is rounded to nearest and stored in 8 bits, and
 * beyond a border the border pixel repeats. */
#ifndef FIREWALL_GAUSSIAN_BLUR_H
#define FIREWALL_GAUSSIAN_BLUR_H

#include "firewall/images.h"
#include "firewall/status.h"

#define FIREWALL_MAX_RADIUS 1000.0f

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of scratch for images of height x width; 0 if a side is outside 1..FIREWALL_MAX_SIDE. */
size_t firewall_gaussian_blur_scratch(int32_t height, int32_t width);

/* destination   count x radii_count x height x width x 3 bytes, without gaps
 * source        the images; safe for any pixel values
 * radii         radii_count standard deviations in pixels, 0 (a copy) to FIREWALL_MAX_RADIUS, finite
 * scratch       scratch_size >= firewall_gaussian_blur_scratch(height, width) bytes, any alignment, contents lost
 * Returns FIREWALL_OK, or another status with the destination untouched. */
int firewall_gaussian_blur(uint8_t* destination, const firewall_images* source, const float* radii, int32_t radii_count,
                           void* scratch, size_t scratch_size);

#ifdef __cplusplus
}
#endif

#endif

/* Scaling of RGB images by many factors in one call, the size of the image kept.
 *
 * Defined by Pillow's Image.resize((int(width * factor), int(height * factor)), filter), each side at least 1, and byte
 * for byte equal to it: what is larger than the image is cut to its centre, what is smaller stands in the centre of
 * a black image. So a network sees the object larger or smaller, and nothing is scaled back. Where the margins can't be
 * equal, the left and upper one is the smaller (width - scaled width divided by two, rounded towards the left and up).
 *
 * BOX, BILINEAR and BICUBIC (a = -0.5) are stretched when the image shrinks (antialiased), separable, rows first;
 * weights are integers of 2^-22, and each of the two passes is rounded to nearest and stored in 8 bits. */
#ifndef FIREWALL_SCALE_H
#define FIREWALL_SCALE_H

#include "firewall/images.h"
#include "firewall/status.h"

/* The numbers are Pillow's Image.Resampling. */
#define FIREWALL_FILTER_NEAREST 0
#define FIREWALL_FILTER_BILINEAR 2
#define FIREWALL_FILTER_BICUBIC 3
#define FIREWALL_FILTER_BOX 4

#define FIREWALL_MIN_FACTOR 0.1
#define FIREWALL_MAX_FACTOR 10.0

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of scratch for images of height x width; 0 if a side is outside 1..FIREWALL_MAX_SIDE. */
size_t firewall_scale_scratch(int32_t height, int32_t width);

/* destination   count x factors_count x height x width x 3 bytes, without gaps
 * source        the images; safe for any pixel values
 * factors       factors_count factors of both sides, FIREWALL_MIN_FACTOR to FIREWALL_MAX_FACTOR
 * filter        one of FIREWALL_FILTER_...
 * scratch       scratch_size >= firewall_scale_scratch(height, width) bytes, any alignment, contents lost
 * Returns FIREWALL_OK, or another status with the destination untouched. */
int firewall_scale(uint8_t* destination, const firewall_images* source, const double* factors, int32_t factors_count,
                   int filter, void* scratch, size_t scratch_size);

#ifdef __cplusplus
}
#endif

#endif

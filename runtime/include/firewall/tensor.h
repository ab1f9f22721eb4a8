/* Pixels as a network reads them: colours apart, and each number (value / 255 - mean) / std in float32.
 *
 * That is value * scale + shift, both operations rounded to the nearest, where scale is 1 / (255 * std) and shift is
 * -mean / std, computed in float64 and rounded to float32: the numbers that the JPEG sweep writes by itself
 * (FIREWALL_JPEG_FLOAT32). Every set of vector instructions gives the same. */
#ifndef FIREWALL_TENSOR_H
#define FIREWALL_TENSOR_H

#include "firewall/images.h"
#include "firewall/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* destination   count x 3 x height x width numbers, without gaps
 * source        the images; safe for any pixel values
 * mean, std     three numbers each, for R, G and B: finite, std above 0
 * Returns FIREWALL_OK, or another status with the destination untouched. Needs no scratch. */
int firewall_tensor(float* destination, const firewall_images* source, const double* mean, const double* std);

#ifdef __cplusplus
}
#endif

#endif
